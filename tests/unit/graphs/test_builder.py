import numpy as np
import pytest
from onnx import TensorProto, helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.shapes import product, reshape_sizes


@pytest.fixture
def graph():
    builder = GraphBuilder()
    builder.input("x", TensorProto.FLOAT, ("N", 3, 4))
    return builder


def test_shapes_and_types_are_known_at_once(graph):
    assert graph.shape(graph.emit("Transpose", "x", perm=[2, 0, 1])) == (4, "N", 3)
    mask = graph.emit("Greater", "x", graph.scalar(0, "x"))
    assert (graph.shape(mask), graph.element_type(mask)) == (("N", 3, 4), TensorProto.BOOL)


def test_unnamed_dimensions_get_a_name_of_their_own(graph):
    graph.input("y", TensorProto.FLOAT, ("M", 3, 4))
    both = graph.emit("Concat", "x", "y", axis=0)
    assert graph.shape(both) == (f"{both}[0]", 3, 4)


def test_equal_nodes_and_constants_are_emitted_once(graph):
    assert graph.emit("Neg", "x") == graph.emit("Neg", "x")
    assert graph.integers(1, 2) == graph.integers(1, 2)
    assert graph.integers(1, 2) != graph.constant(np.asarray([1, 2], dtype=np.int32))
    assert graph.emit("Softmax", "x", axis=1) != graph.emit("Softmax", "x", axis=2)


def test_invented_names_dont_collide():
    builder = GraphBuilder()
    builder.input("shoal.neg_1", TensorProto.FLOAT, ("N",))
    assert builder.emit("Neg", "shoal.neg_1") == "shoal.neg_2"


def test_reshape_with_one_symbol_is_static(graph):
    flat = graph.reshape("x", ("N", 12))
    assert graph.shape(flat) == ("N", 12)
    back = graph.reshape_like(flat, "x")
    assert graph.shape(back) == ("N", 3, 4)
    assert graph.reshape("x", ("N", 3, 4)) == "x"
    with pytest.raises(BadNetwork, match="more than one dimension"):
        graph.reshape("x", ("N", "M"))


def test_a_tensor_is_defined_once(graph):
    with pytest.raises(BadNetwork, match="'x' is defined twice"):
        graph.input("x", TensorProto.FLOAT, ())


def test_nodes_must_fit_their_inputs(graph):
    with pytest.raises(BadNetwork, match="MatMul"):
        graph.emit("MatMul", "x", graph.constant(np.zeros((5, 2), dtype=np.float32)))
    with pytest.raises(BadNetwork, match="'nothing'"):
        graph.emit("Neg", "nothing")


def test_unknown_rank_is_refused_when_asked(graph):
    graph.input("sizes", TensorProto.INT64, ("K",))
    graph.copy(helper.make_node("Reshape", ["x", "sizes"], ["y"]))
    with pytest.raises(BadNetwork, match="rank of tensor 'y'"):
        graph.shape("y")


def test_only_used_constants_are_written(graph):
    graph.integers(9)
    graph.output(graph.emit("Add", "x", graph.scalar(1, "x")))
    assert len(graph.build("small").graph.initializer) == 1


def test_products():
    assert product((2, 3)) == 6
    assert product(("N", 7, 7)) == "N*49"
    assert product(("N",)) == "N"
    assert product(("N", 0)) == 0
    assert reshape_sizes(("N", 4)) == (-1, 4)
    assert reshape_sizes(("N", "M")) is None
    assert reshape_sizes((0, "M")) is None
