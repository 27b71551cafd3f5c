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
    with pytest.raises(UnsupportedOperator) as caught:
        differentiate(model_of(layers("Relu", "Erf", "Mish")))
    assert "Erf (node 'node-Erf')" in caught.value.reason
    assert "Mish (node 'node-Mish')" in caught.value.reason
    assert "Relu" not in caught.value.reason
    assert "Conv" in caught.value.fix
    assert "ReduceMean" in caught.value.fix


def test_an_operator_off_the_path_needs_no_rule():
    # Only b is trained: the operator before it is just computed.
    model, gradients = differentiate(model_of(layers("Erf")), parameters=["b"])
    assert list(gradients) == ["b"]
    assert not {"Gemm", "MatMul"}.isdisjoint(node.op_type for node in model.graph.node)


def test_a_frozen_part_costs_nothing():
    both, _ = differentiate(model_of(layers("Relu", "Tanh")))
    head, _ = differentiate(model_of(layers("Relu", "Tanh")), parameters=["b"])
    assert len(head.graph.node) == 5
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
        (helper.make_node("Pad", ["t", "pads"], ["y"], mode="edge"), "edge"),
        (helper.make_node("AveragePool", ["t"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1), "ceil_mode"),
        (helper.make_node("MaxPool", ["t"], ["y"], kernel_shape=[2], storage_order=1), "column"),
    ],
    ids=["pad", "average_pool", "max_pool"],
)
def test_unsupported_uses_are_refused(node, message):
    graph = GraphBuilder()
    graph.input("p", TensorProto.FLOAT, ("N", 1, 5))
    graph.constant(np.asarray([0, 0, 1, 0, 0, 1], dtype=np.int64), "pads")
    graph.emit("Mul", "p", graph.scalar(2, "p"), output="t")
    graph.copy(node)
    graph.output("y")
    model = graph.build("pools")
    with pytest.raises(UnsupportedOperator, match=message):
        differentiate(model, parameters=["p"])


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
