"""Optimizers as graph fragments: from a parameter, its gradient and its slots to their new values.

Decoupled weight decay (Loshchilov and Hutter, 2019): the parameter shrinks by learning rate x weight decay, apart from
the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.graphs.builder import GraphBuilder

LEARNING_RATE = "learning_rate"
STEP = "step"
STATE = "state."

Share = Annotated[float, Field(ge=0, lt=1)]


class _Optimizer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    def _decayed(self, graph: GraphBuilder, parameter: str) -> str:
        if self.weight_decay == 0:
            return parameter
        shrink = graph.emit("Mul", LEARNING_RATE, graph.scalar(self.weight_decay, LEARNING_RATE))
        return graph.emit("Sub", parameter, graph.emit("Mul", shrink, parameter))


class Sgd(_Optimizer):
    """Stochastic gradient descent with momentum: m = momentum m + g; p = p - learning_rate m."""

    name: Literal["sgd"] = "sgd"
    momentum: Share = 0.9

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
        kept = graph.emit("Mul", slots["momentum"], graph.scalar(self.momentum, parameter))
        momentum = graph.emit("Add", kept, gradient)
        change = graph.emit("Mul", momentum, LEARNING_RATE)
        return {"parameter": graph.emit("Sub", self._decayed(graph, parameter), change), "momentum": momentum}


class Adam(_Optimizer):
    """Adam (Kingma and Ba, 2015) with bias correction; with weight decay it is AdamW."""

    name: Literal["adam"] = "adam"
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """What it remembers for each parameter."""
        return ("m", "v")

    def emit(self, graph: GraphBuilder, parameter: str, gradient: str, slots: Mapping[str, str]) -> dict[str, str]:
        """Emit one update; arguments and result as for `Sgd.emit`.

        p - lr m^ / (sqrt(v^) + epsilon) with m^ = m / c1, v^ = v / c2 is computed as
        p - (lr sqrt(c2) / c1) m / (sqrt(v) + epsilon sqrt(c2)), which takes fewer passes over the parameter.
        """
        m = self._average(graph, slots["m"], gradient, self.beta1)
        v = self._average(graph, slots["v"], graph.emit("Mul", gradient, gradient), self.beta2)
        first, second = self._correction(graph, self.beta1), graph.emit("Sqrt", self._correction(graph, self.beta2))
        rate = graph.emit("Div", graph.emit("Mul", LEARNING_RATE, second), first)
        floor = graph.emit("Mul", second, graph.scalar(self.epsilon, second))
        scale = graph.emit("Add", graph.emit("Sqrt", v), floor)
        change = graph.emit("Div", graph.emit("Mul", m, rate), scale)
        return {"parameter": graph.emit("Sub", self._decayed(graph, parameter), change), "m": m, "v": v}

    @staticmethod
    def _average(graph: GraphBuilder, old: str, new: str, beta: float) -> str:
        kept = graph.emit("Mul", old, graph.scalar(beta, old))
        return graph.emit("Add", kept, graph.emit("Mul", new, graph.scalar(1 - beta, new)))

    @staticmethod
    def _correction(graph: GraphBuilder, beta: float) -> str:
        """1 - beta^(step + 1). In double precision: at the first steps it is a small difference of numbers near 1."""
        step = graph.emit("Cast", STEP, to=TensorProto.DOUBLE)
        count = graph.emit("Add", step, graph.scalar(1, step))
        power = graph.emit("Pow", graph.scalar(beta, step), count)
        return graph.emit("Cast", graph.emit("Sub", graph.scalar(1, step), power), to=TensorProto.FLOAT)


Optimizer = Annotated[Sgd | Adam, Field(discriminator="name")]
