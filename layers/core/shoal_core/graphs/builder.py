"""A small typed builder of ONNX graphs.

It knows the element type and the (possibly symbolic) shape of every tensor as soon as it is emitted, by asking ONNX's
own shape inference node by node, so that a gradient rule can look at its operands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, defs, helper, numpy_helper, shape_inference

from shoal_core.errors import BadNetwork, UnsupportedOperator
from shoal_core.graphs.shapes import Dim, Shape, product, reshape_sizes

IR_VERSION = 10
OPSET = 21
PRODUCER = "shoal"
# Shape inference only looks into small integer operands (shapes, axes, pads).
_LARGEST_KNOWN_OPERAND = 1024
# Constants up to this many elements are shared when equal.
_LARGEST_SHARED_CONSTANT = 64

# Operators that ONNX's shape inference doesn't know, whose output is shaped as their first input.
_SHAPED_AS_INPUT = frozenset({"GroupNormalization"})
# One turn of a loop: from a builder, the carried tensors and the turn's parts to the new carried ones and the results.
ScanBody = Callable[["GraphBuilder", Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[str]]]


class GraphBuilder:
    """Emits nodes in order; every tensor is named by a string.

    Args:
        opset: Version of ONNX's standard operator set.
        namespace: Prefix of the names it invents.
    """

    def __init__(self, opset: int = OPSET, namespace: str = "shoal") -> None:
        self.opset = opset
        self._namespace = namespace
        self._counter = itertools.count(1)
        self._nodes: list[onnx.NodeProto] = []
        self._types: dict[str, TypeProto] = {}
        self._constants: dict[str, NDArray[Any]] = {}
        self._shared: dict[object, str] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._captured: set[str] = set()

    # -- tensors ----------------------------------------------------------------------------------------------------

    def input(self, name: str, element_type: int, shape: Shape) -> str:
        """Declare a graph input."""
        self._declare(name, helper.make_tensor_type_proto(element_type, shape))
        self._inputs.append(name)
        return name

    def output(self, name: str) -> str:
        """Make a tensor a graph output."""
        self._outputs.append(name)
        return name

    def constant(self, value: NDArray[Any], name: str | None = None) -> str:
        """A constant tensor. Small equal ones without a name of their own are shared."""
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes()) if value.size <= _LARGEST_SHARED_CONSTANT else None
        if name is None and key is not None and key in self._shared:
            return self._shared[key]
        if name is None:
            name = self._new_name("constant")
            if key is not None:
                self._shared[key] = name
        self._declare(name, helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
        self._constants[name] = value
        return name

    def integers(self, *values: int) -> str:
        """A constant int64 [len(values)]."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def scalar(self, value: float, like: str) -> str:
        """A constant [] of the element type of `like`."""
        return self.constant(np.asarray(value, dtype=self.dtype(like)))

    def value(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, None for what is only known at run time."""
        return self._constants.get(name)

    def has(self, name: str) -> bool:
        """Whether a tensor of this name exists."""
        return name in self._types

    def element_type(self, name: str) -> int:
        """ONNX element type, such as `onnx.TensorProto.FLOAT`."""
        return int(self._types[name].tensor_type.elem_type)

    def dtype(self, name: str) -> np.dtype[Any]:
        """The element type as numpy knows it."""
        return helper.tensor_dtype_to_np_dtype(self.element_type(name))

    def shape(self, name: str) -> Shape:
        """Shape of a tensor.

        Raises:
            BadNetwork: if not even the rank is known.
        """
        tensor_type = self._types[name].tensor_type
        if not tensor_type.HasField("shape"):
            raise BadNetwork(
                f"The rank of tensor {name!r} is unknown.", "Export the network with fixed shapes except the batch."
            )
        return tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) for dim in tensor_type.shape.dim
        )

    def rank(self, name: str) -> int:
        """Number of dimensions."""
        return len(self.shape(name))

    # -- nodes ------------------------------------------------------------------------------------------------------

    def emit(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Emit a node with one output and return its name; an equal node is reused unless `output` names this one."""
        key = (operator, inputs, repr(sorted(attributes.items())))
        if output is None and key in self._shared:
            return self._shared[key]
        name = output or self._new_name(operator.lower())
        self._append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        if output is None:
            self._shared[key] = name
        return name

    def copy(self, node: onnx.NodeProto, declared: Sequence[Shape | None] = ()) -> None:
        """Append a node as it is; `declared` may tell dimensions of its outputs that inference can't."""
        self._append(node)
        for name, shape in zip(node.output, declared, strict=False):
            tensor_type = self._types[name].tensor_type if name else None
            if tensor_type is None or shape is None:
                continue
            if not tensor_type.HasField("shape"):
                self.refine(name, shape)
            elif len(tensor_type.shape.dim) == len(shape):
                inferred = self.shape(name)
                own = (f"{name}[{axis}]" for axis in range(len(shape)))
                better = zip(inferred, own, shape, strict=True)
                self.refine(name, tuple(told if dim == mark else dim for dim, mark, told in better))

    def new_output(self, hint: str) -> str:
        """An unused tensor name."""
        return self._new_name(hint)

    def refine(self, name: str, shape: Shape) -> str:
        """Record a shape that is better known than shape inference could tell; returns the name."""
        self._types[name] = helper.make_tensor_type_proto(self.element_type(name), shape)
        return name

    def scan(
        self, body: ScanBody, carried: Sequence[str], scanned: Sequence[str], backwards: bool = False
    ) -> tuple[list[str], list[str]]:
        """Emit a loop over the first axis of some tensors.

        Args:
            body: Emits one turn. It gets a builder, the carried tensors and this turn's parts of the scanned ones, and
                returns the new carried tensors and the turn's results. It may read any tensor of this graph.
            carried: The first values of what a turn hands to the next; shapes stay the same.
            scanned: Tensors [T, ...].
            backwards: Whether to go from the last turn to the first; results lie in the order of `scanned` anyway.

        Returns:
            The carried tensors after the last turn, and each result for all turns, [T, ...].
        """
        inner = GraphBuilder(self.opset, namespace=self._new_name("scan"))
        inner._types = dict(self._types)
        parts = [(name, self.shape(name)) for name in carried] + [(name, self.shape(name)[1:]) for name in scanned]
        names = [inner.input(inner._new_name("part"), self.element_type(outer), inside) for outer, inside in parts]
        new, results = body(inner, names[: len(carried)], names[len(carried) :])
        # A loop's outputs must come from its own nodes and differ from each other.
        own = {name for node in inner._nodes for name in node.output}
        for name in (*new, *results):
            fit = name in own and name not in inner._outputs
            inner.output(name if fit else inner.emit("Identity", name, output=inner._new_name("result")))
        graph = inner._graph("turn")
        outer_names = [self._new_name("scan") for _ in inner._outputs]
        turns = self.shape(scanned[0])[0]
        shapes = [inner.shape(name) for name in inner._outputs]
        for index, (name, shape) in enumerate(zip(outer_names, shapes, strict=True)):
            shape = self.shape(carried[index]) if index < len(carried) else (turns, *shape)
            element_type = inner.element_type(inner._outputs[index])
            self._declare(name, helper.make_tensor_type_proto(element_type, shape))
        self._nodes.append(
            helper.make_node(
                "Scan",
                [*carried, *scanned],
                outer_names,
                name=outer_names[0],
                body=graph,
                num_scan_inputs=len(scanned),
                scan_input_directions=[int(backwards)] * len(scanned),
                scan_output_directions=[int(backwards)] * len(results),
            )
        )
        self._captured |= {name for node in inner._nodes for name in node.input if name in self._types}
        return outer_names[: len(carried)], outer_names[len(carried) :]

    # -- shapes at run time -------------------------------------------------------------------------------------------

    def shape_of(self, name: str) -> str:
        """The shape of a tensor as int64 [rank]: a constant if it is static, else computed at run time."""
        shape = self.shape(name)
        if all(isinstance(dim, int) for dim in shape):
            return self.constant(np.asarray(shape, dtype=np.int64))
        return self.emit("Shape", name)

    def size_of(self, name: str, axes: Sequence[int]) -> str:
        """Number of elements over some axes, int64 []: a constant if it is static, else computed at run time."""
        sizes = product(self.shape(name)[axis] for axis in axes)
        if isinstance(sizes, int):
            return self.constant(np.asarray(sizes, dtype=np.int64))
        chosen = self.emit("Gather", self.shape_of(name), self.integers(*axes))
        return self.emit("ReduceProd", chosen, keepdims=0)

    def reshape(self, name: str, shape: Shape) -> str:
        """Reshape to a shape with at most one symbolic dimension."""
        if self.shape(name) == shape:
            return name
        sizes = reshape_sizes(shape)
        if sizes is None:
            raise BadNetwork(
                f"Tensor {name!r} can't be reshaped to {shape}: more than one dimension is unknown.",
                "Export the network with fixed shapes except the batch.",
            )
        return self.refine(self.emit("Reshape", name, self.integers(*sizes)), shape)

    def reshape_like(self, name: str, like: str) -> str:
        """Reshape to the shape of another tensor, symbolic or not."""
        shape = self.shape(like)
        if reshape_sizes(shape) is not None:
            return self.reshape(name, shape)
        return self.refine(self.emit("Reshape", name, self.shape_of(like)), shape)

    def expand_like(self, name: str, like: str) -> str:
        """Broadcast to the shape of another tensor."""
        shape = self.shape(like)
        if self.shape(name) == shape:
            return name
        return self.refine(self.emit("Expand", name, self.shape_of(like)), shape)

    def zeros_like(self, name: str) -> str:
        """Zeros of the shape and element type of another tensor."""
        zero = helper.make_tensor("zero", self.element_type(name), [1], [0])
        return self.refine(self.emit("ConstantOfShape", self.shape_of(name), value=zero), self.shape(name))

    # -- result -------------------------------------------------------------------------------------------------------

    def build(self, name: str) -> onnx.ModelProto:
        """The checked model, with the constants that are used.

        Raises:
            BadNetwork: if the graph isn't valid ONNX.
        """
        model = helper.make_model(
            self._graph(name),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        check(model)
        return model

    # -- inside -------------------------------------------------------------------------------------------------------

    def _graph(self, name: str) -> onnx.GraphProto:
        used = {tensor for node in self._nodes for tensor in node.input} | set(self._outputs) | self._captured
        return helper.make_graph(
            self._nodes,
            name,
            [onnx.ValueInfoProto(name=tensor, type=self._types[tensor]) for tensor in self._inputs],
            [onnx.ValueInfoProto(name=tensor, type=self._types[tensor]) for tensor in self._outputs],
            [numpy_helper.from_array(value, tensor) for tensor, value in self._constants.items() if tensor in used],
        )

    def _new_name(self, hint: str) -> str:
        return next(
            name for name in (f"{self._namespace}.{hint}_{n}" for n in self._counter) if name not in self._types
        )

    def _declare(self, name: str, tensor_type: TypeProto) -> None:
        if name in self._types:
            raise BadNetwork(f"Tensor {name!r} is defined twice.")
        self._types[name] = tensor_type

    def _append(self, node: onnx.NodeProto) -> None:
        for name, tensor_type in self._infer(node).items():
            if node.op_type in _SHAPED_AS_INPUT and not tensor_type.tensor_type.HasField("shape"):
                tensor_type.CopyFrom(self._types[node.input[0]])
            for axis, dim in enumerate(tensor_type.tensor_type.shape.dim):
                if not dim.HasField("dim_value") and not dim.dim_param:
                    # A dimension of its own, equal to nothing else.
                    dim.dim_param = f"{name}[{axis}]"
            self._declare(name, tensor_type)
        self._nodes.append(node)

    def _infer(self, node: onnx.NodeProto) -> dict[str, TypeProto]:
        inputs = [name for name in node.input if name]
        unknown = [name for name in inputs if name not in self._types]
        if unknown:
            raise BadNetwork(f"Node {node.name!r} ({node.op_type}) reads tensor {unknown[0]!r}, which nothing defines.")
        known = {
            name: numpy_helper.from_array(value)
            for name in inputs
            if (value := self._constants.get(name)) is not None and value.size <= _LARGEST_KNOWN_OPERAND
        }
        try:
            schema = defs.get_schema(node.op_type, self.opset, node.domain)
        except defs.SchemaError as error:
            raise UnsupportedOperator(
                f"Operator {node.op_type!r} of node {node.name!r} isn't in ONNX's standard operator set {self.opset}."
            ) from error
        try:
            inferred = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in inputs},
                known,
                None,
                [helper.make_opsetid("", self.opset)],
                IR_VERSION,
            )
        except (shape_inference.InferenceError, RuntimeError) as error:
            raise BadNetwork(f"Node {node.name!r} ({node.op_type}) doesn't fit its inputs: {error}") from error
        missing = [name for name in node.output if name and name not in inferred]
        if missing:
            raise BadNetwork(f"The type of tensor {missing[0]!r} ({node.op_type}) can't be inferred.")
        return {name: inferred[name] for name in node.output if name}


def check(model: onnx.ModelProto) -> None:
    """Check a model with ONNX's checker and strict shape inference.

    Raises:
        BadNetwork: if the model isn't valid.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise BadNetwork(f"Graph {model.graph.name!r} isn't valid ONNX: {error}") from error


def shape_of_value(value: onnx.ValueInfoProto) -> Shape | None:
    """The shape that a graph declares for a tensor, None where it doesn't tell every dimension."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims: list[Dim] = []
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(int(dim.dim_value))
        elif dim.dim_param:
            dims.append(str(dim.dim_param))
        else:
            return None
    return tuple(dims)
