"""A foreign network becomes a forward graph of Shoal's own kind: raw tensors in, logits or a prediction out.

What is trained stands as `param.<name>`, running statistics as `buffer.<name>`, as a recipe's do; so everything behind
a recipe (training steps, checkpoints, export, optimisation, serving) takes it as it takes those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, shape_inference

from shoal_core.errors import BadNetwork
from shoal_core.graphs.autodiff import require_rules
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.rules.rule import Node
from shoal_core.graphs.shapes import Dim, Shape
from shoal_core.graphs.signature import NetworkSignature
from shoal_core.importing.limits import Limits
from shoal_core.training.networks.answering import choose_answer, emit_answer
from shoal_core.training.networks.choosing import Roles, choose_roles, reached_by_gradient
from shoal_core.training.networks.config import LIMITS, NetworkConfig
from shoal_core.training.networks.feeding import feed
from shoal_core.training.networks.folding import Folder
from shoal_core.training.networks.reading import Foreign, read_network

_OWN = "own."
_UNCLEAN = re.compile(r"[^A-Za-z0-9_./:-]+")
_LONGEST_NAME = 160
# What an exported model calls its own tensors; a parameter's name stands beside them there.
_RESERVED = re.compile(r"(own|net|step|param|buffer|target|noise)\.|(image|numbers|categories|tokens|sequence)$|"
                       r"(logits|prediction|probabilities|value|target)$")  # fmt: skip


@dataclass(frozen=True)
class Adopted:
    """A network that can be trained, and what was decided on the way."""

    forward: ForwardGraph
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What shape inference tells of a tensor: its ONNX element type, and its shape where the rank is known."""

    element_type: int
    shape: Shape | None


def adopt_network(data: bytes, signature: NetworkSignature, config: NetworkConfig, limits: Limits = LIMITS) -> Adopted:
    """Fit a network to a dataset version.

    The same arguments give the same bytes. Nothing of the network is run but arithmetic on its constants.

    Args:
        data: One ONNX file.
        signature: What the dataset version gives and asks.
        config: What the user said.
        limits: What is allowed.

    Raises:
        BadNetwork: It isn't a valid network, or doesn't fit; names what it is.
        UnsupportedOperator: An operator without a gradient, by name, with those that have one.
        BadConfig: The user named what isn't there.
        TooLarge: Over a limit.
    """
    whole = read_network(data, limits)
    answer = choose_answer(whole, signature, config)
    foreign = whole.towards(answer.tensor)
    network = Network(seed=0, opset=foreign.opset)
    fed = feed(network, foreign.inputs, signature)
    known = infer(foreign, {name: network.graph.shape(tensor) for name, tensor in fed.tensors.items()})
    types = {name: tensor.element_type for name, tensor in known.items()}
    roles = choose_roles(foreign, answer.tensor, types, config)
    require_rules(_trained_path(foreign, answer.tensor, types, roles))
    inlined = _Inlining(network, foreign, roles, known, dict(fed.tensors))
    inlined.emit()
    output, reshaped = emit_answer(network, inlined.tensor(answer.tensor), signature)
    forward = ForwardGraph(
        model=_with_shapes(network, network.graph.build("forward"), output),
        parameters=tuple(inlined.initial),
        initial=inlined.initial,
        buffers=inlined.buffers,
        dropouts=tuple(inlined.dropouts),
    )
    notes = (*whole.notes, *fed.notes, *answer.notes, *reshaped, *roles.notes, *inlined.notes())
    return Adopted(forward, notes)


