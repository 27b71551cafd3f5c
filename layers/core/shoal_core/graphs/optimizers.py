"""Optimizers as graph fragments: from a parameter, its gradient and its slots to their new values.

Names and arithmetic are PyTorch's, so that settings carry over: `sgd` and `adam` add weight decay to the gradient,
`adamw` and `lion` shrink the parameter by learning rate x weight decay, apart from the gradient (I. Loshchilov and
F. Hutter, "Decoupled Weight Decay Regularization", 2019). Biases and the parameters of normalisations never decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from onnx import TensorProto
from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.builder import GraphBuilder

LEARNING_RATE = "learning_rate"
STEP = "step"
STATE = "state."

# PyTorch's clip_grad_norm_ adds it to the norm, so that a gradient of 0 isn't divided by 0.
_NORM_FLOOR = 1e-6

Share = Annotated[float, Field(ge=0, lt=1)]


class _Optimizer(Frozen):
    """What all optimizers share.

    Args:
        weight_decay: How strongly weights are pulled to 0.
        clip_norm: Longest global norm that a worker's gradient may have; None doesn't clip.
    """

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None

    def clip(self, graph: GraphBuilder, gradients: Mapping[str, str]) -> dict[str, str]:
        """Emit clipping by the global norm, if this optimizer clips.

        Args:
            graph: Where to emit.
            gradients: Parameter -> its gradient.

        Returns:
            Parameter -> the gradient to use: as it was, or all of them scaled to a global norm of `clip_norm`. A norm
            that overflows float32 (above 1.8e19) scales them to 0.
        """
        if self.clip_norm is None:
            return dict(gradients)
        return clip_by_global_norm(graph, gradients, self.clip_norm)

    def _decays(self, graph: GraphBuilder, parameter: str) -> bool:
        return self.weight_decay > 0 and decays(parameter, graph.rank(parameter))

    def _with_decay(self, graph: GraphBuilder, parameter: str, gradient: str) -> str:
        """The gradient plus weight decay x parameter."""
        if not self._decays(graph, parameter):
            return gradient
        pull = graph.emit("Mul", parameter, graph.scalar(self.weight_decay, parameter))
        return graph.emit("Add", gradient, pull)

    def _shrunk(self, graph: GraphBuilder, parameter: str) -> str:
        """The parameter less learning rate x weight decay x parameter."""
        if not self._decays(graph, parameter):
            return parameter
        share = graph.emit("Mul", LEARNING_RATE, graph.scalar(self.weight_decay, LEARNING_RATE))
        return graph.emit("Sub", parameter, graph.emit("Mul", share, parameter))


class Sgd(_Optimizer):
    """Stochastic gradient descent with momentum: m = momentum m + g; p = p - learning_rate m.

    With `nesterov` the step looks ahead (I. Sutskever et al., 2013): p = p - learning_rate (g + momentum m).
    """

    name: Literal["sgd"] = "sgd"
    momentum: Share = 0.9
    nesterov: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """What it remembers for each parameter."""
        return ("momentum",)

    def emit(self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]) -> dict[str, str]:
        """Emit one update.

        Args:
            graph: With the inputs `learning_rate` and `step`, float32 [].
            parameter: The tensor to update.
            gradient: The loss's gradient with respect to it.
            slots: What it remembers, tensors of the parameter's shape, 0 at first.

        Returns:
            The new tensors: "parameter" and each slot.
        """
        gradient = self._with_decay(graph, parameter, gradient)
        factor = graph.scalar(self.momentum, parameter)
        momentum = graph.emit("Add", graph.emit("Mul", slots["momentum"], factor), gradient)
        way = graph.emit("Add", gradient, graph.emit("Mul", momentum, factor)) if self.nesterov else momentum
        change = graph.emit("Mul", way, LEARNING_RATE)
        return {"parameter": graph.emit("Sub", parameter, change), "momentum": momentum}


class _Adam(_Optimizer):
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """What it remembers for each parameter."""
        return ("m", "v")

    def _update(
        self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """What to subtract from a parameter, and the new slots.

        lr m^ / (sqrt(v^) + epsilon) with m^ = m / c1, v^ = v / c2 is computed as
        (lr sqrt(c2) / c1) m / (sqrt(v) + epsilon sqrt(c2)), which takes fewer passes over the parameter.
        """
        m = _average(graph, slots["m"], gradient, self.beta1)
        v = _average(graph, slots["v"], graph.emit("Mul", gradient, gradient), self.beta2)
        first, second = self._correction(graph, self.beta1), graph.emit("Sqrt", self._correction(graph, self.beta2))
        rate = graph.emit("Div", graph.emit("Mul", LEARNING_RATE, second), first)
        floor = graph.emit("Mul", second, graph.scalar(self.epsilon, second))
        scale = graph.emit("Add", graph.emit("Sqrt", v), floor)
        return graph.emit("Div", graph.emit("Mul", m, rate), scale), {"m": m, "v": v}

    @staticmethod
    def _correction(graph: GraphBuilder, beta: float) -> str:
        """1 - beta^(step + 1). In double precision: at the first steps it is a small difference of numbers near 1."""
        step = graph.emit("Cast", STEP, to=TensorProto.DOUBLE)
        count = graph.emit("Add", step, graph.scalar(1, step))
        power = graph.emit("Pow", graph.scalar(beta, step), count)
        return graph.emit("Cast", graph.emit("Sub", graph.scalar(1, step), power), to=TensorProto.FLOAT)


class Adam(_Adam):
    """Adam (D. Kingma and J. Ba, 2015) with bias correction; weight decay is part of the gradient."""

    name: Literal["adam"] = "adam"

    def emit(self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]) -> dict[str, str]:
        """Emit one update; arguments and result as for `Sgd.emit`."""
        change, new = self._update(graph, parameter, self._with_decay(graph, parameter, gradient), slots)
        return {"parameter": graph.emit("Sub", parameter, change), **new}


class AdamW(_Adam):
    """Adam with decoupled weight decay: p = p - learning_rate weight_decay p - Adam's change."""

    name: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01

    def emit(self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]) -> dict[str, str]:
        """Emit one update; arguments and result as for `Sgd.emit`."""
        change, new = self._update(graph, parameter, gradient, slots)
        return {"parameter": graph.emit("Sub", self._shrunk(graph, parameter), change), **new}


