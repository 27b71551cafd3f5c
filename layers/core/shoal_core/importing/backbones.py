"""An imported model as a backbone: its last layer is cut off, and what is left makes a vector of an image or a text.

The graph that is kept takes raw tensors (`image` uint8, or `tokens` int32) and answers `features` float32 [N, width],
so it is served as well, by the Open Inference Protocol. It is brought to an operator set that training knows, constants
and BatchNormalizations behind convolutions are folded, and it is divided into blocks.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper, version_converter

from shoal_core.data.backbones import FEATURES, Backbone, Block, Pooling
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import ImageInput, TextColumn
from shoal_core.errors import BadConfig, BadModel, BadNetwork, TooLarge
from shoal_core.graphs.builder import OPSET
from shoal_core.graphs.cutting import (
    constants_of,
    extract,
    inputs_read,
    needed_nodes,
    parts_of,
    size_of,
    trainable_initializers,
    without_initializers_as_inputs,
)
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.optimization import optimize_offline, run_once
from shoal_core.importing.describing import ModelDescription
from shoal_core.importing.limits import MB
from shoal_core.importing.verifying import VerifiedModel
from shoal_core.importing.wrapping import PREFIX, Wrapping

MAX_BACKBONE_BYTES = 128 * MB
"""Of one of 126 MB, the functions of training take 940 MB of their 1,769 MB at most."""
MAX_BLOCKS = 64
# What a head and its gradients can be written in; other graphs are converted.
_OPSETS = range(18, 23)
_MIXES_ROWS = b"DynamicQuantize"
# What may stand behind a classifier's last layer.
_BEHIND = frozenset(
    {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
)
_FLOATS = ("FP32", "FP64", "FP16")
_GROWTH = 1.1
_SAMPLES = 2
_SEED = 11
# Of the largest feature: what conversion and folding may move.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PreparedBackbone:
    """A backbone before it has a name and a version.

    Attributes:
        model: The graph's file.
        fields: Those of `Backbone` but name and version.
        chosen: What was decided, in words.
    """

    model: bytes
    fields: Mapping[str, Any]
    chosen: tuple[str, ...]

    def named(self, name: str, version: int) -> Backbone:
        """What is registered."""
        return Backbone(name=name, version=version, **self.fields)


def prepare_backbone(data: bytes, verified: VerifiedModel, description: ModelDescription) -> PreparedBackbone:
    """Make a backbone of a model.

    Args:
        data: The file, which has been verified in a process of its own.
        verified: What was found out about it.
        description: `backbone`, and `image` or `text`.

    Raises:
        BadConfig: The description doesn't fit, or names what isn't there.
        BadModel: It can't be converted, or its features aren't numbers of a fixed shape.
        TooLarge: Over the limit of a backbone.
    """
    _require_small(data)
    if description.image is None and description.text is None:
        raise BadConfig("A backbone takes images or texts, and nothing says how.", "Add --image SIZE, or `text`.")
    if verified.batch is not None:
        raise BadConfig(f"The backbone takes {verified.batch} samples a call, always.", "Export it with a free batch.")
    foreign = without_initializers_as_inputs(onnx.load_model_from_string(data))
    normalised = any(node.op_type == "BatchNormalization" for node in foreign.graph.node)
    work = _Preparation(Wrapping(compose.add_prefix(foreign, PREFIX), verified, description))
    model = work.model()
    _require_small(model)
    blocks = _blocks(onnx.load_model_from_string(model), work.samples)
    told = [f"blocks that can be fine-tuned: {len(blocks)}"]
    if normalised:
        told.append("BatchNormalization keeps the mean and variance of the file, also where its block is fine-tuned")
    fields = {
        "digest": hashlib.sha256(model).hexdigest(),
        "image": work.image,
        "text": work.text,
        "source": work.source,
        "pooling": work.pooling,
        "width": work.width,
        "blocks": blocks,
        "batch_norm": normalised,
        "mixes_rows": _MIXES_ROWS in model,
    }
    return PreparedBackbone(model, fields, (*work.chosen, *told))


def _require_small(data: bytes) -> None:
    if len(data) > MAX_BACKBONE_BYTES:
        raise TooLarge(
            f"The backbone has {len(data):,} bytes; {MAX_BACKBONE_BYTES:,} are allowed.", "Use a smaller network."
        )


class _Preparation:
    """The way of one foreign graph to a backbone's."""

    def __init__(self, wrapping: Wrapping) -> None:
        self._wrapping = wrapping
        self._wish = wrapping.description.backbone_wishes
        spec = wrapping.described_input()
        self.image: ImageInput | None = spec.get("image")
        table = spec.get("table")
        self.text: TextColumn | None = table.texts[0] if table else None
        self.samples = _samples(self.image, self.text)
        self.chosen: list[str] = []
        self.source = ""
        self.pooling: Pooling = "none"
        self.width = 0

    def model(self) -> bytes:
        """The backbone's file."""
        self._wrapping.assemble([])
        whole = without_initializers_as_inputs(self._wrapping.model)
        tensor = self._features(whole)
        self.source = tensor.removeprefix(PREFIX)
        part = extract(whole, list(whole.graph.input), _values(whole, [tensor]), "backbone")
        part = _known_opset(part, self.samples)
        self._pool(part, tensor, _run(part, self.samples)[tensor])
        self.chosen = [*self._wrapping.inferred, *self.chosen]
        return _folded(part, self.samples)

    def _features(self, whole: ModelProto) -> str:
        """The tensor whose values are the features."""
        if self._wish.features is not None:
            tensor = PREFIX + self._wish.features
            # Only what the trial has run, in a process of its own, is run here.
            answers = [PREFIX + each.name for each in self._wrapping.verified.outputs]
            made = [name for node in needed_nodes(whole.graph, answers) for name in node.output if name]
            if tensor not in made:
                near = difflib.get_close_matches(tensor, made, n=3, cutoff=0.3)
                shown = ", ".join(repr(name.removeprefix(PREFIX)) for name in near)
                raise BadConfig(
                    f"backbone.features: no output follows from a tensor {self._wish.features[:200]!r}.",
                    f"Near it are: {shown}." if near else "Leave it out, and the last layer is cut off.",
                )
            return tensor
        outputs = [each for each in self._wrapping.verified.outputs if each.datatype in _FLOATS]
        wanted = self._wrapping.description.output
        named = next((each.name for each in outputs if wanted in (None, each.name)), None)
        if named is None:
            raise BadConfig("The model has no output of floating-point numbers of that name.", "Name another `output`.")
        output = PREFIX + named
        before = _before_last_layer(whole, output)
        if before is None:
            self.chosen.append(f"features: output {named!r}; no last layer stands in front of it")
            return output
        tensor, operator = before
        what = f"the last layer ({operator}) in front of output {named!r} is cut off"
        self.chosen.append(f"features: tensor {tensor.removeprefix(PREFIX)!r}; {what}")
        return tensor

    def _pool(self, part: ModelProto, tensor: str, values: NDArray[Any]) -> None:
        """Append what makes a vector of a tensor, as `features`."""
        if values.dtype.kind != "f" or not np.isfinite(values).all() or values.shape[:1] != (_SAMPLES,):
            raise BadModel(
                f"Tensor {self.source!r} is {values.dtype} {list(values.shape)} for {_SAMPLES} samples: no features.",
                "Name another tensor as `backbone.features`.",
            )
        by_rank: dict[int, Pooling] = {2: "none", 3: "mean", 4: "mean"}
        wanted, usual = self._wish.pooling, by_rank.get(values.ndim)
        self.pooling = wanted or usual or "flatten"
        if wanted is None and self.pooling != "none":
            self.chosen.append(f"pooling: {self.pooling} of {list(values.shape[1:])}")
        if (self.pooling == "first" and values.ndim != 3) or (self.pooling in ("none", "mean") and usual is None):
            raise BadConfig(
                f"backbone.pooling: {self.pooling} means nothing for features of shape {list(values.shape[1:])}.",
                "Use flatten, or name another tensor.",
            )
        nodes, constants, last = _pooling(self.pooling, tensor, values.ndim, masked=self.text is not None)
        if values.dtype != np.float32:
            nodes.append(helper.make_node("Cast", [last], ["pool.float"], to=TensorProto.FLOAT))
            last = "pool.float"
        nodes.append(helper.make_node("Identity", [last], [FEATURES]))
        for node in nodes:
            node.name = node.output[0]
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        del part.graph.output[:], part.graph.value_info[:]
        part.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, None))
        found = _run(part, self.samples)[FEATURES]
        self.width = int(found.shape[1])
        del part.graph.output[:]
        part.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [BATCH, self.width]))