def infer(foreign: Foreign, inputs: Mapping[str, Shape]) -> dict[str, Known]:
    """What ONNX's shape inference tells of every tensor, from the inputs' shapes; the file isn't asked."""
    types = {value.name: value.type.tensor_type.elem_type for value in foreign.inputs}
    values = [helper.make_tensor_value_info(name, types[name], shape) for name, shape in inputs.items()]
    values += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in foreign.weights.items()
    ]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in foreign.constants.items()]
    graph = helper.make_graph(list(foreign.nodes), "network", values, [], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", foreign.opset)], ir_version=10)
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError) as error:
        raise BadNetwork(f"The network's shapes don't fit each other: {error}.", "Export it again.") from error
    return {
        value.name: Known(value.type.tensor_type.elem_type, _shape(value))
        for value in (*inferred.graph.value_info, *values)
    }


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """A shape in which every unknown size has a name of its own."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims: list[Dim] = []
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        named = str(dim.dim_param) or f"{_OWN}{value.name}[{axis}]"
        dims.append(int(dim.dim_value) if dim.HasField("dim_value") else named)
    return tuple(dims)


def _trained_path(foreign: Foreign, output: str, types: Mapping[str, int], roles: Roles) -> list[Node]:
    """The nodes that a gradient passes, in order."""
    reached = {place for place, _ in reached_by_gradient(foreign.nodes, output, types)}
    moved: set[str] = set()
    path = []
    for place, node in enumerate(foreign.nodes):
        reads = any((place, index) in roles.reads for index in range(len(node.input)))
        if place in reached and (reads or moved.intersection(node.input)):
            moved.update(node.output)
            path.append(Node.of(node))
    return path


class _Inlining:
    """Puts a foreign network's nodes behind what feeds it, under names that are nobody else's."""

    def __init__(
        self, network: Network, foreign: Foreign, roles: Roles, known: Mapping[str, Known], tensors: dict[str, str]
    ) -> None:
        self._network = network
        self._graph = network.graph
        self._foreign = foreign
        self._roles = roles
        self._known = known
        self._tensors = tensors
        self._folder = Folder(network.graph, foreign.opset)
        self.initial: dict[str, NDArray[Any]] = {}
        self.buffers: dict[str, NDArray[Any]] = {}
        self.dropouts: list[str] = []
        self._embedded = self._declared()

    def emit(self) -> None:
        """Emit every node."""
        for place, node in enumerate(self._foreign.nodes):
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [self._read(place, index, name) for index, name in enumerate(node.input)]
            copy.output[:] = [_OWN + name if name else "" for name in node.output]
            self._tensors.update((name, _OWN + name) for name in node.output if name)
            if node.op_type == "BatchNormalization":
                _as_served(copy)
            elif node.op_type == "Dropout":
                copy = self._dropout(copy)
            elif node.op_type == "CastLike":  # the example's values are nothing to differentiate by
                kind = self._graph.element_type(copy.input[1])
                copy = helper.make_node("Cast", [copy.input[0]], list(copy.output), name=node.name, to=kind)
            if not self._folder.folds(copy):
                self._graph.copy(copy, [self._folder.told(copy) or self._told(name) for name in node.output])

    def tensor(self, name: str) -> str:
        """What a foreign tensor is called here."""
        if name not in self._tensors:
            self._tensors[name] = self._constant(name)
        return self._tensors[name]

    def notes(self) -> tuple[str, ...]:
        """What was decided about nodes."""
        if not self.dropouts:
            return ()
        return (f"Dropout drops in training ({len(self.dropouts)}), and does nothing where the model answers.",)

    def _declared(self) -> dict[str, str]:
        """Parameter or buffer, by its name in `Roles` -> the graph's input."""
        declared = {}
        taken: set[str] = set()
        for name, source in self._roles.parameters.items():
            clean = _clean(name, taken)
            self.initial[clean] = np.ascontiguousarray(self._foreign.weights[source], np.float32)
            declared[name] = self._network.parameter(clean, self.initial[clean])
        for name, source in self._roles.buffers.items():
            clean = _clean(name, taken)
            self.buffers[clean] = np.ascontiguousarray(self._foreign.weights[source], np.float32)
            declared[name] = self._network.buffer(clean, self.buffers[clean])
        return declared

    def _read(self, place: int, index: int, name: str) -> str:
        embedded = self._roles.reads.get((place, index))
        if embedded is not None:
            return self._embedded[embedded]
        return self.tensor(name) if name else ""

    def _constant(self, name: str) -> str:
        array = self._foreign.weights.get(name, self._foreign.constants.get(name))
        if array is None:
            raise BadNetwork(f"Nothing in the network makes tensor {name[:100]!r}.", "Export it again.")
        if array.dtype.kind in "OSU":
            raise BadNetwork(f"Tensor {name[:100]!r} holds texts.", "Give the network numbers: token ids, codes.")
        return self._graph.constant(array, _OWN + name)

    def _dropout(self, node: NodeProto) -> NodeProto:
        """The same without its switch; one that drops is remembered by its output."""
        if len(node.output) > 1 and any(name[len(_OWN) :] in self._known_inputs() for name in node.output[1:] if name):
            raise BadNetwork(f"The mask of Dropout {node.name[:100]!r} is used.", "Export it for inference.")
        ratio = self._graph.value(node.input[1]) if len(node.input) > 1 and node.input[1] else np.asarray(0.5)
        if ratio is None or not 0 < float(ratio) < 1:
            return helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
        self.dropouts.append(str(node.output[0]))
        constant = self._graph.constant(np.asarray(ratio, np.float32))
        return helper.make_node("Dropout", [node.input[0], constant], [node.output[0]], name=node.name)

    def _known_inputs(self) -> frozenset[str]:
        return frozenset(name for node in self._foreign.nodes for name in node.input)

    def _told(self, name: str) -> Shape | None:
        known = self._known.get(name)
        return known.shape if known is not None else None


def _as_served(node: NodeProto) -> None:
    """A BatchNormalization as networks are served: by running statistics; how it trains is told by its buffers."""
    del node.output[1:]
    kept = [attribute for attribute in node.attribute if attribute.name in ("epsilon", "momentum")]
    del node.attribute[:]
    node.attribute.extend(kept)


def _clean(name: str, taken: set[str]) -> str:
    """A parameter's name as files may hold it, used by no other tensor."""
    clean = _UNCLEAN.sub("_", name)[:_LONGEST_NAME] or "tensor"
    if _RESERVED.match(clean):
        clean = f"weight.{clean}"
    unique, number = clean, 1
    while unique in taken:
        number += 1
        unique = f"{clean}.{number}"
    taken.add(unique)
    return unique


def _with_shapes(network: Network, model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """The model with all that is known of its tensors, which tracing it would have to find out again."""
    graph = network.graph
    names: Sequence[str] = [name for node in model.graph.node for name in node.output if name and name != output]
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, graph.element_type(name), graph.shape(name))
        for name in names
        if graph.has_rank(name)
    )
    return model
