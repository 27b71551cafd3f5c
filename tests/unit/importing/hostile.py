"""Model files that somebody could upload to do harm, each built for one purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def model(
    nodes: Sequence[NodeProto],
    initializers: Sequence[TensorProto] = (),
    opset: int = 17,
    domains: dict[str, int] | None = None,
    **fields: Any,
) -> ModelProto:
    """x float [N, 4] -> y, by these nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", FLOAT, fields.pop("answer", ["N", "M"]))],
        initializers,
    )
    opsets = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(name, version) for name, version in (domains or {}).items()),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=fields.pop("ir_version", 8), **fields)


def good() -> ModelProto:
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    return model([helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])], [weights])


def external(location: str) -> ModelProto:
    """Weights that lie in another file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor])


def external_in_a_constant(location: str) -> ModelProto:
    """The same inside of a Constant in a branch of an If."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    branches = []
    for name in ("a", "b"):
        node = helper.make_node("Constant", [], [name], value=tensor)
        branches.append(helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, [4])]))
    condition = numpy_helper.from_array(np.array(True), "c")
    both = {"then_branch": branches[0], "else_branch": branches[1]}
    return model(
        [helper.make_node("If", ["c"], ["w"], **both), helper.make_node("Add", ["x", "w"], ["y"])], [condition]
    )


def symlink(folder: Path) -> ModelProto:
    """Weights that lie in a link beside the model, which leads to a secret."""
    secret = folder / "secret"
    secret.write_bytes(b"0" * 48)
    link = folder / "weights.bin"
    link.symlink_to(secret)
    return external(link.name)


def custom_domain() -> ModelProto:
    return model([helper.make_node("Run", ["x"], ["y"], domain="evil.corp")], domains={"evil.corp": 1})


def microsoft_domain() -> ModelProto:
    return model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], domains={"com.microsoft": 1})


def three_gigabytes() -> ModelProto:
    """A tensor that declares 3 GB and holds four bytes."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[3 * 2**28], raw_data=b"\0\0\0\0")
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


def three_gigabytes_of_input() -> ModelProto:
    found = good()
    found.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3 * 2**28
    return found


def too_few_bytes() -> ModelProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4, 3], raw_data=b"\0" * 40)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor])


def sparse_bomb() -> ModelProto:
    """A sparse tensor of one number that fills up to 4 GB."""
    values = helper.make_tensor("w", FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", INT64, [1], [0])
    found = model([helper.make_node("Add", ["x", "w"], ["y"])])
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**30]))
    return found


def constant_bomb() -> ModelProto:
    """A file of some hundred bytes whose ConstantOfShape makes 8 GB."""
    shape = numpy_helper.from_array(np.array([2**31], np.int64), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, [shape])


def run_time_bomb() -> ModelProto:
    """The same, of a size that is known only when it runs."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "k"], ["large"]),
        helper.make_node("ConstantOfShape", ["large"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, [numpy_helper.from_array(np.array([2**16, 2**14], np.int64), "k")])


def endless_loop() -> ModelProto:
    """A Loop whose condition stays true, and whose number of turns is the largest there is."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c_in"], ["c_out"]), helper.make_node("Sin", ["v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("c_in", BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, ["N", 4]),
        ],
        [helper.make_tensor_value_info("c_out", BOOL, []), helper.make_tensor_value_info("v_out", FLOAT, ["N", 4])],
    )
    turns = numpy_helper.from_array(np.array(2**62, np.int64), "turns")
    going = numpy_helper.from_array(np.array(True), "going")
    return model([helper.make_node("Loop", ["turns", "going", "x"], ["y"], body=body)], [turns, going])


def nested(depth: int) -> ModelProto:
    """An If within an If within an If."""
    graph: GraphProto | None = None
    for level in range(depth):
        name = f"o{level}"
        if graph is None:
            nodes = [helper.make_node("Identity", ["x"], [name])]
        else:
            nodes = [helper.make_node("If", ["c"], [name], then_branch=graph, else_branch=graph)]
            if level > 3:  # twice the size at every level would fill the disk before the limit
                other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "e", [], [_value("e")])
                nodes = [helper.make_node("If", ["c"], [name], then_branch=graph, else_branch=other)]
        graph = helper.make_graph(nodes, f"g{level}", [], [_value(name)])
    assert graph is not None
    top = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
    return model([top], [numpy_helper.from_array(np.array(True), "c")])


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, ["N", 4])


def own_function() -> ModelProto:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("mine", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    found = model([helper.make_node("F", ["x"], ["y"], domain="mine")], domains={"mine": 1})
    found.functions.append(function)
    return found


def wrong_graph() -> ModelProto:
    """A node that reads what nothing makes."""
    return model([helper.make_node("Relu", ["nothing"], ["y"])])


def old_opset() -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], opset=6)


def new_opset() -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], opset=24, ir_version=10)


def new_ir() -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], ir_version=13)


def many_nodes(count: int) -> ModelProto:
    nodes = [
        helper.make_node("Relu", ["x" if index == 0 else f"t{index}"], [f"t{index + 1}"]) for index in range(count)
    ]
    return model([*nodes, helper.make_node("Relu", [f"t{count}"], ["y"])])


def zip_map() -> ModelProto:
    """An output that is a list of mappings."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
    found = model([node], domains={"ai.onnx.ml": 1})
    mapping = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    found.graph.output[0].CopyFrom(helper.make_value_info("y", helper.make_sequence_type_proto(mapping)))
    return found


def random_numbers() -> ModelProto:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    return model(nodes)


def nested_bytes(depth: int) -> bytes:
    """The same, of more levels than Python's protobuf builds, written as it lies in the file."""

    def field(number: int, content: bytes) -> bytes:
        length, head = len(content), bytearray()
        while True:
            head.append(length & 0x7F | (0x80 if length > 0x7F else 0))
            length >>= 7
            if not length:
                return bytes([number << 3 | 2]) + bytes(head) + content

    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute))
    return bytes([1 << 3, 8]) + field(7, graph)


def long_name() -> ModelProto:
    """A name that no record has room for."""
    found = good()
    name = "x" * 100_000
    found.graph.input[0].name = found.graph.node[0].input[0] = name
    return found


def two_formats() -> bytes:
    """ONNX whose fifth to eighth byte make ONNX Runtime take it for a model in its own format."""
    producer = b"\x10\x00ORTM"
    return bytes([2 << 3 | 2, len(producer)]) + producer + good().SerializeToString()
