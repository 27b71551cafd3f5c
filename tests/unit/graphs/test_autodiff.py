import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal_core.errors import BadNetwork, UnsupportedOperator
from shoal_core.graphs.autodiff import backward, opset_of, trace
from shoal_core.graphs.builder import GraphBuilder


def model_of(nodes, output="y", opset=21, initialisers=(), domains=()):
    """x [N, 3] and the parameters a, b [3, 3]."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in INPUTS.items()]
    graph = helper.make_graph(
        nodes,
        "network",
        inputs,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 3])],
        list(initialisers),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports)


INPUTS = {"x": ["N", 3], "a": [3, 3], "b": [3, 3]}


def differentiate(model, parameters=("a", "b"), output="y"):
    graph = GraphBuilder(opset_of(model))
    tape = trace(graph, model, parameters)
    seed = graph.input("seed", TensorProto.FLOAT, graph.shape(output))
    gradients = backward(graph, tape, {output: seed}, parameters)
    for name in gradients.values():
        graph.output(name)
    return graph.build("gradients"), gradients


def layers(*operators):
    """x times a, the operators, times b."""
    nodes = [helper.make_node("MatMul", ["x", "a"], ["t0"], name="first")]
    for index, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, [f"t{index}"], [f"t{index + 1}"], name=f"node-{operator}"))
    return [*nodes, helper.make_node("MatMul", [f"t{len(operators)}", "b"], ["y"], name="last")]


def test_unsupported_operators_are_named_with_their_nodes_and_the_supported_ones():
    nodes = layers("Relu", "Hardmax", "Hardmax")
    nodes[3].name = "another"
    with pytest.raises(UnsupportedOperator) as caught:
        differentiate(model_of(nodes))
    assert "Hardmax (node 'node-Hardmax')" in caught.value.reason
    assert "Hardmax (node 'another')" in caught.value.reason
    assert "Relu" not in caught.value.reason
    assert "Conv" in caught.value.fix
    assert "ReduceMean" in caught.value.fix


def test_an_operator_off_the_path_needs_no_rule():
    # Only b is trained: the operator before it is just computed.
    model, gradients = differentiate(model_of(layers("Hardmax")), parameters=["b"])
    assert list(gradients) == ["b"]
    assert not {"Gemm", "MatMul"}.isdisjoint(node.op_type for node in model.graph.node)


def test_a_frozen_part_costs_nothing():
    both, _ = differentiate(model_of(layers("Relu", "Tanh")))
    head, _ = differentiate(model_of(layers("Relu", "Tanh")), parameters=["b"])
    assert len(head.graph.node) == 4
    assert len(both.graph.node) > len(head.graph.node)


def test_operator_of_another_domain_is_refused():
    nodes = [helper.make_node("MatMul", ["x", "a"], ["t"]), helper.make_node("Gelu", ["t"], ["y"], domain="com.other")]
    with pytest.raises(UnsupportedOperator, match=r"com\.other"):
        differentiate(model_of(nodes, domains=["com.other"]))


def test_unknown_operator_is_refused():
    with pytest.raises(UnsupportedOperator, match="Reluu"):
        differentiate(model_of(layers("Reluu")))


def test_parameter_without_influence_is_refused():
    nodes = [helper.make_node("MatMul", ["x", "a"], ["y"])]
    with pytest.raises(BadNetwork, match="'b' has no influence"):
        differentiate(model_of(nodes))


def test_unknown_parameter_is_refused():
    with pytest.raises(BadNetwork, match="'missing'"):
        differentiate(model_of(layers()), parameters=["missing"])


@pytest.mark.parametrize("opset", [11, 23])
def test_operator_sets_outside_the_tested_range_are_refused(opset):
    with pytest.raises(BadNetwork, match=str(opset)):
        opset_of(model_of(layers(), opset=opset))


@pytest.mark.parametrize("opset", [16, 18, 22])
def test_tested_operator_sets_build(opset):
    model, gradients = differentiate(model_of(layers("Relu", "Softmax"), opset=opset))
    assert set(gradients) == {"a", "b"}
    assert model.opset_import[0].version == opset


def test_a_bound_that_is_trained_is_refused_not_ignored():
    nodes = [
        helper.make_node("ReduceSum", ["a"], ["bound"], keepdims=0),
        helper.make_node("Clip", ["x", "bound"], ["c"], name="clip"),
        helper.make_node("MatMul", ["c", "b"], ["y"]),
    ]
    with pytest.raises(UnsupportedOperator, match="'clip'"):
        differentiate(model_of(nodes))


@pytest.mark.parametrize(
    "constant",
    [{"value": numpy_helper.from_array(np.float32(2.0))}, {"value_float": 2.0}],
    ids=["value", "value_float"],
)
def test_constant_nodes_are_constants(constant):
    nodes = [
        helper.make_node("Constant", [], ["two"], **constant),
        helper.make_node("MatMul", ["x", "a"], ["t"]),
        helper.make_node("Pow", ["t", "two"], ["u"]),
        helper.make_node("MatMul", ["u", "b"], ["y"]),
    ]
    model, _ = differentiate(model_of(nodes))
    assert "Log" not in {node.op_type for node in model.graph.node}


def test_inconsistent_network_is_refused_with_the_node():
    nodes = [helper.make_node("MatMul", ["x", "y2"], ["y"], name="broken")]
    with pytest.raises(BadNetwork, match="'broken'"):
        differentiate(model_of(nodes))


def test_input_with_unnamed_dimension_is_refused():
    model = model_of(layers())
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    with pytest.raises(BadNetwork, match="'x'"):
        differentiate(model)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Dropout", ["t", "", "yes"], ["y"]), "training mode"),
        (helper.make_node("Einsum", ["t"], ["y"], equation="aab->b"), "repeated label"),
        (
            helper.make_node(
                "Resize", ["t", "", "", "sizes"], ["y"], mode="linear", axes=[2], keep_aspect_ratio_policy="not_larger"
            ),
            "ratio",
        ),
        (helper.make_node("ScatterElements", ["t", "zeros", "ones"], ["y"], axis=2, reduction="mul"), "mul"),
        (helper.make_node("LSTM", ["t", "w", "r"], ["y"], hidden_size=2, clip=1.0), "clips"),
        (helper.make_node("GRU", ["t", "w3", "r3"], ["y"], hidden_size=2, activations=["Tanh", "Tanh"]), "activations"),
        (helper.make_node("MaxPool", ["t"], ["y"], kernel_shape=[2], storage_order=1), "column"),
    ],
    ids=["dropout", "einsum", "resize", "scatter", "lstm", "gru", "max_pool"],
)
def test_unsupported_uses_are_refused(node, message):
    graph = GraphBuilder()
    graph.input("p", TensorProto.FLOAT, ("N", 1, 5))
    graph.constant(np.asarray(True), "yes")
    graph.constant(np.int64([10]), "sizes")
    graph.constant(np.zeros((1, 1, 1), np.int64), "zeros")
    graph.constant(np.ones((1, 1, 1), np.float32), "ones")
    for name, shape in {"w": (1, 8, 5), "r": (1, 8, 2), "w3": (1, 6, 5), "r3": (1, 6, 2)}.items():
        graph.constant(np.zeros(shape, np.float32), name)
    graph.emit("Mul", "p", graph.scalar(2, "p"), output="t")
    graph.copy(node)
    graph.output("y")
    model = graph.build("pools")
    with pytest.raises(UnsupportedOperator, match=message):
        differentiate(model, parameters=["p"])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            helper.make_node("RandomNormalLike", ["x"], ["r"], name="noise"),
            r"'noise' \(RandomNormalLike\) draws random",
        ),
        (helper.make_node("SequenceConstruct", ["x"], ["r"], name="list"), r"'list' \(SequenceConstruct\).*sequence"),
        (
            helper.make_node("Loop", ["", "", "x"], ["r"], name="loop", body=helper.make_graph([], "body", [], [])),
            r"'loop' \(Loop\) is control flow",
        ),
    ],
    ids=["random", "sequence", "loop"],
)
def test_loops_sequences_and_random_numbers_are_refused_even_off_the_path(node, message):
    with pytest.raises(UnsupportedOperator, match=message):
        differentiate(model_of([node, *layers("Relu")]))


def test_declared_shapes_help_where_inference_ends():
    # The shape comes from a runtime input, but the exporter told it.
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["p", "sizes"], ["t"]),
            helper.make_node("MaxPool", ["t"], ["y"], kernel_shape=[2], strides=[2]),
        ],
        "network",
        [
            helper.make_tensor_value_info("p", TensorProto.FLOAT, [2, 12]),
            helper.make_tensor_value_info("sizes", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 2])],
        value_info=[helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 3, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    built, _ = differentiate(model, parameters=["p"])
    assert "MaxUnpool" in {node.op_type for node in built.graph.node}


def test_a_layer_normalization_used_through_its_statistics_is_refused():
    graph = GraphBuilder()
    graph.input("p", TensorProto.FLOAT, ("N", 3))
    graph.constant(np.ones(3, np.float32), "one")
    graph.copy(helper.make_node("LayerNormalization", ["p", "one"], ["n", "m"], name="norm"))
    graph.output(graph.emit("Add", "n", "m", output="y"))
    with pytest.raises(UnsupportedOperator, match="'norm'"):
        differentiate(graph.build("network"), parameters=["p"])


@pytest.mark.parametrize(("attributes", "buffers"), [({"training_mode": 1}, []), ({}, ["m"])], ids=["mode", "half"])
def test_batch_normalization_that_trains_without_both_buffers_is_refused(attributes, buffers):
    graph = GraphBuilder()
    for name, shape in {"p": ("N", 2), "m": (2,), "v": (2,)}.items():
        graph.input(name, TensorProto.FLOAT, shape)
    graph.constant(np.ones(2, np.float32), "one")
    outputs = ["y", "m2", "v2"] if attributes else ["y"]
    graph.copy(helper.make_node("BatchNormalization", ["p", "one", "one", "m", "v"], outputs, name="bn", **attributes))
    graph.output("y")
    with pytest.raises(UnsupportedOperator, match="'bn'"):
        trace(GraphBuilder(), graph.build("network"), ["p"], buffers)


def test_a_recurrent_node_of_which_only_the_last_state_is_used_trains():
    graph = GraphBuilder()
    graph.input("x", TensorProto.FLOAT, (100, "N", 3))
    for name, shape in {"w": (1, 6, 3), "r": (1, 6, 2)}.items():
        graph.input(name, TensorProto.FLOAT, shape)
    graph.copy(helper.make_node("GRU", ["x", "w", "r"], ["", "last"], hidden_size=2))
    graph.output(graph.emit("Squeeze", "last", graph.integers(0), output="y"))
    model, gradients = differentiate(graph.build("network"), parameters=["w", "r"])
    assert set(gradients) == {"w", "r"}
    assert "Scan" in {node.op_type for node in model.graph.node}
