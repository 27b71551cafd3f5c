"""Gradients of sums and means over axes."""

from __future__ import annotations

from collections.abc import Sequence

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


RULES: dict[str, Rule] = {"ReduceMean": _reduce_mean, "ReduceSum": _reduce_sum}
