"""What a dataset version gives to a foreign network's inputs: the tensors that shards hold, made ready in front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from shoal_core.errors import BadNetwork
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.recipes import inputs as recipe_inputs
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature
from shoal_core.training.networks import inputs
from shoal_core.training.networks.inputs import Given, given_inputs

_ONE_HOT_ALWAYS = 2**63
_ELEMENT = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}
_CASTABLE = frozenset(
    {
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16),
        *(TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL),
    }
)


@dataclass(frozen=True)
class Fed:
    """A foreign network's inputs.

    Attributes:
        tensors: Input -> the tensor of the graph in the making that it is.
        notes: What had to be turned around.
    """

    tensors: dict[str, str]
    notes: tuple[str, ...]


def feed(network: Network, values: Sequence[onnx.ValueInfoProto], signature: NetworkSignature) -> Fed:
    """Declare a dataset version's tensors, and make of them what a network takes.

    Args:
        network: The graph in the making.
        values: The foreign network's inputs, initialisers left out.
        signature: What the dataset version holds.

    Raises:
        BadNetwork: An input has another shape, type or name than anything that there is.
    """
    feeder = _Feeder(network, signature)
    tensors = {value.name: feeder.fed(value, given) for value, given in _matched(values, signature)}
    feeder.declare_the_rest()
    return Fed(tensors, tuple(feeder.notes))


def _matched(
    values: Sequence[onnx.ValueInfoProto], signature: NetworkSignature
) -> list[tuple[onnx.ValueInfoProto, Given]]:
    """Which tensor each input takes: a single one the first that there is, several by their names."""
    there = given_inputs(signature)
    if not values:
        raise BadNetwork("The network has no input that its answer depends on.", "Export it with its input.")
    if len(values) == 1:
        parts = sum(part is not None for part in (signature.numbers, signature.categories))
        if signature.tokens is None or not parts:
            return [(values[0], there[0])]
    named = {given.name: given for given in there if given.name != inputs.ROWS}
    found = []
    for value in values:
        name = inputs.MASK if inputs.MASK in value.name and inputs.MASK in named else value.name
        if name not in named:
            raise BadNetwork(
                f"The network has {len(values)} inputs, of which {value.name[:100]!r} is none of this dataset's.",
                f"Call its inputs {' or '.join(named)}; the dataset gives {'; '.join(map(str, named.values()))}.",
            )
        found.append((value, named[name]))
    return found


class _Feeder:
    def __init__(self, network: Network, signature: NetworkSignature) -> None:
        self._network = network
        self._graph = network.graph
        self._signature = signature
        self._made: dict[str, str] = {}
        self.notes: list[str] = []

    def fed(self, value: onnx.ValueInfoProto, given: Given) -> str:
        """The tensor of an input, of the type and in the layout that the network takes."""
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type not in _CASTABLE:
            raise BadNetwork(f"Input {value.name[:100]!r} isn't a tensor of numbers.", f"It may take {given}.")
        tensor = self._laid_out(value, given)
        if kind.elem_type != self._graph.element_type(tensor):
            tensor = self._graph.emit("Cast", tensor, to=kind.elem_type)
        return tensor

    def declare_the_rest(self) -> None:
        """What the network leaves out is an input all the same: whoever asks the model gives all that a sample has."""
        signature = self._signature
        if signature.numbers is not None and not self._graph.has(recipe_inputs.NUMBERS):
            self._unused(recipe_inputs.NUMBERS, TensorProto.FLOAT, len(signature.numbers.mean))
        if signature.categories is not None and not self._graph.has(recipe_inputs.CATEGORIES):
            self._unused(recipe_inputs.CATEGORIES, TensorProto.INT64, len(signature.categories.cardinalities))
        if signature.tokens is not None and not self._graph.has(recipe_inputs.TOKENS):
            self._unused(recipe_inputs.TOKENS, TensorProto.INT32, signature.tokens.length)

    def _unused(self, name: str, element_type: int, width: int) -> None:
        self._graph.input(name, element_type, (BATCH, width))
        self.notes.append(f"The network has no input {name!r}: it learns nothing from the dataset's {name}.")

    def _laid_out(self, value: onnx.ValueInfoProto, given: Given) -> str:
        """The tensor as it is, images with their channels last, or all numbers of a sample in a row."""
        dims = value.type.tensor_type.shape.dim
        if not value.type.tensor_type.HasField("shape") or len(dims) < 2:
            raise BadNetwork(
                f"Input {value.name[:100]!r} of the network tells no shape of a sample.", f"This dataset gives {given}."
            )
        sizes = [int(dim.dim_value) if dim.HasField("dim_value") else None for dim in dims]
        wanted = sizes[1:]
        tensor = self._tensor(given)
        if _takes(wanted, given.shape):
            return tensor
        if given.name == inputs.IMAGE:
            channels, height, width = given.shape
            if _takes(wanted, (height, width, channels)):
                self.notes.append(f"Input {value.name!r} takes images with their channels last.")
                return self._graph.emit("Transpose", tensor, perm=[0, 2, 3, 1])
            if channels == 1 and _takes(wanted, (height, width)):
                return self._graph.reshape(tensor, (BATCH, height, width))
        if len(given.shape) > 1 and wanted == [math.prod(given.shape)]:
            self.notes.append(f"Input {value.name!r} takes all numbers of a sample in a row.")
            return self._graph.reshape(tensor, (BATCH, math.prod(given.shape)))
        shown = ", ".join("?" if size is None else str(size) for size in wanted)
        fix = "Build it with that input"
        if given.name == inputs.IMAGE:
            fix += ", or set image_size and image.color (grey, rgb) in dataset.yaml"
        raise BadNetwork(
            f"Input {value.name[:100]!r} of the network takes samples of shape [{shown}]; this dataset's are {given}.",
            f"{fix}. The first dimension is the batch.",
        )

    def _tensor(self, given: Given) -> str:
        if given.name not in self._made:
            self._made[given.name] = self._make(given.name)
        return self._made[given.name]

    def _make(self, name: str) -> str:
        network, signature = self._network, self._signature
        if name == inputs.IMAGE and signature.image is not None:
            return recipe_inputs.image_features(network, signature.image)
        if name == inputs.SEQUENCE and signature.sequence is not None:
            return recipe_inputs.sequence_features(network, signature.sequence, _ONE_HOT_ALWAYS)
        if name == inputs.NUMBERS and signature.numbers is not None:
            return recipe_inputs.joined(network, recipe_inputs.number_features(network, signature.numbers))
        if name == inputs.CATEGORIES and signature.categories is not None:
            return recipe_inputs.category_codes(network, signature.categories.cardinalities)
        if name in (inputs.TOKENS, inputs.MASK) and signature.tokens is not None:
            columns = recipe_inputs.texts(network, signature.tokens)
            self._made[inputs.TOKENS] = recipe_inputs.joined(network, [column.ids for column in columns])
            self._made[inputs.MASK] = recipe_inputs.joined(network, [column.mask for column in columns])
            return self._made[name]
        return recipe_inputs.joined(network, recipe_inputs.table_features(network, signature, _ONE_HOT_ALWAYS))


def _takes(wanted: Sequence[int | None], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(size in (None, own) for size, own in zip(wanted, shape, strict=True))
