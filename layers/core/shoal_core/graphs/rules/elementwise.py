"""Gradients of operators that work element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, positive


def _unary(derivative: Callable[[Step], str]) -> Rule:
    """The rule of y = f(x), from a function that emits f'(x)."""

    def rule(step: Step) -> Sequence[Gradient | None]:
        return [lambda: step.emit("Mul", step.gradient, derivative(step))]

    return rule


def _add(step: Step) -> Sequence[Gradient | None]:
    return [lambda: step.to_input(step.gradient, 0), lambda: step.to_input(step.gradient, 1)]


def _sub(step: Step) -> Sequence[Gradient | None]:
    return [
        lambda: step.to_input(step.gradient, 0),
        lambda: step.emit("Neg", step.to_input(step.gradient, 1)),
    ]


def _mul(step: Step) -> Sequence[Gradient | None]:
    a, b = step.node.inputs
    return [
        lambda: step.to_input(step.emit("Mul", step.gradient, b), 0),
        lambda: step.to_input(step.emit("Mul", step.gradient, a), 1),
    ]


def _div(step: Step) -> Sequence[Gradient | None]:
    b = step.node.inputs[1]

    def divisor() -> str:
        # d(a/b)/db = -y/b
        product = step.emit("Mul", step.gradient, step.emit("Div", step.y, b))
        return step.emit("Neg", step.to_input(product, 1))

    return [lambda: step.to_input(step.emit("Div", step.gradient, b), 0), divisor]


def _pow(step: Step) -> Sequence[Gradient | None]:
    graph = step.graph
    base, exponent = step.node.inputs

    def of_base() -> str:
        known = graph.value(exponent)
        if known is not None and known.size == 1:
            power = float(np.ravel(known)[0])
            lower = base if power == 2 else graph.emit("Pow", base, graph.scalar(power - 1, base))
            slope = graph.emit("Mul", graph.scalar(power, base), lower)
        else:
            cast = _as_type_of(step, exponent, base)
            lower = graph.emit("Pow", base, graph.emit("Sub", cast, graph.scalar(1, base)))
            slope = graph.emit("Mul", cast, lower)
        return step.to_input(graph.emit("Mul", step.gradient, slope), 0)

    def of_exponent() -> str:
        # log is only defined for a positive base; elsewhere the power is constant in its neighbourhood or not real.
        above = graph.emit("Greater", base, graph.scalar(0, base))
        logarithm = graph.emit("Log", graph.emit("Where", above, base, graph.scalar(1, base)))
        slope = graph.emit("Mul", step.y, logarithm)
        product = _as_type_of(step, graph.emit("Mul", step.gradient, slope), exponent)
        return step.to_input(product, 1)

    return [of_base, of_exponent]


def _as_type_of(step: Step, name: str, like: str) -> str:
    wanted = step.graph.element_type(like)
    return name if step.graph.element_type(name) == wanted else step.emit("Cast", name, to=wanted)


def _neg(step: Step) -> Sequence[Gradient | None]:
    return [lambda: step.emit("Neg", step.gradient)]


def _sqrt(step: Step) -> Sequence[Gradient | None]:
    two = step.graph.scalar(2, step.x)
    return [lambda: step.emit("Div", step.gradient, step.emit("Mul", two, step.y))]


def _log(step: Step) -> Sequence[Gradient | None]:
    return [lambda: step.emit("Div", step.gradient, step.x)]


def _tanh(step: Step) -> str:
    return step.emit("Sub", step.graph.scalar(1, step.y), step.emit("Mul", step.y, step.y))


def _sigmoid(step: Step) -> str:
    return step.emit("Mul", step.y, step.emit("Sub", step.graph.scalar(1, step.y), step.y))


def _leaky_relu(step: Step) -> str:
    alpha = float(step.attribute("alpha", 0.01))
    rise = step.emit("Mul", step.graph.scalar(1 - alpha, step.x), positive(step.graph, step.x))
    return step.emit("Add", step.graph.scalar(alpha, step.x), rise)


def _clip(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        # As PyTorch does, a value on the bound still passes its gradient.
        result = step.gradient
        for index, compare in ((1, "GreaterOrEqual"), (2, "LessOrEqual")):
            if step.node.has_input(index):
                inside = step.emit(compare, step.x, step.node.inputs[index])
                result = step.emit("Mul", result, step.emit("Cast", inside, to=step.graph.element_type(step.x)))
        return result

    return [gradient, None, None]


def _where(step: Step) -> Sequence[Gradient | None]:
    condition = step.node.inputs[0]
    zero = step.graph.scalar(0, step.y)
    return [
        None,
        lambda: step.to_input(step.emit("Where", condition, step.gradient, zero), 1),
        lambda: step.to_input(step.emit("Where", condition, zero, step.gradient), 2),
    ]


def _cast(step: Step) -> Sequence[Gradient | None]:
    return [lambda: _as_type_of(step, step.gradient, step.x)]


def _identity(step: Step) -> Sequence[Gradient | None]:
    return [lambda: step.gradient]


RULES: dict[str, Rule] = {
    "Abs": _unary(lambda step: step.emit("Sign", step.x)),
    "Add": _add,
    "Cast": _cast,
    "Clip": _clip,
    "Div": _div,
    "Exp": _unary(lambda step: step.y),
    "Identity": _identity,
    "LeakyRelu": _unary(_leaky_relu),
    "Log": _log,
    "Mul": _mul,
    "Neg": _neg,
    "Pow": _pow,
    "Relu": _unary(lambda step: positive(step.graph, step.y)),
    "Sigmoid": _unary(_sigmoid),
    "Sqrt": _sqrt,
    "Sub": _sub,
    "Tanh": _unary(_tanh),
    "Where": _where,
}