class Lion(_Optimizer):
    """Lion (X. Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023): every weight moves equally far.

    p = p - learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay p); then m = beta2 m + (1 - beta2) g. Its
    learning rate is 3 to 10 times smaller than Adam's, its weight decay as many times larger.
    """

    name: Literal["lion"] = "lion"
    beta1: Share = 0.9
    beta2: Share = 0.99
    weight_decay: Annotated[float, Field(ge=0)] = 0.1

    @property
    def slots(self) -> tuple[str, ...]:
        """What it remembers for each parameter."""
        return ("m",)

    def emit(self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]) -> dict[str, str]:
        """Emit one update; arguments and result as for `Sgd.emit`."""
        direction = graph.emit("Sign", _average(graph, slots["m"], gradient, self.beta1))
        change = graph.emit("Mul", direction, LEARNING_RATE)
        return {
            "parameter": graph.emit("Sub", self._shrunk(graph, parameter), change),
            "m": _average(graph, slots["m"], gradient, self.beta2),
        }


Optimizer = Annotated[Sgd | Adam | AdamW | Lion, Field(discriminator="name")]


def decays(parameter: str, rank: int) -> bool:
    """Whether weight decay applies: to weights, not to biases and what normalisations scale and shift by.

    Args:
        parameter: Its name; a recurrent layer's bias has two dimensions, so the rank alone doesn't tell.
        rank: Its number of dimensions; vectors and scalars don't decay.
    """
    *layers, last = parameter.lower().split(".")
    return rank >= 2 and "bias" not in last and not any("norm" in part for part in (*layers, last))


def clip_by_global_norm(graph: GraphBuilder, gradients: Mapping[str, str], longest: float) -> dict[str, str]:
    """Emit scaled gradients, of global norm at most `longest` (R. Pascanu et al., 2013).

    Args:
        graph: Where to emit.
        gradients: Parameter -> its gradient, at least one.
        longest: The norm, over all gradients together, above which they are scaled by longest / (norm + 1e-6).
    """
    squares = [graph.emit("ReduceSumSquare", gradient, keepdims=0) for gradient in gradients.values()]
    norm = graph.emit("Sqrt", graph.emit("Sum", *squares))
    allowed = graph.emit("Div", graph.scalar(longest, norm), graph.emit("Add", norm, graph.scalar(_NORM_FLOOR, norm)))
    scale = graph.emit("Min", allowed, graph.scalar(1, norm))
    return {name: graph.emit("Mul", gradient, scale) for name, gradient in gradients.items()}


def _average(graph: GraphBuilder, old: str, new: str, beta: float) -> str:
    """beta old + (1 - beta) new."""
    kept = graph.emit("Mul", old, graph.scalar(beta, old))
    return graph.emit("Add", kept, graph.emit("Mul", new, graph.scalar(1 - beta, new)))
