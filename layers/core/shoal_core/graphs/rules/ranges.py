"""Gradients of what divides a value by a norm of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, normalised
from shoal_core.graphs.shapes import product


def _lp_normalization(step: Step) -> Sequence[Gradient | None]:
    """y = x / norm: (g - slope(norm) sum(g y)) / norm."""
    graph = step.graph
    power = int(step.attribute("p", 2))
    axis = normalised(int(step.attribute("axis", -1)), graph.rank(step.x))

    def along(operator: str, value: str) -> str:
        if graph.opset < 18 and operator != "ReduceSum":
            return graph.emit(operator, value, axes=[axis], keepdims=1)
        return graph.emit(operator, value, graph.integers(axis), keepdims=1)

    def gradient() -> str:
        # Where the norm is 0, ONNX Runtime answers 0: no gradient is infinite there.
        least = graph.scalar(float(np.finfo(graph.dtype(step.x)).tiny), step.x)
        norm = graph.emit("Max", along("ReduceL1" if power == 1 else "ReduceL2", step.x), least)
        slope = graph.emit("Sign", step.x) if power == 1 else step.y
        total = along("ReduceSum", graph.emit("Mul", step.gradient, step.y))
        return graph.emit("Div", graph.emit("Sub", step.gradient, graph.emit("Mul", slope, total)), norm)

    return [gradient]


def _lrn(step: Step) -> Sequence[Gradient | None]:
    """y = x d^-b with d = k + a/n (sum of squares over n channels): g d^-b - 2 a b/n x sum'(g y / d).

    The sums over neighbouring channels are products with a band of ones, turned around on the way back.
    """
    graph = step.graph
    shape = graph.shape(step.x)
    batch, channels, places = shape[0], shape[1], product(shape[2:])
    if not isinstance(channels, int):
        raise step.unsupported("has an unknown number of channels")
    size = int(step.attribute("size"))
    alpha, beta, bias = (
        float(step.attribute(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    distance = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = (distance >= -((size - 1) // 2)) & (distance <= size // 2)

    def near(value: str, matrix: np.ndarray) -> str:
        flat = graph.reshape(value, (batch, channels, places))
        return graph.reshape_like(
            graph.emit("MatMul", graph.constant(matrix.astype(graph.dtype(step.x))), flat), step.x
        )

    def gradient() -> str:
        squares = graph.emit("Mul", near(graph.emit("Mul", step.x, step.x), band), graph.scalar(alpha / size, step.x))
        base = graph.emit("Add", squares, graph.scalar(bias, step.x))
        direct = graph.emit("Mul", step.gradient, graph.emit("Pow", base, graph.scalar(-beta, step.x)))
        share = graph.emit("Div", graph.emit("Mul", step.gradient, step.y), base)
        through = graph.emit("Mul", step.x, near(share, band.T))
        return graph.emit("Sub", direct, graph.emit("Mul", through, graph.scalar(2 * alpha * beta / size, step.x)))

    return [gradient]


RULES: dict[str, Rule] = {"LRN": _lrn, "LpNormalization": _lp_normalization}
