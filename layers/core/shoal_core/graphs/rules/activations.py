"""Gradients of activation functions: for each, a function that emits its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, positive, unary

# ONNX's constants of Selu, from Klambauer et al., "Self-Normalizing Neural Networks" (2017).
_SELU_ALPHA, _SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


def _tanh(step: Step) -> str:
    return step.emit("Sub", step.graph.scalar(1, step.y), step.emit("Mul", step.y, step.y))


def _sigmoid(step: Step) -> str:
    return step.emit("Mul", step.y, step.emit("Sub", step.graph.scalar(1, step.y), step.y))


def _leaky_relu(step: Step) -> str:
    alpha = float(step.attribute("alpha", 0.01))
    rise = step.emit("Mul", step.graph.scalar(1 - alpha, step.x), positive(step.graph, step.x))
    return step.emit("Add", step.graph.scalar(alpha, step.x), rise)


def _where_positive(step: Step, above: str, below: str) -> str:
    return step.emit("Where", step.emit("Greater", step.x, step.graph.scalar(0, step.x)), above, below)


def _elu(step: Step) -> str:
    graph = step.graph
    # alpha exp(x) = y + alpha
    below = step.emit("Add", step.y, graph.scalar(float(step.attribute("alpha", 1.0)), step.y))
    return _where_positive(step, graph.scalar(1, step.y), below)


def _selu(step: Step) -> str:
    graph = step.graph
    gamma = float(step.attribute("gamma", _SELU_GAMMA))
    below = step.emit("Add", step.y, graph.scalar(gamma * float(step.attribute("alpha", _SELU_ALPHA)), step.y))
    return _where_positive(step, graph.scalar(gamma, step.y), below)


def _celu(step: Step) -> str:
    graph = step.graph
    # exp(x / alpha) = y / alpha + 1
    alpha = graph.scalar(float(step.attribute("alpha", 1.0)), step.y)
    below = step.emit("Add", step.emit("Div", step.y, alpha), graph.scalar(1, step.y))
    return _where_positive(step, graph.scalar(1, step.y), below)


def _between(step: Step, low: float, high: float, value: str) -> str:
    graph = step.graph
    above = step.emit("Greater", value, graph.scalar(low, value))
    inside = step.emit("And", above, step.emit("Less", value, graph.scalar(high, value)))
    return step.emit("Cast", inside, to=graph.element_type(value))


def _hard_sigmoid(step: Step) -> str:
    alpha = float(step.attribute("alpha", 0.2))
    return step.emit("Mul", _between(step, 0, 1, step.y), step.graph.scalar(alpha, step.y))


def _hard_swish(step: Step) -> str:
    graph = step.graph
    # x (x + 3) / 6 between -3 and 3, x above
    third = step.emit("Mul", step.x, graph.scalar(1 / 3, step.x))
    middle = step.emit("Add", third, graph.scalar(0.5, step.x))
    above = step.emit("GreaterOrEqual", step.x, graph.scalar(3, step.x))
    return step.emit("Where", above, graph.scalar(1, step.x), step.emit("Mul", _between(step, -3, 3, step.x), middle))


def _erf(step: Step) -> str:
    graph = step.graph
    bell = step.emit("Exp", step.emit("Neg", step.emit("Mul", step.x, step.x)))
    return step.emit("Mul", bell, graph.scalar(2 / math.sqrt(math.pi), step.x))


def _gelu(step: Step) -> str:
    return _gelu_tanh(step) if step.attribute("approximate", "none") == "tanh" else _gelu_exact(step)


def _gelu_exact(step: Step) -> str:
    """Phi(x) + x phi(x)."""
    graph, x = step.graph, step.x
    error = step.emit("Erf", step.emit("Mul", x, graph.scalar(math.sqrt(0.5), x)))
    share = step.emit("Mul", step.emit("Add", error, graph.scalar(1, x)), graph.scalar(0.5, x))
    halved = step.emit("Mul", step.emit("Mul", x, x), graph.scalar(-0.5, x))
    bell = step.emit("Mul", step.emit("Exp", halved), graph.scalar(1 / math.sqrt(2 * math.pi), x))
    return step.emit("Add", share, step.emit("Mul", x, bell))


def _gelu_tanh(step: Step) -> str:
    """With t = tanh(s (x + c x^3)): (1 + t) / 2 + x (1 - t^2) s (1 + 3 c x^2) / 2."""
    graph, x = step.graph, step.x
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    one = graph.scalar(1, x)
    squared = step.emit("Mul", x, x)
    bent = step.emit("Add", step.emit("Mul", squared, graph.scalar(cubic, x)), one)
    t = step.emit("Tanh", step.emit("Mul", step.emit("Mul", x, graph.scalar(scale, x)), bent))
    slope = step.emit("Add", step.emit("Mul", squared, graph.scalar(3 * cubic, x)), one)
    curve = step.emit("Mul", step.emit("Sub", one, step.emit("Mul", t, t)), slope)
    inner = step.emit("Mul", step.emit("Mul", x, graph.scalar(scale, x)), curve)
    return step.emit("Mul", step.emit("Add", step.emit("Add", one, t), inner), graph.scalar(0.5, x))


def _softplus(step: Step) -> str:
    return step.emit("Sigmoid", step.x)


def _softsign(step: Step) -> str:
    graph = step.graph
    # 1 / (1 + |x|)^2 = (1 - |y|)^2
    rest = step.emit("Sub", graph.scalar(1, step.y), step.emit("Abs", step.y))
    return step.emit("Mul", rest, rest)


def _mish(step: Step) -> str:
    """With t = tanh(softplus(x)): t + x (1 - t^2) sigmoid(x)."""
    graph, x = step.graph, step.x
    t = step.emit("Tanh", step.emit("Softplus", x))
    rest = step.emit("Sub", graph.scalar(1, x), step.emit("Mul", t, t))
    return step.emit("Add", t, step.emit("Mul", step.emit("Mul", x, rest), step.emit("Sigmoid", x)))


def _thresholded_relu(step: Step) -> str:
    above = step.emit("Greater", step.x, step.graph.scalar(float(step.attribute("alpha", 1.0)), step.x))
    return step.emit("Cast", above, to=step.graph.element_type(step.x))


def _shrink(step: Step) -> str:
    """1 outside of -lambd to lambd."""
    outside = step.emit(
        "Greater", step.emit("Abs", step.x), step.graph.scalar(float(step.attribute("lambd", 0.5)), step.x)
    )
    return step.emit("Cast", outside, to=step.graph.element_type(step.x))


def _prelu(step: Step) -> Sequence[Gradient | None]:
    graph, slope = step.graph, step.node.inputs[1]

    def of_x() -> str:
        negative = step.emit("Mul", step.gradient, slope)
        return _where_positive(step, step.gradient, negative)

    def of_slope() -> str:
        negative = step.emit("Min", step.x, graph.scalar(0, step.x))
        return step.to_input(step.emit("Mul", step.gradient, negative), 1)

    return [of_x, of_slope]


_DERIVATIVES: dict[str, Callable[[Step], str]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Erf": _erf,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Mish": _mish,
    "Relu": lambda step: positive(step.graph, step.y),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Tanh": _tanh,
    "ThresholdedRelu": _thresholded_relu,
}

RULES: dict[str, Rule] = {
    **{operator: unary(derivative) for operator, derivative in _DERIVATIVES.items()},
    "PRelu": _prelu,
}
