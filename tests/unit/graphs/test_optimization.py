import tempfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from shoal_core.errors import BadNetwork, FidelityLost
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.export import export_model
from shoal_core.graphs.optimization import largest_difference, optimize_offline
from shoal_core.graphs.training_step import forward_with_parameters
from tests.unit.graphs.networks import IMAGES, NETWORK_IDS, NETWORKS, REGRESSION, batch, load, run, small


def exported(recipe, signature):
    forward = small(recipe, signature)
    task = signature.task.kind
    graph = forward_with_parameters(forward).SerializeToString()
    classes = ["a", "b", "c", "d"][: signature.outputs] if task != "regression" else None
    return export_model(graph, forward.initial, task, classes, buffers=forward.buffers)


def shift(amount, axis=None):
    """x [N, 2] + amount, summed over an axis if there is one."""
    graph = GraphBuilder()
    graph.input("x", TensorProto.FLOAT, ("N", 2))
    y = graph.emit("Add", "x", graph.scalar(amount, "x"))
    if axis is not None:
        y = graph.emit("ReduceSum", y, graph.integers(axis), keepdims=0)
    graph.output(graph.emit("Identity", y, output="y"))
    return graph.build("shift").SerializeToString()


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_optimised_model_answers_the_same_with_standard_operators(recipe, signature):
    source = exported(recipe, signature)
    optimized = optimize_offline(source)
    data = batch(signature, 4)
    data.pop("target")
    assert largest_difference(source, optimized, data) < 1e-6
    model, original = onnx.load_from_string(optimized), onnx.load_from_string(source)
    assert {node.domain for node in model.graph.node} == {""}
    assert [item.domain for item in model.opset_import] == [""]
    assert len(model.graph.node) <= len(original.graph.node)
    assert list(model.metadata_props) == list(original.metadata_props)
    assert list(model.graph.input) == list(original.graph.input)
    assert not model.graph.value_info
    assert run(load(optimized), batch(signature, 1)).keys() == run(load(source), batch(signature, 1)).keys()


def test_same_model_same_bytes_and_no_file_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = exported("cnn", IMAGES)
    assert optimize_offline(source) == optimize_offline(source)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_isnt_a_model_is_refused():
    with pytest.raises(BadNetwork, match="can't load"):
        optimize_offline(b"nonsense")


def test_largest_difference():
    x = {"x": np.zeros((3, 2), dtype=np.float32)}
    assert largest_difference(shift(1), shift(1), x) == 0
    assert largest_difference(shift(1), shift(1.5), x) == 0.5
    assert largest_difference(shift(1), shift(float("nan")), x) == float("inf")
    with pytest.raises(FidelityLost):
        largest_difference(shift(1), shift(1, axis=1), x)


def test_regression_model_can_be_optimised_twice():
    once = optimize_offline(exported("mlp", REGRESSION))
    assert largest_difference(once, optimize_offline(once), batch(REGRESSION, 2)) == 0
