"""Dropout as it trains: what is kept follows from an input, so the same step drops the same wherever it runs."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from shoal_core.errors import UnsupportedOperator
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import NOISE
from shoal_core.graphs.rules.rule import Node


def emit_dropped(graph: GraphBuilder, node: Node) -> Node:
    """Emit a Dropout as it trains: what its input `noise.<output>` leaves, times 1 / (1 - ratio).

    Raises:
        UnsupportedOperator: if the ratio is only known at run time.
    """
    x, y = node.inputs[0], node.outputs[0]
    ratio = graph.value(node.inputs[1]) if node.has_input(1) else None
    if ratio is None:
        reason = f"Dropout {node.name!r} has a ratio that is only known at run time."
        raise UnsupportedOperator(reason, "Make it a constant.")
    noise = graph.input(NOISE + y, TensorProto.FLOAT, graph.shape(x))
    kept = graph.emit("GreaterOrEqual", noise, graph.constant(np.asarray(ratio, np.float32)))
    scale = graph.scalar(1 / (1 - float(ratio)), x)
    factor = graph.emit("Mul", graph.emit("Cast", kept, to=graph.element_type(x)), scale)
    graph.emit("Mul", x, factor, output=y)
    return Node("Mul", node.name, (x, factor), (y,), {})
