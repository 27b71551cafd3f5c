"""Structured pruning: whole channels and neurons go, so that the runtime really has less to do.

Zeros that are scattered over a dense matrix cost ONNX Runtime as much as any other number, and make only a zipped file
smaller. Here a layer loses outputs, and the layer that reads them the inputs: both get smaller matrices. Which go is
decided by data: those whose variation moves the next layer least. What they give on average goes into that layer's
bias, so no training follows.

Sources: H. Li et al., "Pruning Filters for Efficient ConvNets", 2017; J.-H. Luo et al., "ThiNet", 2017 (channels are
chosen by the next layer's input).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import check

BLOCK = 8
"""Channels are kept in multiples of this: ONNX Runtime's convolutions work on blocks of as many (AVX2), or twice."""
_KEEPS_CHANNELS = frozenset(
    {
        "AveragePool", "Clip", "Dropout", "Elu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "MaxPool", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
    }
)  # fmt: skip
_VECTORS = frozenset({"Add", "Sub", "Mul", "Div"})
Batches = Iterable[Mapping[str, NDArray[Any]]]
Array = NDArray[Any]


@dataclass
class _Pair:
    """A layer, the layer that alone reads its outputs, and the vectors of one value per channel between them.

    `repeat` is how many inputs of the reader each channel becomes (a flattened picture), `shapes` are constants that
    tell how many those are together.
    """

    layer: onnx.NodeProto
    reader: onnx.NodeProto
    channels: int
    read: str
    repeat: int = 1
    vectors: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)


