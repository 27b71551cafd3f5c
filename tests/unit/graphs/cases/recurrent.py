"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx import helper

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.shapes import Shape
from tests.unit.graphs.cases.case import Case


def recurrent(operator: str, output: int = 0, **attributes: Any) -> Callable[..., str]:
    """One of the outputs Y, Y_h and Y_c; the operands are X, W, R, B and the first states."""

    def build(g: GraphBuilder, x: str, w: str, r: str, *rest: str) -> str:
        bias, states = rest[:1], rest[1:]
        inputs = [x, w, r, *bias, *(["", *states] if states else [])]
        outputs = [g.new_output("y") if index == output else "" for index in range(output + 1)]
        g.copy(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[output]

    return build


def recurrent_shapes(gates: int, directions: int = 1, states: int = 0, bias: bool = True) -> tuple[Shape, ...]:
    """Operands of a recurrent operator with 3 inputs and 2 units, over 4 steps."""
    shapes: list[Shape] = [(4, "N", 3), (directions, 2 * gates, 3), (directions, 2 * gates, 2)]
    shapes += [(directions, 4 * gates)] if bias else []
    return (*shapes, *[(directions, "N", 2)] * states)


CASES = [
    Case("lstm", recurrent_shapes(4, states=2), recurrent("LSTM", hidden_size=2), single=True),
    Case("lstm_plain", recurrent_shapes(4, bias=False), recurrent("LSTM", hidden_size=2), single=True),
    Case(
        "lstm_both",
        recurrent_shapes(4, 2, states=2),
        recurrent("LSTM", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
    Case("lstm_last", recurrent_shapes(4), recurrent("LSTM", 1, hidden_size=2), single=True),
    Case(
        "lstm_cell_reverse",
        recurrent_shapes(4, states=2),
        recurrent("LSTM", 2, hidden_size=2, direction="reverse"),
        single=True,
    ),
    Case("gru", recurrent_shapes(3, states=1), recurrent("GRU", hidden_size=2), single=True),
    Case("gru_plain", recurrent_shapes(3, bias=False), recurrent("GRU", hidden_size=2), single=True),
    Case(
        "gru_both",
        recurrent_shapes(3, 2, states=1),
        recurrent("GRU", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
    Case(
        "gru_after", recurrent_shapes(3, states=1), recurrent("GRU", hidden_size=2, linear_before_reset=1), single=True
    ),
    Case(
        "gru_after_both",
        recurrent_shapes(3, 2),
        recurrent("GRU", hidden_size=2, linear_before_reset=1, direction="bidirectional"),
        single=True,
    ),
    Case("gru_last", recurrent_shapes(3), recurrent("GRU", 1, hidden_size=2, linear_before_reset=1), single=True),
    Case(
        "rnn_both",
        recurrent_shapes(1, 2, states=1),
        recurrent("RNN", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
]
