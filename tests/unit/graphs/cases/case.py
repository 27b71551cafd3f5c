"""What a case is: one operator in one use, and its graph with its gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from shoal_core.graphs.autodiff import backward, trace
from shoal_core.graphs.builder import OPSET, GraphBuilder
from shoal_core.graphs.shapes import Shape

Array = np.ndarray
# N is the batch; M is another size, unknown when the graph is built, that may turn out to be 1.
SIZES = ({"N": 2, "M": 1}, {"N": 3, "M": 3})
SEED = "cotangent"


@dataclass(frozen=True)
class Case:
    """One operator in one use. `build` emits it from the operands' names and returns the output's name.

    The last `buffers` operands are buffers: they aren't differentiated, and the operator runs as it trains.
    """

    name: str
    shapes: tuple[Shape, ...]
    build: Callable[..., str]
    single: bool = False
    low: float = -1.0
    high: float = 1.0
    distinct: bool = False
    sizes: Sequence[dict[str, int]] = field(default=SIZES)
    buffers: int = 0
    opset: int = OPSET

    @property
    def dtype(self) -> type:
        """float64, or float32 where ONNX Runtime has no kernel for it."""
        return np.float32 if self.single else np.float64

    @property
    def element_type(self) -> int:
        return TensorProto.FLOAT if self.single else TensorProto.DOUBLE

    def forward(self) -> onnx.ModelProto:
        graph = GraphBuilder(self.opset, namespace="forward")
        names = [graph.input(f"operand{index}", self.element_type, shape) for index, shape in enumerate(self.shapes)]
        graph.output(self.build(graph, *names))
        return graph.build("case")

    def operands(self, sizes: dict[str, int]) -> list[Array]:
        random = np.random.default_rng(7)
        arrays = []
        for shape in self.shapes:
            fixed = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in shape)
            if self.distinct:
                # Far apart from each other, so that a small change doesn't move a maximum.
                array = random.permutation(int(np.prod(fixed))).reshape(fixed) / 4 - 2.1
            else:
                array = random.uniform(self.low, self.high, fixed)
                # Away from 0, where several functions have a corner.
                array = np.asarray(array + 0.1 * np.sign(array))
            arrays.append(np.asarray(array, dtype=self.dtype))
        return arrays


class Gradients:
    """A case's graph with its gradients, loaded once, run at any size."""

    def __init__(self, case: Case) -> None:
        model = case.forward()
        self.inputs = [value.name for value in model.graph.input]
        count = len(self.inputs) - case.buffers
        self.names, buffers = self.inputs[:count], self.inputs[count:]
        output = model.graph.output[0].name
        forward = GraphBuilder(case.opset, namespace="backward")
        trace(forward, model, self.names, buffers)
        forward.output(output)
        self.forward = onnxruntime.InferenceSession(forward.build("case").SerializeToString())

        graph = GraphBuilder(case.opset, namespace="backward")
        tape = trace(graph, model, self.names, buffers)
        graph.input(SEED, case.element_type, graph.shape(output))
        gradients = backward(graph, tape, {output: SEED}, self.names)
        for name in self.names:
            assert graph.shape(gradients[name]) == graph.shape(name)
            graph.output(graph.emit("Identity", gradients[name], output=f"gradient.{name}"))
        for name in buffers:
            graph.output(graph.emit("Identity", tape.renewed[name], output=f"new.{name}"))
        self.session = onnxruntime.InferenceSession(graph.build("case").SerializeToString())

    def value(self, operands: list[Array]) -> Array:
        """The operator's result; with buffers, as it trains."""
        return self.forward.run(None, dict(zip(self.inputs, operands, strict=True)))[0]

    def of(self, operands: list[Array], seed: Array) -> list[Array]:
        """The gradient of sum(output * seed) with respect to each operand that isn't a buffer."""
        return self.session.run([f"gradient.{name}" for name in self.names], self._feeds(operands, seed))

    def renewed(self, operands: list[Array], seed: Array) -> list[Array]:
        """The buffers' new values."""
        names = [f"new.{name}" for name in self.inputs[len(self.names) :]]
        return self.session.run(names, self._feeds(operands, seed))

    def _feeds(self, operands: list[Array], seed: Array) -> dict[str, Array]:
        return {**dict(zip(self.inputs, operands, strict=True)), SEED: seed}


def node(graph: GraphBuilder, operator: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
    """Emit a node with several outputs."""
    names = [graph.new_output(operator.lower()) for _ in range(outputs)]
    graph.copy(helper.make_node(operator, inputs, names, **attributes))
    return names


def unary(operator: str, **attributes: Any) -> Callable[..., str]:
    return lambda g, x: g.emit(operator, x, **attributes)


def binary(operator: str, **attributes: Any) -> Callable[..., str]:
    return lambda g, a, b: g.emit(operator, a, b, **attributes)


def integers_last(operator: str, *values: list[int], **attributes: Any) -> Callable[..., str]:
    """An operator whose inputs after the first are constant integers."""
    return lambda g, x: g.emit(operator, x, *(g.integers(*value) for value in values), **attributes)


def indexed(operator: str, indices: Any, **attributes: Any) -> Callable[..., str]:
    """An operator whose second input is constant indices."""
    return lambda g, x, *rest: g.emit(operator, x, g.constant(np.asarray(indices, dtype=np.int64)), *rest, **attributes)


BATCH = ("N", 4)
IMAGE = ("N", 2, 6, 7)
