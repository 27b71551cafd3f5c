"""How much work a network is, from its shapes alone: what its rounds are planned by."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from shoal_core.graphs.builder import shape_of_value
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.shapes import Shape

# Of a slow CPU at one thread, per second; a step goes forward once and back twice.
_MULTIPLICATIONS = 4e9
_PASSES = 3
# What it takes to read and write one number, in multiplications.
_PER_NUMBER = 20
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def seconds_per_sample(forward: ForwardGraph) -> float:
    """What a training step takes per sample, about, to three significant digits."""
    graph = forward.model.graph
    shapes = {value.name: shape_of_value(value) or () for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total = sum(_multiplications(node, shapes) for node in graph.node)
    return float(f"{_PASSES * total / _MULTIPLICATIONS:.3g}")


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Of one node for one sample; a size that isn't known counts as 1."""
    ins = [shapes.get(name, ()) for name in node.input]
    out = shapes.get(node.output[0], ()) if node.output[0] else ()
    moved = _PER_NUMBER * _size(out)
    if node.op_type in ("Conv", "ConvTranspose") and len(ins) > 1:
        places = out if node.op_type == "Conv" else ins[0]
        return moved + _size(ins[1]) * _size(places[2:])
    if node.op_type in ("MatMul", "Gemm") and len(ins) > 1:
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        inner = ins[0][-1:] if node.op_type == "MatMul" else ins[1][int(turned) :][:1]
        return moved + _size(out) * _size(inner)
    if node.op_type in _RECURRENT and len(ins) > 2:
        return moved + (_size(ins[1]) + _size(ins[2])) * _size(ins[0][:1])
    return moved


def _size(shape: Shape) -> int:
    size = 1
    for dim in shape:
        size *= dim if isinstance(dim, int) else 1
    return size
