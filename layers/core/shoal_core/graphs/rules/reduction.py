"""Gradients of sums, means, norms and extremes over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, normalised


def _axes(step: Step) -> tuple[int, ...]:
    """The reduced axes, from an input (newer operator sets) or an attribute."""
    rank = step.graph.rank(step.x)
    given = step.integers(1, "axes") if step.node.has_input(1) else tuple(step.attribute("axes", ()))
    if given:
        return tuple(sorted(normalised(axis, rank) for axis in given))
    return () if step.attribute("noop_with_empty_axes", 0) else tuple(range(rank))


def _spread(step: Step, gradient: str, axes: tuple[int, ...]) -> str:
    """Give every reduced element the gradient of its sum."""
    graph = step.graph
    if not step.attribute("keepdims", 1) and axes:
        gradient = graph.emit("Unsqueeze", gradient, graph.integers(*axes))
    return graph.expand_like(gradient, step.x)


def _reduce_sum(step: Step) -> Sequence[Gradient | None]:
    return [lambda: _spread(step, step.gradient, _axes(step)), None]


def _reduce_mean(step: Step) -> Sequence[Gradient | None]:
    graph = step.graph

    def gradient() -> str:
        axes = _axes(step)
        if not axes:
            return step.gradient
        count = graph.emit("Cast", graph.size_of(step.x, axes), to=graph.element_type(step.x))
        return _spread(step, graph.emit("Div", step.gradient, count), axes)

    return [gradient, None]


def _by_slope(slope: Callable[[Step, str], str]) -> Rule:
    """The rule of a reduction from a function that emits dy/dx; it gets the result, spread to x's shape."""

    def rule(step: Step) -> Sequence[Gradient | None]:
        def gradient() -> str:
            axes = _axes(step)
            if not axes:
                raise step.unsupported("reduces no axes")
            return step.emit("Mul", _spread(step, step.gradient, axes), slope(step, _spread(step, step.y, axes)))

        return [gradient, None]

    return rule


def _extreme_slope(step: Step, y: str) -> str:
    """Equal elements share the gradient, as PyTorch's amax and amin do."""
    graph = step.graph
    reached = graph.emit("Cast", graph.emit("Equal", step.x, y), to=graph.element_type(step.x))
    return graph.emit("Div", reached, graph.emit("ReduceSum", reached, graph.integers(*_axes(step)), keepdims=1))


def _direction(step: Step, y: str) -> str:
    """x over its norm, and 0 where that is 0, as in PyTorch."""
    least = step.graph.scalar(float(np.finfo(step.graph.dtype(step.x)).tiny), step.x)
    return step.emit("Div", step.x, step.emit("Max", y, least))


def _doubled(step: Step, _: str) -> str:
    return step.emit("Mul", step.x, step.graph.scalar(2, step.x))


RULES: dict[str, Rule] = {
    "ReduceL1": _by_slope(lambda step, _: step.emit("Sign", step.x)),
    "ReduceL2": _by_slope(_direction),
    "ReduceLogSum": _by_slope(lambda step, y: step.emit("Exp", step.emit("Neg", y))),
    "ReduceLogSumExp": _by_slope(lambda step, y: step.emit("Exp", step.emit("Sub", step.x, y))),
    "ReduceMax": _by_slope(_extreme_slope),
    "ReduceMean": _reduce_mean,
    "ReduceMin": _by_slope(_extreme_slope),
    "ReduceProd": _by_slope(lambda step, y: step.emit("Div", y, step.x)),
    "ReduceSum": _reduce_sum,
    "ReduceSumSquare": _by_slope(_doubled),
}
