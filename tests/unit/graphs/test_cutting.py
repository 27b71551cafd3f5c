import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.cutting import (
    constants_of,
    extract,
    inputs_read,
    needed_nodes,
    parts_of,
    rename,
    trainable_initializers,
)
from shoal_core.training.sessions import Session
from tests.support.backbones import SIDE, image_network, text_network

IMAGES = onnx.load_model_from_string(image_network())
TEXTS = onnx.load_model_from_string(text_network())


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])


def test_a_residual_network_divides_behind_its_sums_and_layers():
    parts = parts_of(IMAGES, "k")
    assert [part.start for part in parts] == ["g", "c"]
    assert [part.operators for part in parts] == [
        ("Conv", "Relu", "GlobalAveragePool", "Flatten"),
        ("Conv", "Relu", "Add"),
    ]


def test_a_mask_goes_around_the_parts():
    parts = parts_of(TEXTS, "y")
    assert [part.start for part in parts] == ["a"]
    assert [given.name for given in inputs_read(TEXTS, "y", {"a"})] == ["attention_mask"]


def test_two_parts_answer_as_the_whole():
    image = np.random.default_rng(1).random((3, 3, SIDE, SIDE), np.float32)
    front = extract(IMAGES, list(IMAGES.graph.input), [value("c", 6, 6, 6)], "front")
    back = extract(IMAGES, [value("c", 6, 6, 6)], [value("y", 7)], "back")
    middle = Session(front.SerializeToString(), 1).run({"x": image})["c"]
    whole = Session(IMAGES.SerializeToString(), 1).run({"x": image})["y"]
    np.testing.assert_allclose(Session(back.SerializeToString(), 1).run({"c": middle})["y"], whole, atol=1e-6)
    assert {tensor.name for tensor in front.graph.initializer}.isdisjoint(back.graph.node[-1].input)


def test_what_comes_from_nowhere_is_named():
    with pytest.raises(BadNetwork, match="'x' of graph 'pretrained' comes from nowhere"):
        extract(IMAGES, [], [value("c", 6, 6, 6)], "front")


def test_renamed_tensors_are_read_by_their_new_names_in_subgraphs_too():
    inner = helper.make_graph([helper.make_node("Add", ["x", "one"], ["z"])], "then", [], [value("z", 4)])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["w"])], "else", [], [value("w", 4)])
    node = helper.make_node("If", ["go"], ["y"], then_branch=inner, else_branch=other)
    constants = [numpy_helper.from_array(np.array(True), "go"), numpy_helper.from_array(np.array(1, np.float32), "one")]
    graph = helper.make_graph([node], "g", [value("x", 4)], [value("y", 4)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    assert [found.op_type for found in needed_nodes(model.graph, ["y"])] == ["If"]
    rename(model, {"x": "image", "one": "model.one"})
    answer = Session(model.SerializeToString(), 1).run({"image": np.zeros((2, 4), np.float32)})["y"]
    assert np.array_equal(answer, np.ones((2, 4)))


def test_what_follows_from_constants_alone_is_constant():
    nodes = [
        helper.make_node("Transpose", ["last"], ["turned"]),
        helper.make_node("RandomNormal", [], ["noise"], shape=[2]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.ones((2, 3), np.float32), "last")])
    assert constants_of(graph) == {"last", "turned"}


def test_statistics_shared_shapes_and_single_numbers_are_not_trained():
    names = [tensor.name for tensor in trainable_initializers(IMAGES.graph.node, IMAGES.graph.initializer)]
    assert names == ["stem", "stem.scale", "stem.bias", "inner", "inner.bias", "outer", "wide", "last", "last.bias"]
    nodes = [
        helper.make_node("Clip", ["x", "low"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Pow", ["b", "both"], ["c"]),
        helper.make_node("Add", ["c", "both"], ["d"]),
    ]
    tensors = [
        numpy_helper.from_array(np.ones(size, np.float32), name)
        for name, size in (("low", 1), ("scale", 1), ("both", 3))
    ]
    assert trainable_initializers(nodes, tensors) == []
