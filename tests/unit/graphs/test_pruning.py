"""Pruned models: smaller matrices, idle channels cost nothing, the same bytes twice; what can't be is said."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.optimization import largest_difference
from shoal_core.graphs.pruning import BLOCK, prune

SEED = 3
RANDOM = np.random.default_rng(SEED)
PICTURES = [{"x": RANDOM.normal(size=(16, 2, 8, 8)).astype(np.float32)} for _ in range(2)]
ROWS = [{"x": RANDOM.normal(size=(32, 6)).astype(np.float32)} for _ in range(2)]


def graph(nodes, arrays, shape, outputs):
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def convolutions(dead=0, channels=16):
    """Two convolutions, a pool, a flattening, two dense layers; the first convolution has `dead` constant channels."""
    random = np.random.default_rng(SEED)
    first = random.normal(size=(channels, 2, 3, 3))
    first[:dead] = 0
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["m3"]),
        helper.make_node("Add", ["m3", "b3"], ["a3"]),
        helper.make_node("Relu", ["a3"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["y"], transB=1),
    ]
    arrays = {
        "w1": first, "b1": random.normal(size=channels), "w2": random.normal(size=(24, channels, 3, 3)) / 10,
        "b2": random.normal(size=24), "w3": random.normal(size=(24 * 9, 32)) / 10, "b3": random.normal(size=32),
        "w4": random.normal(size=(5, 32)), "b4": random.normal(size=5),
    }  # fmt: skip
    return graph(nodes, arrays, [2, 8, 8], ["N", 5])


def dense(dead=0, width=16):
    random = np.random.default_rng(SEED)
    first = random.normal(size=(6, width))
    first[:, :dead] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Add", ["m", "b1"], ["a"]),
        helper.make_node("Tanh", ["a"], ["t"]),
        helper.make_node("Gemm", ["t", "w2", "b2"], ["y"]),
    ]
    arrays = {"w1": first, "b1": random.normal(size=width)}
    arrays |= {"w2": random.normal(size=(width, 3)), "b2": np.zeros(3)}
    return graph(nodes, arrays, [6], ["N", 3])


def shapes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in onnx.load_from_string(model).graph.initializer}


def test_every_layer_but_the_last_gets_smaller():
    source = convolutions().SerializeToString()
    found = shapes(prune(source, PICTURES, 0.5))
    assert found["w1"] == (8, 2, 3, 3) and found["b1"] == (8,)
    assert found["w2"] == (16, 8, 3, 3) and found["b2"] == (16,)
    assert found["w3"] == (16 * 9, 16) and found["b3"] == (16,)
    assert found["w4"] == (5, 16) and found["b4"] == (5,)
    assert len(prune(source, PICTURES, 0.5)) < 0.5 * len(source)


@pytest.mark.parametrize("shape", [[0, 216], [-1, 216], [0, -1]])
def test_a_picture_may_be_flattened_by_a_shape(shape):
    source = convolutions()
    source.graph.node[5].CopyFrom(helper.make_node("Reshape", ["p2", "shape"], ["f"]))
    source.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    pruned = prune(source.SerializeToString(), PICTURES, 0.5)
    assert shapes(pruned)["w3"] == (16 * 9, 16)
    assert onnxruntime.InferenceSession(pruned).run(None, PICTURES[0])[0].shape == (16, 5)


def test_the_same_model_loses_the_same_channels_and_runs_at_any_batch():
    source = convolutions().SerializeToString()
    pruned = prune(source, PICTURES, 0.5)
    assert pruned == prune(source, PICTURES, 0.5)
    session = onnxruntime.InferenceSession(pruned)
    for samples in (1, 7):
        assert session.run(None, {"x": np.zeros((samples, 2, 8, 8), np.float32)})[0].shape == (samples, 5)


def test_neurons_that_never_change_are_the_ones_that_go_and_nothing_changes():
    source = dense(dead=8).SerializeToString()
    pruned = prune(source, ROWS, 0.5)
    assert shapes(pruned)["w1"] == (6, 8)
    assert largest_difference(source, pruned, ROWS[0]) < 1e-5


def test_channels_that_never_change_cost_only_what_padding_hides():
    source = convolutions(dead=8)
    # Only the first layer may lose channels, and those that do nothing are exactly half of it.
    del source.graph.node[4:]
    source.graph.node[3].output[0] = "y"
    for name in ("w3", "b3", "w4", "b4"):
        (tensor,) = [tensor for tensor in source.graph.initializer if tensor.name == name]
        source.graph.initializer.remove(tensor)
    source.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 24, 6, 6]))
    model = source.SerializeToString()
    assert largest_difference(model, prune(model, PICTURES, 0.5), PICTURES[0]) < 1e-4


@pytest.mark.parametrize("share", [0.25, 0.375, 0.5])
def test_less_is_lost_than_by_cutting_the_first_channels(share):
    source = dense(width=32)
    model = source.SerializeToString()
    pruned = prune(model, ROWS, share)
    kept = shapes(pruned)["w1"][1]
    assert kept % BLOCK == 0 and kept >= 32 * (1 - share)
    blunt = onnx.ModelProto()
    blunt.CopyFrom(source)
    for tensor in blunt.graph.initializer:
        array = numpy_helper.to_array(tensor)
        axis = {"w1": 1, "b1": 0, "w2": 0}.get(tensor.name)
        if axis is not None:
            tensor.CopyFrom(numpy_helper.from_array(np.take(array, np.arange(kept), axis), tensor.name))
    assert largest_difference(model, pruned, ROWS[0]) < largest_difference(model, blunt.SerializeToString(), ROWS[0])


def test_convolutions_over_steps_lose_channels_too():
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["y"]),
    ]
    first = RANDOM.normal(size=(16, 6, 3))
    first[:8] = 0
    arrays = {"w1": first, "b1": np.zeros(16), "w2": RANDOM.normal(size=(4, 16, 1)), "b2": RANDOM.normal(size=4)}
    model = graph(nodes, arrays, [6, 9], ["N", 4, 9])
    batches = [{"x": RANDOM.normal(size=(20, 6, 9)).astype(np.float32)}]
    data = model.SerializeToString()
    smaller = prune(data, batches, 0.5)
    assert onnx.load_from_string(smaller).graph.initializer[0].dims[0] == 8
    found = [onnxruntime.InferenceSession(each).run(None, batches[0])[0] for each in (data, smaller)]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_what_cant_be_followed_stays():
    narrow = dense(width=BLOCK).SerializeToString()
    with pytest.raises(BadNetwork, match="No layer has channels"):
        prune(narrow, ROWS, 0.5)
    residual = dense(width=16)
    residual.graph.node[2].output[0] = "inner"
    residual.graph.node.insert(3, helper.make_node("Add", ["inner", "a"], ["t"]))
    with pytest.raises(BadNetwork, match="one reader"):
        prune(residual.SerializeToString(), ROWS, 0.5)
    shared = dense(width=16)
    shared.graph.output.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N", 16]))
    with pytest.raises(BadNetwork, match="No layer"):
        prune(shared.SerializeToString(), ROWS, 0.5)
    grouped = convolutions()
    grouped.graph.node[0].attribute.append(helper.make_attribute("group", 2))
    for tensor in grouped.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :1], "w1"))
    assert shapes(prune(grouped.SerializeToString(), PICTURES, 0.5))["w1"] == (16, 1, 3, 3)


def test_samples_of_another_shape_are_refused():
    with pytest.raises(BadNetwork, match="can't be looked at"):
        prune(dense(width=16).SerializeToString(), [{"x": np.zeros((4, 7), np.float32)}], 0.5)


def test_constants_without_dimensions_stay_so():
    """A column of a table is gathered by a number, which takes its axis away."""
    model = dense(dead=8)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.int64), "column"))
    model.graph.node.append(helper.make_node("Gather", ["y", "column"], ["z"], axis=1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N"]))
    pruned = onnx.load_from_string(prune(model.SerializeToString(), ROWS, 0.5))
    assert next(tensor for tensor in pruned.graph.initializer if tensor.name == "column").dims == []
