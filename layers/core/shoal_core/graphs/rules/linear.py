"""Gradients of matrix products."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Gradient, Rule, Step, sum_to
from shoal_core.graphs.shapes import product


def _matmul(step: Step) -> Sequence[Gradient | None]:
    """Y = A B. A vector counts as a matrix with one row (A) or one column (B)."""
    graph = step.graph
    a, b = step.node.inputs

    def operands() -> tuple[str, str, str]:
        left, right, gradient = a, b, step.gradient
        if graph.rank(b) == 1:
            right = graph.emit("Unsqueeze", b, graph.integers(1))
            gradient = graph.emit("Unsqueeze", gradient, graph.integers(-1))
        if graph.rank(a) == 1:
            left = graph.emit("Unsqueeze", a, graph.integers(0))
            gradient = graph.emit("Unsqueeze", gradient, graph.integers(-2))
        return left, right, gradient

    def of_a() -> str:
        left, right, gradient = operands()
        if graph.rank(right) == graph.rank(gradient) == 2:
            outcome = graph.emit("Gemm", gradient, right, transB=1)
        else:
            outcome = graph.emit("MatMul", gradient, _swapped(graph, right))
        return graph.reshape_like(sum_to(graph, outcome, left), a)

    def of_b() -> str:
        left, right, gradient = operands()
        if graph.rank(right) == 2:
            # One product over all rows instead of one for each matrix of the batch and a sum.
            rows = graph.emit("Gemm", _rows(graph, left), _rows(graph, gradient), transA=1)
            return graph.reshape_like(rows, b)
        outcome = graph.emit("MatMul", _swapped(graph, left), gradient)
        return graph.reshape_like(sum_to(graph, outcome, right), b)

    return [of_a, of_b]


def _swapped(graph: GraphBuilder, matrix: str) -> str:
    rank = graph.rank(matrix)
    return graph.emit("Transpose", matrix, perm=[*range(rank - 2), rank - 1, rank - 2])


def _rows(graph: GraphBuilder, tensor: str) -> str:
    shape = graph.shape(tensor)
    if len(shape) == 2:
        return tensor
    width = shape[-1]
    if isinstance(width, int):
        return graph.reshape(tensor, (product(shape[:-1]), width))
    return graph.emit("Flatten", tensor, axis=len(shape) - 1)


def _gemm(step: Step) -> Sequence[Gradient | None]:
    """Y = alpha A' B' + beta C, where A' and B' are A and B, transposed or not."""
    graph = step.graph
    a, b = step.node.inputs[:2]
    alpha = float(step.attribute("alpha", 1.0))
    beta = float(step.attribute("beta", 1.0))
    a_turned, b_turned = int(step.attribute("transA", 0)), int(step.attribute("transB", 0))

    def of_a() -> str:
        if a_turned:
            return graph.emit("Gemm", b, step.gradient, alpha=alpha, transA=b_turned, transB=1)
        return graph.emit("Gemm", step.gradient, b, alpha=alpha, transB=1 - b_turned)

    def of_b() -> str:
        if b_turned:
            return graph.emit("Gemm", step.gradient, a, alpha=alpha, transA=1, transB=a_turned)
        return graph.emit("Gemm", a, step.gradient, alpha=alpha, transA=1 - a_turned)

    def of_c() -> str:
        gradient = step.to_input(step.gradient, 2)
        return gradient if beta == 1 else graph.emit("Mul", gradient, graph.scalar(beta, gradient))

    return [of_a, of_b, of_c]


RULES: dict[str, Rule] = {"Gemm": _gemm, "MatMul": _matmul}
