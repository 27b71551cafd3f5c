"""Loops over the first axis."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.loops import loop


@pytest.mark.parametrize("turns", [3, "T"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_loop_goes_over_the_first_axis(turns, backwards):
    graph = GraphBuilder()
    graph.input("start", TensorProto.FLOAT, ("N",))
    graph.input("parts", TensorProto.FLOAT, (turns, "N"))
    graph.input("factor", TensorProto.FLOAT, ())

    def turn(inner, carried, parts):
        # The factor is read from outside; a result may be the carried tensor, or a part as it came.
        total = inner.emit("Add", inner.emit("Mul", carried[0], "factor"), parts[0])
        return [total], [total, parts[0]]

    carried, results = loop(graph, turn, ["start"], ["parts"], backwards)
    assert [graph.shape(name) for name in (*carried, *results)] == [("N",), (turns, "N"), (turns, "N")]
    for name in (*carried, *results):
        graph.output(name)
    model = graph.build("loop")
    count = turns if isinstance(turns, int) else 4
    parts = np.random.default_rng(0).integers(-3, 4, (count, 2)).astype(np.float32)
    feeds = {"start": np.float32([1, 1]), "parts": parts, "factor": np.array(-1, np.float32)}
    last, totals, same = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    state, expected = np.float32([1, 1]), {}
    for number in sorted(range(count), reverse=backwards):
        expected[number] = state = -state + parts[number]
    np.testing.assert_array_equal(last, state)
    np.testing.assert_array_equal(totals, [expected[number] for number in range(count)])
    np.testing.assert_array_equal(same, parts)