def _samples(image: ImageInput | None, text: TextColumn | None) -> Tensors:
    """Made-up samples; a text's second half is padding."""
    random = np.random.default_rng(_SEED)
    if image is not None:
        shape = (_SAMPLES, image.channels, image.height, image.width)
        return {"image": random.integers(0, 256, shape).astype(np.uint8)}
    if text is None:
        raise BadConfig("A backbone takes images or texts.")
    tokens = random.integers(2, text.cardinality, (_SAMPLES, text.length)).astype(np.int32)
    tokens[:, max(1, text.length // 2) :] = 0
    return {"tokens": tokens}


def _run(model: ModelProto, samples: Tensors) -> Tensors:
    """Outputs for the samples. Raises `BadModel` when it doesn't run."""
    try:
        return run_once(model.SerializeToString(), samples)
    except Exception as error:  # ONNX Runtime's errors have no common base
        told = " ".join(str(error).split())[:300]
        raise BadModel(f"The backbone doesn't run without its last layer: {told}", "Name another tensor.") from error


def _before_last_layer(whole: ModelProto, output: str) -> tuple[str, str] | None:
    """What a classifier's last layer reads, and that layer's operator; None where none is found."""
    producers = {name: node for node in whole.graph.node for name in node.output}
    constant = constants_of(whole.graph)
    name = output
    while name in producers:
        node = producers[name]
        varying = [each for each in node.input if each and each not in constant]
        if node.op_type in ("Gemm", "MatMul") and len(varying) == 1 and node.input[1] in constant:
            return varying[0], node.op_type
        if node.op_type not in _BEHIND and not (node.op_type == "Add" and len(varying) == 1):
            return None
        name = node.input[0] if node.op_type in _BEHIND else varying[0]
    return None


def _pooling(
    pooling: Pooling, tensor: str, rank: int, *, masked: bool
) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]], str]:
    """Nodes and constants that make a vector of a tensor, and the vector's name."""
    if pooling == "none" or (pooling == "mean" and rank == 2):
        return [], {}, tensor
    if pooling == "flatten":
        return [helper.make_node("Flatten", [tensor], ["pool.flat"], axis=1)], {}, "pool.flat"
    constants: dict[str, NDArray[Any]]
    if pooling == "first":
        constants = {"pool.first": np.array(0, np.int64)}
        return [helper.make_node("Gather", [tensor, "pool.first"], ["pool.row"], axis=1)], constants, "pool.row"
    if not (masked and rank == 3):
        constants = {"pool.axes": np.array([2, 3] if rank == 4 else [1], np.int64)}
        node = helper.make_node("ReduceMean", [tensor, "pool.axes"], ["pool.mean"], keepdims=0)
        return [node], constants, "pool.mean"
    # The mean of a text's tokens, padding left out.
    constants = {
        "pool.padding": np.array(0, np.int32),
        "pool.axis": np.array([1], np.int64),
        "pool.last": np.array([2], np.int64),
        "pool.one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("Greater", ["tokens", "pool.padding"], ["pool.there"]),
        helper.make_node("Cast", ["pool.there"], ["pool.mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["pool.mask", "pool.last"], ["pool.wide"]),
        helper.make_node("Cast", [tensor], ["pool.values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pool.values", "pool.wide"], ["pool.kept"]),
        helper.make_node("ReduceSum", ["pool.kept", "pool.axis"], ["pool.sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pool.mask", "pool.axis"], ["pool.counted"], keepdims=1),
        helper.make_node("Max", ["pool.counted", "pool.one"], ["pool.count"]),
        helper.make_node("Div", ["pool.sum", "pool.count"], ["pool.mean"]),
    ]
    return nodes, constants, "pool.mean"


def _known_opset(model: ModelProto, samples: Tensors) -> ModelProto:
    """The model in an operator set that training knows, answering the same. Raises `BadModel`."""
    (version,) = {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")}
    if version in _OPSETS:
        return model
    try:
        converted = version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors have no common base
        told = " ".join(str(error).split())[:300]
        raise BadModel(
            f"The backbone has operator set {version} and can't be converted to {OPSET}: {told}",
            f"Export it with opset {_OPSETS[0]} to {_OPSETS[-1]}.",
        ) from error
    if not _answers_alike(model, converted, samples):
        raise BadModel(
            f"The backbone has operator set {version} and answers otherwise when it is converted to {OPSET}.",
            f"Export it with opset {_OPSETS[0]} to {_OPSETS[-1]}.",
        )
    return converted


def _folded(model: ModelProto, samples: Tensors) -> bytes:
    """The file with constants folded, where that works and changes no answer."""
    data = bytes(model.SerializeToString(deterministic=True))
    try:
        folded = optimize_offline(data)
    except BadNetwork:
        return data
    # Weights that are kept small, as integers and a scale, would be four times as large.
    if len(folded) > _GROWTH * len(data):
        return data
    return folded if _answers_alike(model, onnx.load_model_from_string(folded), samples) else data


def _answers_alike(model: ModelProto, other: ModelProto, samples: Tensors) -> bool:
    (expected,), (answer,) = (list(_run(each, samples).values()) for each in (model, other))
    largest = float(np.abs(expected).max()) or 1.0
    return expected.shape == answer.shape and float(np.abs(expected - answer).max()) <= _TOLERANCE * largest


def _blocks(model: ModelProto, samples: Tensors) -> tuple[Block, ...]:
    """The parts of a backbone that can be fine-tuned, the last one first."""
    parts = parts_of(model, FEATURES)[:MAX_BLOCKS]
    shapes = _run(_telling(model, [part.start for part in parts]), samples)
    found: list[Block] = []
    behind: list[onnx.NodeProto] = []
    for part in parts:
        behind = [*part.nodes, *behind]
        values = shapes[part.start]
        free = {tensor.name: size_of(tensor) for tensor in trainable_initializers(behind, model.graph.initializer)}
        own = {name for node in part.nodes for name in node.input}
        numbers = sum(size for name, size in free.items() if name in own)
        if values.dtype != np.float32 or values.shape[:1] != (_SAMPLES,) or not numbers:
            break
        kept = tuple(value.name for value in inputs_read(model, FEATURES, {part.start}))
        shape = tuple(int(size) for size in values.shape[1:])
        found.append(Block(tensor=part.start, shape=shape, kept=kept, parameters=numbers, operators=part.operators))
    return tuple(found)


def _telling(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """The model with more outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(_values(model, tensors))
    return copy


def _values(model: ModelProto, tensors: Sequence[str]) -> list[onnx.ValueInfoProto]:
    """Tensors as outputs, of their element types and any shape."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    return [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in tensors]
