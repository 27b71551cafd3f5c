"""Loss functions: the mean over the batch, and its gradient in closed form where that is shorter and more accurate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.signature import Classification, Task

TARGET = "target"


@dataclass(frozen=True)
class LossTensors:
    """Names of what a loss emitted: its value, float32 [], and its gradient with respect to the network's output."""

    value: str
    gradient: str


class Loss(Protocol):
    """Something that can be minimised."""

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Declare the input `target`, and emit the loss of a network's output."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy of `logits` [N, classes] with `target` int64 [N], class indices."""

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of -log softmax(logits)[target]. Gradient: (softmax(logits) - onehot(target)) / N."""
        target = graph.input(TARGET, TensorProto.INT64, (BATCH,))
        classes = graph.shape(output)[1]
        depth = graph.constant(np.asarray(classes, dtype=np.int64))
        off_on = graph.constant(np.asarray([0, 1], dtype=graph.dtype(output)))
        truth = graph.emit("OneHot", target, depth, off_on, axis=-1)
        log_probabilities = graph.emit("LogSoftmax", output, axis=-1)
        batch = _batch_size(graph, output)
        total = graph.emit("ReduceSum", graph.emit("Mul", log_probabilities, truth), keepdims=0)
        value = graph.emit("Neg", graph.emit("Div", total, batch))
        difference = graph.emit("Sub", graph.emit("Exp", log_probabilities), truth)
        gradient = graph.emit("Div", difference, batch)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


@dataclass(frozen=True)
class SquaredError:
    """Squared error of `prediction` [N, 1], in standardised units, with `target` float32 [N], in original units.

    Args:
        target_mean: What the target is reduced by, in its own units.
        target_std: What it is divided by then; 0 counts as 1 (a constant target).
    """

    target_mean: float = 0.0
    target_std: float = 1.0

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of (prediction - (target - mean) / std)^2. Gradient: 2 (prediction - ...) / N."""
        target = graph.input(TARGET, TensorProto.FLOAT, (BATCH,))
        column = graph.emit("Unsqueeze", target, graph.integers(1))
        centred = graph.emit("Sub", column, graph.scalar(self.target_mean, output))
        standardised = graph.emit("Div", centred, graph.scalar(self.target_std or 1.0, output))
        difference = graph.emit("Sub", output, standardised)
        batch = _batch_size(graph, output)
        total = graph.emit("ReduceSum", graph.emit("Mul", difference, difference), keepdims=0)
        value = graph.emit("Div", total, batch)
        doubled = graph.emit("Mul", difference, graph.scalar(2, output))
        gradient = graph.emit("Div", doubled, batch)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


def loss_for(task: Task) -> Loss:
    """The loss that fits a task."""
    if isinstance(task, Classification):
        return CrossEntropy()
    return SquaredError(task.mean, task.std)


def _batch_size(graph: GraphBuilder, output: str) -> str:
    """N as a float scalar."""
    return graph.emit("Cast", graph.size_of(output, [0]), to=graph.element_type(output))