def prune(model: bytes, batches: Batches, share: float) -> bytes:
    """Remove a share of the channels of every layer that only one other layer reads.

    Args:
        model: One ONNX file in float32.
        batches: Real inputs, by name, to see what each channel does.
        share: Of each layer's channels, above 0 and below 1; the rest is rounded up to blocks of 8.

    Raises:
        BadNetwork: No layer of the model can lose a channel.
    """
    proto = onnx.load_from_string(model)
    del proto.graph.value_info[:]
    graph = _Graph(proto)
    pairs = [pair for pair in map(graph.pair, list(proto.graph.node)) if pair is not None]
    wanted = {id(pair): _kept_count(pair.channels, share) for pair in pairs}
    pairs = [pair for pair in pairs if wanted[id(pair)] < pair.channels]
    if not pairs:
        raise BadNetwork(f"No layer has channels that can go: layers keep blocks of {BLOCK}, and need one reader each.")
    axes = {pair.read: 1 if pair.reader.op_type == "Conv" else -1 for pair in pairs}
    seen = _activations(proto, axes, batches)
    kept = {id(pair): graph.choose(pair, seen[pair.read], wanted[id(pair)]) for pair in pairs}
    for pair in pairs:
        graph.fold(pair, seen[pair.read].mean, kept[id(pair)])
    for pair in pairs:
        graph.cut(pair, kept[id(pair)])
    graph.store()
    check(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _kept_count(channels: int, share: float) -> int:
    return min(channels, max(BLOCK, -(-round(channels * (1 - share)) // BLOCK) * BLOCK))


@dataclass
class _Seen:
    """Mean and variance of each input of a reader."""

    mean: Array
    variance: Array


class _Graph:
    """A graph's constants as arrays, and who reads what."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph = proto.graph
        self.arrays = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in proto.graph.initializer}
        self._outputs = {output.name for output in proto.graph.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def pair(self, layer: onnx.NodeProto) -> _Pair | None:
        """The pair that begins with a node; None where its channels can't be followed to one reader."""
        axis = self._output_axis(layer)
        if axis is None:
            return None
        channels = self.arrays[layer.input[1]].shape[axis]
        tensor, flat = layer.output[0], layer.op_type != "Conv"
        vectors: list[str] = []
        shapes: list[str] = []
        while True:
            readers = self._readers.get(tensor, [])
            if len(readers) != 1 or tensor in self._outputs:
                return None
            node = readers[0]
            if node.op_type in _KEEPS_CHANNELS:
                pass
            elif node.op_type in _VECTORS:
                other = [name for name in node.input if name != tensor]
                if len(other) != 1 or not self._is_vector(other[0], channels, flat):
                    return None
                vectors += other if self.arrays[other[0]].size > 1 else []
            elif node.op_type == "BatchNormalization" and all(self._mine(name) for name in node.input[1:]):
                vectors += list(node.input[1:])
            elif not flat and self._flattens(node):
                flat = True
                shapes += [name for name in node.input[1:] if self.arrays[name][1] > 0]
            else:
                axis = self._input_axis(node, tensor)
                inputs = self.arrays[node.input[1]].shape[axis] if axis is not None else 0
                if not inputs or inputs % channels:
                    return None
                return _Pair(layer, node, channels, tensor, inputs // channels, vectors, shapes)
            tensor = node.output[0]

    def choose(self, pair: _Pair, seen: _Seen, count: int) -> Array:
        """The channels to keep, in order: those whose variation moves the reader most."""
        weight = self._reader_weight(pair)
        moved = (weight.reshape(weight.shape[0], -1) ** 2).sum(axis=1)
        variance = seen.variance if len(seen.variance) == len(moved) else np.repeat(seen.variance, pair.repeat)
        score = (moved * variance).reshape(pair.channels, pair.repeat).sum(axis=1)
        # Equal scores go by position, so that the same model loses the same channels.
        best = np.lexsort((np.arange(pair.channels), -score))[:count]
        return np.sort(best)

    def fold(self, pair: _Pair, mean: Array, kept: Array) -> None:
        """Put what the lost channels give on average into the reader's bias, where it has one."""
        name = self._bias_of(pair.reader)
        if name is None:
            return
        weight = self._reader_weight(pair)
        means = np.repeat(mean, pair.repeat) if len(mean) == pair.channels else mean
        lost = np.ones(pair.channels, bool)
        lost[kept] = False
        sums = weight.reshape(weight.shape[0], weight.shape[1], -1).sum(axis=2)
        gone = np.repeat(lost, pair.repeat)
        bias = self.arrays[name]
        self.arrays[name] = (bias + (means[gone] @ sums[gone]).reshape(bias.shape)).astype(bias.dtype)

    def cut(self, pair: _Pair, kept: Array) -> None:
        """Take the lost channels out of the layer, what follows it, and the reader."""
        self._take(pair.layer.input[1], kept, _known(self._output_axis(pair.layer)))
        if pair.layer.op_type != "MatMul" and len(pair.layer.input) > 2:
            self._take(pair.layer.input[2], kept, self.arrays[pair.layer.input[2]].ndim - 1)
        for name in pair.vectors:
            array = self.arrays[name]
            self._take(name, kept, [size == pair.channels for size in array.shape].index(True))
        inputs = (kept[:, None] * pair.repeat + np.arange(pair.repeat)).reshape(-1)
        for name in pair.shapes:
            self.arrays[name][1] = len(inputs)
        self._take(pair.reader.input[1], inputs, _known(self._input_axis(pair.reader, pair.read)))

    def store(self) -> None:
        """Write the arrays back into the graph."""
        for tensor in self._graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(self.arrays[tensor.name], order="C"), tensor.name))

    def _take(self, name: str, indices: Array, axis: int) -> None:
        self.arrays[name] = np.take(self.arrays[name], indices, axis)

    def _mine(self, name: str) -> bool:
        """Whether a constant is read once."""
        return name in self.arrays and len(self._readers[name]) == 1

    def _output_axis(self, node: onnx.NodeProto) -> int | None:
        """Which axis of a layer's weight is its outputs; None where it can't be cut."""
        if node.op_type not in ("Conv", "Gemm", "MatMul") or not all(self._mine(name) for name in node.input[1:]):
            return None
        if node.op_type == "Conv":
            return 0 if _attribute(node, "group", 1) == 1 else None
        if self.arrays[node.input[1]].ndim != 2:
            return None
        return 0 if node.op_type == "Gemm" and _attribute(node, "transB", 0) else 1

    def _input_axis(self, node: onnx.NodeProto, tensor: str) -> int | None:
        """Which axis of a reader's weight is its inputs; None where it can't be cut."""
        outputs = self._output_axis(node)
        first = node.input[0] == tensor and not (node.op_type == "Gemm" and _attribute(node, "transA", 0))
        return None if outputs is None or not first else 1 - outputs

    def _reader_weight(self, pair: _Pair) -> Array:
        """The reader's weight as [inputs, outputs, ...]."""
        axis = _known(self._input_axis(pair.reader, pair.read))
        return np.moveaxis(self.arrays[pair.reader.input[1]].astype(np.float64), axis, 0)

    def _bias_of(self, node: onnx.NodeProto) -> str | None:
        if node.op_type != "MatMul":
            return node.input[2] if len(node.input) > 2 else None
        readers = self._readers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        (other,) = [name for name in readers[0].input if name != node.output[0]] or [""]
        outputs = self.arrays[node.input[1]].shape[1]
        return other if self._mine(other) and self.arrays[other].size == outputs else None

    def _is_vector(self, name: str, channels: int, flat: bool) -> bool:
        """Whether a constant holds one value per channel, or one for all."""
        if name not in self.arrays:
            return False
        shape = self.arrays[name].shape
        if self.arrays[name].size == 1:
            return True
        place = -1 if flat else -3
        right = len(shape) >= -place and shape[place] == channels and self.arrays[name].size == channels
        return right and self._mine(name)

    def _flattens(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Flatten":
            return bool(_attribute(node, "axis", 1) == 1)
        if node.op_type != "Reshape" or node.input[1] not in self.arrays:
            return False
        shape = self.arrays[node.input[1]].tolist()
        return len(shape) == 2 and shape[0] in (0, -1) and (shape[1] == -1 or self._mine(node.input[1]))


def _known(axis: int | None) -> int:
    """The axis of a node that was found to have one."""
    if axis is None:
        raise BadNetwork("A layer of the model can't be cut.")
    return axis


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _activations(proto: onnx.ModelProto, axes: Mapping[str, int], batches: Batches) -> dict[str, _Seen]:
    """Mean and variance of tensors over real inputs, along the axis that each one's reader multiplies."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    wanted = list(axes)
    have = {output.name for output in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in have)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        asked = [value.name for value in session.get_inputs()]
        sums = {name: (0, np.zeros(1), np.zeros(1)) for name in wanted}
        for batch in batches:
            found = session.run(wanted, {name: batch[name] for name in asked})
            for name, value in zip(wanted, found, strict=True):
                count, total, squares = sums[name]
                rows = np.moveaxis(value.astype(np.float64), axes[name], -1)
                rows = rows.reshape(-1, rows.shape[-1])
                sums[name] = (count + len(rows), total + rows.sum(axis=0), squares + (rows * rows).sum(axis=0))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BadNetwork(f"The model's layers can't be looked at: {str(error)[:300]}.") from error
    means = {name: total / max(1, count) for name, (count, total, _) in sums.items()}
    return {
        name: _Seen(means[name], np.maximum(0, squares / max(1, count) - means[name] ** 2))
        for name, (count, _, squares) in sums.items()
    }
