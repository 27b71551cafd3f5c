"""Arithmetic on constants and sizes, done once: exporters compute axes and shapes by nodes, and rules must see them.

Sizes may hold the batch, `N`: `Reshape(x, Concat(Shape(x)[:1], 64))` makes [N, 64].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.shapes import Dim, Shape, product

_LARGEST = 1 << 20
"""Elements of a constant that is made here; what is larger is left to the runtime."""
_KEPT = frozenset({"BatchNormalization", "Dropout"})
_INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32})
_MOST_SIZES = 64
Sizes = NDArray[Any]
"""Numbers, and names of dimensions that aren't known before the batch is."""


class Folder:
    """Turns nodes whose inputs are constants into constants of the graph in the making, and follows sizes.

    Args:
        graph: Where they are declared.
        opset: Version of the standard operator set.
    """

    def __init__(self, graph: GraphBuilder, opset: int) -> None:
        self._graph = graph
        self._opset = opset
        self._sizes: dict[str, Sizes] = {}

    def folds(self, node: NodeProto) -> bool:
        """Whether a node became constants; if not, it is to be emitted. Raises `BadNetwork` where it can't be run."""
        values = {name: self._graph.value(name) for name in node.input if name}
        known = {name: value for name, value in values.items() if value is not None}
        if node.op_type == "Shape" or any(name in self._sizes for name in values):
            return self._follows(node)
        if node.op_type in _KEPT or not values or len(known) < len(values):
            return False
        if sum(value.size for value in known.values()) > _LARGEST:
            return False
        arrays = [np.asarray(result) for result in self._computed(node, known)]
        if sum(array.size for array in arrays) > _LARGEST:
            return False
        for name, array in zip(node.output, arrays, strict=False):
            if name:
                self._graph.constant(array, name)
        return True

    def told(self, node: NodeProto) -> Shape | None:
        """The shape of a node's output, where its sizes were followed."""
        if node.op_type not in ("Reshape", "Expand", "ConstantOfShape"):
            return None
        sizes = self._of(node.input[-1])
        if sizes is None or sizes.ndim != 1:
            return None
        dims: list[Dim] = sizes.tolist()
        if node.op_type == "ConstantOfShape":
            return tuple(dims)
        if not self._graph.has_rank(node.input[0]):
            return None
        before = self._graph.shape(node.input[0])
        if node.op_type == "Reshape":
            return _reshaped(before, dims)
        aligned = (1,) * (len(dims) - len(before)) + before
        if len(aligned) != len(dims):
            return None
        return tuple(size if wanted == 1 else wanted for size, wanted in zip(aligned, dims, strict=True))

    def _computed(self, node: NodeProto, known: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        try:
            results = ReferenceEvaluator(node, opsets={"": self._opset}).run(None, dict(known))
        except Exception as error:  # the reference operators' errors have no common base
            raise BadNetwork(
                f"Node {node.name[:100]!r} ({node.op_type}) can't be computed: {str(error)[:200]}.", "Export it again."
            ) from error
        return list(results)

    def _follows(self, node: NodeProto) -> bool:
        """Keep what sizes a node makes; whether all of them are known, so that it is a constant."""
        try:
            sizes = self._followed(node, {entry.name: helper.get_attribute_value(entry) for entry in node.attribute})
        except (ValueError, IndexError, TypeError):  # not about sizes after all, or wrong: the runtime will tell
            return False
        if sizes is None or sizes.size > _MOST_SIZES:
            return False
        if all(isinstance(size, int) for size in sizes.reshape(-1).tolist()):
            self._graph.constant(sizes.astype(np.int64), node.output[0])
            return True
        self._sizes[node.output[0]] = sizes
        return False

    def _followed(self, node: NodeProto, attributes: Mapping[str, Any]) -> Sizes | None:
        operator = node.op_type
        if operator == "Shape":
            if not self._graph.has_rank(node.input[0]):
                return None
            dims = self._graph.shape(node.input[0])
            return np.array(dims[attributes.get("start", 0) : attributes.get("end")], object)
        found = [self._of(name) for name in node.input if name]
        if any(sizes is None for sizes in found):
            return None
        first, *rest = [sizes for sizes in found if sizes is not None]
        if operator == "Identity" or (operator == "Cast" and attributes["to"] in _INTEGERS):
            return first
        if operator == "Concat":
            return np.concatenate([first, *rest])
        if operator == "Mul":
            return np.asarray(np.frompyfunc(lambda a, b: product((a, b)), 2, 1)(first, rest[0]), object)
        if operator == "Gather" and attributes.get("axis", 0) == 0:
            return np.asarray(first[rest[0].astype(np.int64)], object)
        if operator == "Reshape":
            return first.reshape(rest[0].astype(np.int64))
        if operator == "Squeeze":
            return np.squeeze(first)
        if operator == "Unsqueeze":
            return np.expand_dims(first, tuple(rest[0].astype(np.int64).tolist()))
        if operator == "Slice" and first.ndim == 1:
            start, stop = (int(bound[0]) for bound in rest[:2])
            return first[start : stop : int(rest[3][0]) if len(rest) > 3 else 1]
        return None

    def _of(self, name: str) -> Sizes | None:
        """The sizes in a tensor: followed ones, or a constant's."""
        if name in self._sizes:
            return self._sizes[name]
        value = self._graph.value(name)
        if value is None or value.dtype.kind != "i" or value.size > _MOST_SIZES:
            return None
        return np.array(value.tolist(), object).reshape(value.shape)


def _reshaped(before: Shape, wanted: Sequence[Dim]) -> Shape | None:
    """What `Reshape` makes: 0 keeps a dimension, -1 is the rest where it can be told."""
    dims = [before[axis] if size == 0 and axis < len(before) else size for axis, size in enumerate(wanted)]
    if -1 not in dims:
        return tuple(dims)
    left, others = list(before), [size for size in dims if size != -1]
    for size in [size for size in others if isinstance(size, str)]:
        if size not in left:
            return None
        left.remove(size)
    whole, part = (product(size for size in sizes if isinstance(size, int)) for sizes in (left, others))
    if not isinstance(whole, int) or not isinstance(part, int) or not part or whole % part:
        return None
    rest = product([*(size for size in left if isinstance(size, str)), whole // part])
    return tuple(rest if size == -1 else size for size in dims)
