"""Gradients of operators that work element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, unary


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


def _dropout(step: Step) -> Sequence[Gradient | None]:
    """Without training mode, which is how networks are handed over, it does nothing."""
    trains = step.graph.value(step.node.inputs[2]) if step.node.has_input(2) else np.asarray(False)
    if trains is None or np.any(trains):
        raise step.unsupported("is in training mode")
    return [lambda: step.gradient, None, None]


def _sum(step: Step) -> Sequence[Gradient | None]:
    return [partial(step.to_input, step.gradient, index) for index in range(len(step.node.inputs))]


def _mean(step: Step) -> Sequence[Gradient | None]:
    count = len(step.node.inputs)

    def gradient(index: int) -> str:
        return step.to_input(step.emit("Mul", step.gradient, step.graph.scalar(1 / count, step.y)), index)

    return [partial(gradient, index) for index in range(count)]


def _extreme(step: Step) -> Sequence[Gradient | None]:
    """Max and Min of several tensors. Equal ones share the gradient, as in PyTorch."""

    def chosen(name: str) -> str:
        return step.emit("Cast", step.emit("Equal", name, step.y), to=step.graph.element_type(step.y))

    def gradient(index: int) -> str:
        winners = [chosen(name) for name in step.node.inputs]
        count = winners[0] if len(winners) == 1 else step.emit("Sum", *winners)
        share = step.emit("Div", step.emit("Mul", step.gradient, winners[index]), count)
        return step.to_input(share, index)

    return [partial(gradient, index) for index in range(len(step.node.inputs))]


def _mod(step: Step) -> Sequence[Gradient | None]:
    """a - b trunc(a / b), the remainder of C's fmod: the only one that ONNX has for floats."""

    def of_divisor() -> str:
        whole = step.emit("Div", step.emit("Sub", step.y, step.x), step.node.inputs[1])
        return step.to_input(step.emit("Mul", step.gradient, step.emit("Round", whole)), 1)

    return [lambda: step.to_input(step.gradient, 0), of_divisor]


def _one_and_square(step: Step, of: str, sign: int) -> str:
    """1 + of^2, or 1 - of^2."""
    return step.emit("Add" if sign > 0 else "Sub", step.graph.scalar(1, of), step.emit("Mul", of, of))


def _over_root(step: Step, sign: int) -> str:
    """1 / sqrt(1 + x^2), or 1 / sqrt(1 - x^2)."""
    return step.emit("Reciprocal", step.emit("Sqrt", _one_and_square(step, step.x, sign)))


def _acosh(step: Step) -> str:
    less = step.emit("Sub", step.emit("Mul", step.x, step.x), step.graph.scalar(1, step.x))
    return step.emit("Reciprocal", step.emit("Sqrt", less))


def _reciprocal(step: Step) -> str:
    return step.emit("Neg", step.emit("Mul", step.y, step.y))


RULES: dict[str, Rule] = {
    "Abs": unary(lambda step: step.emit("Sign", step.x)),
    "Acos": unary(lambda step: step.emit("Neg", _over_root(step, -1))),
    "Acosh": unary(_acosh),
    "Add": _add,
    "Asin": unary(lambda step: _over_root(step, -1)),
    "Asinh": unary(lambda step: _over_root(step, 1)),
    "Atan": unary(lambda step: step.emit("Reciprocal", _one_and_square(step, step.x, 1))),
    "Atanh": unary(lambda step: step.emit("Reciprocal", _one_and_square(step, step.x, -1))),
    "Cast": _cast,
    "CastLike": lambda step: [*_cast(step), None],
    "Clip": _clip,
    "Cos": unary(lambda step: step.emit("Neg", step.emit("Sin", step.x))),
    "Cosh": unary(lambda step: step.emit("Sinh", step.x)),
    "Div": _div,
    "Dropout": _dropout,
    "Exp": unary(lambda step: step.y),
    "Identity": _identity,
    "Log": _log,
    "Max": _extreme,
    "Mean": _mean,
    "Min": _extreme,
    "Mod": _mod,
    "Mul": _mul,
    "Neg": _neg,
    "Pow": _pow,
    "Reciprocal": unary(_reciprocal),
    "Sin": unary(lambda step: step.emit("Cos", step.x)),
    "Sinh": unary(lambda step: step.emit("Cosh", step.x)),
    "Sqrt": _sqrt,
    "Sub": _sub,
    "Sum": _sum,
    "Tan": unary(lambda step: _one_and_square(step, step.y, 1)),
    "Where": _where,
}
