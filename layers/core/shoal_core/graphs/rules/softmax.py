"""Gradients of softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.graphs.rules.rule import Gradient, Rule, Step


def _total(step: Step, name: str) -> str:
    """Sum along the softmax's axis, kept as an axis of 1."""
    return step.emit("ReduceSum", name, step.graph.integers(int(step.attribute("axis", -1))), keepdims=1)


def _softmax(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        # y (g - sum(g y))
        total = _total(step, step.emit("Mul", step.gradient, step.y))
        return step.emit("Mul", step.y, step.emit("Sub", step.gradient, total))

    return [gradient]


def _log_softmax(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        # g - exp(y) sum(g)
        share = step.emit("Mul", step.emit("Exp", step.y), _total(step, step.gradient))
        return step.emit("Sub", step.gradient, share)

    return [gradient]


RULES: dict[str, Rule] = {"LogSoftmax": _log_softmax, "Softmax": _softmax}
