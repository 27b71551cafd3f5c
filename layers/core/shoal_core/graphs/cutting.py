"""Taking a foreign graph apart: what a tensor is made of, where it divides into blocks, and parts of it as graphs.

Needs nothing of Shoal's own networks: a graph is read as it was exported, whoever exported it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import PRODUCER
from shoal_core.graphs.inference import IR_VERSION

WEIGHTED = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Gather"),
        *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    }
)
"""Operators that make a layer of a constant: what has none of them is arithmetic between layers."""
# Where an operator reads what training changes. Other constants say how to compute, not what was learnt; the running
# mean and variance of a BatchNormalization were measured, and stay.
_TRAINABLE: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "LayerNormalization"), (1, 2)),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3)),
    **dict.fromkeys(("MatMul", "Add", "Mul"), (0, 1)),
    "PRelu": (1,),
    "Gather": (0,),
}


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Part:
    """Nodes between two tensors through each of which everything learnt passes.

    Attributes:
        start: The tensor that they read of what lies before.
        nodes: In order of execution.
    """

    start: str
    nodes: tuple[NodeProto, ...]

    @property
    def operators(self) -> tuple[str, ...]:
        """Their operators, each once, in order."""
        return tuple(dict.fromkeys(node.op_type for node in self.nodes))


def reads(node: NodeProto) -> set[str]:
    """Names that a node reads, also from within its subgraphs."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            inner = {name for each in graph.node for name in reads(each)} | {value.name for value in graph.output}
            own = {name for each in graph.node for name in each.output} | {value.name for value in graph.input}
            found |= inner - own - {tensor.name for tensor in graph.initializer}
    return found


def needed_nodes(graph: GraphProto, wanted: Iterable[str], given: Collection[str] = ()) -> list[NodeProto]:
    """The nodes that make some tensors when others are given, in order of execution."""
    missing = set(wanted) - set(given)
    found = []
    for node in reversed(graph.node):
        if missing.intersection(node.output):
            found.append(node)
            missing |= reads(node) - set(given)
    return found[::-1]


def constants_of(graph: GraphProto) -> set[str]:
    """Names of all tensors that don't depend on an input."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if reads(node) <= found and not node.op_type.startswith("Random"):
            found.update(node.output)
    return found


def extract(
    model: ModelProto, given: Sequence[ValueInfoProto], wanted: Sequence[ValueInfoProto], name: str
) -> ModelProto:
    """A part of a graph as a graph: what makes some of its tensors of others.

    Args:
        model: The whole; initialisers aren't among its inputs.
        given: What the part takes, whether it is an input of the whole or not.
        wanted: What it answers.
        name: Of the new graph.

    Raises:
        BadNetwork: A tensor is needed that isn't given.
    """
    nodes = needed_nodes(model.graph, [value.name for value in wanted], {value.name for value in given})
    used = {name for node in nodes for name in reads(node)} | {value.name for value in wanted}
    made = {name for node in nodes for name in node.output} | {value.name for value in given}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in used]
    lacking = sorted(used - made - {tensor.name for tensor in initializers})
    if lacking:
        raise BadNetwork(f"Tensor {lacking[0]!r} of graph {model.graph.name!r} comes from nowhere.")
    graph = helper.make_graph(nodes, name, [value for value in given if value.name in used], list(wanted), initializers)
    return helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=IR_VERSION, producer_name=PRODUCER
    )


def inputs_read(model: ModelProto, wanted: str, given: Collection[str]) -> list[ValueInfoProto]:
    """Inputs of the graph that a tensor still needs when others are given, in their order."""
    nodes = needed_nodes(model.graph, [wanted], given)
    used = {name for node in nodes for name in reads(node)}
    return [value for value in model.graph.input if value.name in used]


def rename(model: ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, in place and everywhere that they are read."""
    _rename_in(model.graph, names)


def _rename_in(graph: GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename_in(inner, names)
    for entry in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        entry.name = names.get(entry.name, entry.name)


def parts_of(model: ModelProto, output: str) -> list[Part]:
    """Cut what makes a tensor into parts, the last one first, each with a layer in it.

    Parts meet where everything that a layer has touched passes through one tensor: behind each layer of a plain
    network, behind each sum of a residual one. What depends on the input alone, such as a mask, may go around them. The
    layers before the first such tensor are no part.

    Args:
        model: The graph; initialisers aren't among its inputs.
        output: The tensor.
    """
    nodes = needed_nodes(model.graph, [output])
    constant = constants_of(model.graph)
    learnt = constant - {tensor.name for tensor in model.graph.initializer if tensor.data_type not in _FLOATS}
    last_use = {name: index for index, node in enumerate(nodes) for name in reads(node)}
    last_use[output] = len(nodes)
    touched: set[str] = set()
    live: set[str] = set()
    bounds: list[tuple[int, str]] = []
    for index, node in enumerate(nodes):
        if _is_layer(node, constant, learnt) or touched & reads(node):
            touched.update(node.output)
            live.update(name for name in node.output if name in last_use)
        live = {name for name in live if last_use[name] > index}
        if len(live) == 1:
            bounds.append((index, next(iter(live))))
    found: list[Part] = []
    end = len(nodes)
    for index, tensor in reversed(bounds):
        within = nodes[index + 1 : end]
        if any(_is_layer(node, constant, learnt) for node in within):
            chosen = [node for node in within if not set(node.output) <= constant]
            found.append(Part(tensor, tuple(chosen)))
            end = index + 1
    return found


def _is_layer(node: NodeProto, constant: Collection[str], learnt: Collection[str]) -> bool:
    """Whether a node puts a varying tensor and a learnt one together; of a Gather it is the table that is learnt."""
    if node.op_type not in WEIGHTED or all(name in constant for name in node.input if name):
        return False
    if node.op_type == "Gather":
        return node.input[0] in learnt
    return any(name in constant for name in node.input if name)


def trainable_initializers(nodes: Iterable[NodeProto], initializers: Iterable[TensorProto]) -> list[TensorProto]:
    """Those of a graph's initialisers that training may change, in their order.

    float32 tensors of more than one number, where an operator multiplies or adds what was learnt. A tensor that is also
    read in another way stays as it is.
    """
    wanted: set[str] = set()
    refused: set[str] = set()
    for node in nodes:
        slots = _TRAINABLE.get(node.op_type, ())
        for index, name in enumerate(node.input):
            (wanted if index in slots else refused).add(name)
        refused |= reads(node) - set(node.input)
    return [
        tensor
        for tensor in initializers
        if tensor.name in wanted - refused and tensor.data_type == TensorProto.FLOAT and size_of(tensor) > 1
    ]


def size_of(tensor: TensorProto) -> int:
    """How many numbers a tensor has."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size


def without_initializers_as_inputs(model: ModelProto) -> ModelProto:
    """The same model as files of IR version 4 have it: inputs are what a caller gives."""
    named = {tensor.name for tensor in model.graph.initializer}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [value for value in model.graph.input if value.name not in named]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    return copy
