"""A small typed builder of ONNX graphs.

It knows the element type and the (possibly symbolic) shape of every tensor as soon as it is emitted, by asking ONNX's
own shape inference node by node, so that a gradient rule can look at its operands.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, helper, numpy_helper, shape_inference

from shoal_core.errors import BadNetwork
from shoal_core.graphs.inference import IR_VERSION, infer_outputs
from shoal_core.graphs.shapes import Dim, Shape, product, reshape_sizes, size_in

OPSET = 21
PRODUCER = "shoal"
# Constants up to this many elements are shared when equal.
_LARGEST_SHARED_CONSTANT = 64


class GraphBuilder:
    """Emits nodes in order; every tensor is named by a string.

    Args:
        opset: Version of ONNX's standard operator set.
        namespace: Prefix of the names it invents.
        blocked: Whether convolutions may run in blocks of channels (`rules/blocked.py`).
    """

    def __init__(self, opset: int = OPSET, namespace: str = "shoal", blocked: bool = False) -> None:
        self.opset = opset
        self.blocked = blocked
        self._namespace = namespace
        self._counter = itertools.count(1)
        self._nodes: list[onnx.NodeProto] = []
        self._types: dict[str, TypeProto] = {}
        self._constants: dict[str, NDArray[Any]] = {}
        self._shared: dict[object, str] = {}
        self._parts: dict[object, list[str]] = {}
        # Where a symbol's size can be read: an input, and its axis.
        self._symbols: dict[str, tuple[str, int]] = {}
        self._domains: set[str] = set()
        self._inputs: list[str] = []
        self._outputs: list[str] = []

    # -- tensors ----------------------------------------------------------------------------------------------------

    def input(self, name: str, element_type: int, shape: Shape) -> str:
        """Declare a graph input."""
        self._declare(name, helper.make_tensor_type_proto(element_type, shape))
        self._inputs.append(name)
        for axis, dim in enumerate(shape):
            if isinstance(dim, str):
                self._symbols.setdefault(dim, (name, axis))
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
        return _dims(self._types[name])

    def rank(self, name: str) -> int:
        """Number of dimensions."""
        return len(self.shape(name))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The graph's inputs, in order."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The graph's outputs, in order."""
        return tuple(self._outputs)

    def bytes_of(self, name: str, sizes: Mapping[str, int]) -> int:
        """Size of a tensor once the symbols' sizes are known; 0 where not even its rank is."""
        return size_in(self.shape(name), sizes) * self.dtype(name).itemsize if self.has_rank(name) else 0

    def makes(self, name: str) -> bool:
        """Whether a tensor is the output of a node of this graph."""
        return any(name in node.output for node in self._nodes)

    def has_rank(self, name: str) -> bool:
        """Whether a tensor's number of dimensions is known, so that it has a shape."""
        return bool(self._types[name].tensor_type.HasField("shape"))

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

    def emit_foreign(
        self,
        domain: str,
        operator: str,
        inputs: Sequence[str],
        shape: Shape,
        output: str | None = None,
        **attributes: Any,  # noqa: ANN401
    ) -> str:
        """Emit a node of another domain, whose result has the first input's element type and this shape."""
        key = (domain, operator, *inputs, repr(sorted(attributes.items())))
        if output is None and key in self._shared:
            return self._shared[key]
        name = output or self._new_name(operator.lower())
        node = helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes)
        self.append(node, [(self.element_type(inputs[0]), shape)])
        self._domains.add(domain)
        if output is None:
            self._shared[key] = name
        return name

    def shape_after(self, node: onnx.NodeProto) -> Shape:
        """The shape that a node's first output would have, if it were emitted."""
        return _dims(infer_outputs(node, self.opset, self._types, self._constants)[node.output[0]])

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

    def split(self, name: str, count: int, axis: int) -> list[str]:
        """Equal parts of a tensor along an axis, whose size must be known and a multiple of `count`."""
        return self.cut(name, [int(self.shape(name)[axis]) // count] * count, axis)

    def cut(self, name: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Parts of a tensor along an axis, one after the other."""
        if len(sizes) == 1:
            return [name]
        key = ("Split", name, tuple(sizes), axis)
        if key not in self._parts:
            self._parts[key] = [self._new_name("split") for _ in sizes]
            self._append(helper.make_node("Split", [name, self.integers(*sizes)], self._parts[key], axis=axis))
        return self._parts[key]

    def nested(self) -> GraphBuilder:
        """A builder of a graph inside a node of this one, which may read any tensor of this one."""
        inner = GraphBuilder(self.opset, namespace=self._new_name("inner"))
        inner._types = dict(self._types)
        inner._symbols = dict(self._symbols)
        return inner

    def graph(self, name: str) -> onnx.GraphProto:
        """What was emitted, as far as an output depends on it, with the constants that are used."""
        nodes = self.needed_nodes()
        used = {tensor for node in nodes for tensor in read_by(node)} | set(self._outputs)
        return helper.make_graph(
            nodes,
            name,
            [onnx.ValueInfoProto(name=tensor, type=self._types[tensor]) for tensor in self._inputs],
            [onnx.ValueInfoProto(name=tensor, type=self._types[tensor]) for tensor in self._outputs],
            [numpy_helper.from_array(value, tensor) for tensor, value in self._constants.items() if tensor in used],
        )

    def append(self, node: onnx.NodeProto, declared: Sequence[tuple[int, Shape]]) -> None:
        """Append a node whose outputs' element types and shapes are told, since inference doesn't know them."""
        for name, (element_type, shape) in zip(node.output, declared, strict=True):
            self._declare(name, helper.make_tensor_type_proto(element_type, shape))
        self._nodes.append(node)

    # -- shapes at run time -------------------------------------------------------------------------------------------

    def shape_of(self, name: str) -> str:
        """The shape of a tensor as int64 [rank]: a constant if it is static, else computed at run time."""
        shape = self.shape(name)
        if all(isinstance(dim, int) for dim in shape):
            return self.constant(np.asarray(shape, dtype=np.int64))
        if any(isinstance(dim, str) and dim not in self._symbols for dim in shape):
            return self.emit("Shape", name)
        # Asked of the tensor itself, its shape would keep it alive.
        return self.emit("Concat", *(self._size(dim) for dim in shape), axis=0)

    def _size(self, dim: Dim) -> str:
        if isinstance(dim, int):
            return self.integers(dim)
        source, axis = self._symbols[dim]
        return self.emit("Shape", source, start=axis, end=axis + 1)

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
            self.graph(name),
            opset_imports=[
                helper.make_opsetid("", self.opset),
                *(helper.make_opsetid(domain, 1) for domain in sorted(self._domains)),
            ],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        check(model)
        return model

    def needed_nodes(self) -> list[onnx.NodeProto]:
        """The nodes that an output depends on, in order."""
        wanted = set(self._outputs)
        needed = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                needed.append(node)
                wanted |= read_by(node)
        return needed[::-1]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _new_name(self, hint: str) -> str:
        return next(
            name for name in (f"{self._namespace}.{hint}_{n}" for n in self._counter) if name not in self._types
        )

    def _declare(self, name: str, tensor_type: TypeProto) -> None:
        if name in self._types:
            raise BadNetwork(f"Tensor {name!r} is defined twice.")
        self._types[name] = tensor_type

    def _append(self, node: onnx.NodeProto) -> None:
        for name, tensor_type in infer_outputs(node, self.opset, self._types, self._constants).items():
            self._declare(name, tensor_type)
        self._nodes.append(node)


def read_by(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node reads, also from inside a loop."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            own = {value.name for value in (*inner.input, *inner.initializer)}
            own |= {name for each in inner.node for name in each.output}
            names |= {name for each in inner.node for name in read_by(each)} - own
    return names


def _dims(told: TypeProto) -> Shape:
    dims = told.tensor_type.shape.dim
    return tuple(int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) for dim in dims)


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
