"""Loss functions: the mean over the batch, and its gradient in closed form where that is shorter and more accurate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.signature import Anomaly, Classification, Multilabel, Task

TARGET = "target"

# Keeps (1 - p)^gamma / (1 - p) finite where p rounds to 1.
_LEAST_DOUBT = 1e-7


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
    """Softmax cross-entropy of `logits` [N, classes] with `target` int64 [N], class indices.

    A sample's loss is -sum_c q_c log softmax(logits)_c with q_c = weight_c ((1 - smoothing) onehot(target)_c +
    smoothing / classes). The mean divides by N, where PyTorch's divides by the batch's sum of weights: that would undo
    the weights in small batches, and make the result depend on how samples are spread over workers.

    Args:
        class_weights: One per class; empty weighs all classes 1.
        label_smoothing: In [0, 1) (C. Szegedy et al., 2016).
        soft: The target is float32 [N, classes], shares that sum to 1, as mixing samples makes them.
    """

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    soft: bool = False

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of -sum q log softmax(logits). Gradient: (softmax(logits) sum(q) - q) / N."""
        wanted = truth = _all_classes(graph, output) if self.soft else _one_hot(graph, output)
        classes = graph.shape(output)[1]
        if self.label_smoothing:
            kept = graph.emit("Mul", truth, graph.scalar(1 - self.label_smoothing, output))
            wanted = graph.emit("Add", kept, graph.scalar(self.label_smoothing / int(classes), output))
        if self.class_weights:
            wanted = graph.emit("Mul", wanted, _weights(graph, self.class_weights, output))
        log_probabilities = graph.emit("LogSoftmax", output, axis=-1)
        batch = _batch_size(graph, output)
        total = graph.emit("ReduceSum", graph.emit("Mul", log_probabilities, wanted), keepdims=0)
        value = graph.emit("Neg", graph.emit("Div", total, batch))
        probabilities = graph.emit("Exp", log_probabilities)
        if self.class_weights:  # else q sums to 1
            probabilities = graph.emit("Mul", probabilities, graph.emit("ReduceSum", wanted, graph.integers(1)))
        gradient = graph.emit("Div", graph.emit("Sub", probabilities, wanted), batch)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


@dataclass(frozen=True)
class Focal:
    """Focal loss (T.-Y. Lin et al., 2017): cross-entropy that cares less for what is already told apart.

    With p the probability of the sample's class: -weight (1 - p)^gamma log p. Shapes and mean as for `CrossEntropy`.

    Args:
        gamma: 0 is cross-entropy; the paper's is 2.
        class_weights: One per class; empty weighs all classes 1.
    """

    gamma: float = 2.0
    class_weights: tuple[float, ...] = ()

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Gradient: weight ((1 - p)^gamma - gamma (1 - p)^(gamma - 1) p log p) (softmax(logits) - onehot) / N."""
        truth = _one_hot(graph, output)
        log_probabilities = graph.emit("LogSoftmax", output, axis=-1)
        probabilities = graph.emit("Exp", log_probabilities)
        batch = _batch_size(graph, output)
        column = graph.integers(1)
        log_p = graph.emit("ReduceSum", graph.emit("Mul", log_probabilities, truth), column)
        p = graph.emit("Exp", log_p)
        doubt = graph.emit("Max", graph.emit("Sub", graph.scalar(1, output), p), graph.scalar(_LEAST_DOUBT, output))
        gamma = graph.scalar(self.gamma, output)
        factor = graph.emit("Pow", doubt, gamma)
        if self.class_weights:
            weights = graph.emit("Mul", truth, _weights(graph, self.class_weights, output))
            factor = graph.emit("Mul", factor, graph.emit("ReduceSum", weights, column))
        losses = graph.emit("Mul", factor, log_p)
        value = graph.emit("Neg", graph.emit("Div", graph.emit("ReduceSum", losses, keepdims=0), batch))
        ratio = graph.emit("Div", graph.emit("Mul", graph.emit("Mul", gamma, p), losses), doubt)
        slope = graph.emit("Div", graph.emit("Sub", factor, ratio), batch)
        gradient = graph.emit("Mul", graph.emit("Sub", probabilities, truth), slope)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


@dataclass(frozen=True)
class Binary:
    """Sigmoid cross-entropy of `logits` [N, classes] with `target` float32 [N, classes], 1 where a class applies.

    A sample's loss is the mean over the classes of w y softplus(-x) + (1 - y) softplus(x), which overflows for no x.

    Args:
        class_weights: The w of each class, how much more its presence counts than its absence; empty is 1 for all.
    """

    class_weights: tuple[float, ...] = ()

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Gradient: ((1 - y) sigmoid(x) - w y sigmoid(-x)) / (N classes)."""
        truth = _all_classes(graph, output)
        positive = truth
        if self.class_weights:
            positive = graph.emit("Mul", truth, _weights(graph, self.class_weights, output))
        negative = graph.emit("Sub", graph.scalar(1, output), truth)
        against = graph.emit("Neg", output)
        entries = graph.emit("Mul", _batch_size(graph, output), graph.scalar(float(graph.shape(output)[1]), output))
        parts = [
            graph.emit("Mul", positive, _softplus(graph, against)),
            graph.emit("Mul", negative, _softplus(graph, output)),
        ]
        value = graph.emit("Div", graph.emit("ReduceSum", graph.emit("Add", *parts), keepdims=0), entries)
        up = graph.emit("Mul", negative, graph.emit("Sigmoid", output))
        down = graph.emit("Mul", positive, graph.emit("Sigmoid", against))
        gradient = graph.emit("Div", graph.emit("Sub", up, down), entries)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


@dataclass(frozen=True)
class _Regression:
    """Of `prediction` [N, 1], in standardised units, with `target` float32 [N], in original units.

    Args:
        target_mean: What the target is reduced by, in its own units.
        target_std: What it is divided by then; 0 counts as 1 (a constant target).
    """

    target_mean: float = 0.0
    target_std: float = 1.0

    def _difference(self, graph: GraphBuilder, output: str) -> str:
        """prediction - (target - mean) / std."""
        target = graph.input(TARGET, TensorProto.FLOAT, (BATCH,))
        column = graph.emit("Unsqueeze", target, graph.integers(1))
        centred = graph.emit("Sub", column, graph.scalar(self.target_mean, output))
        standardised = graph.emit("Div", centred, graph.scalar(self.target_std or 1.0, output))
        return graph.emit("Sub", output, standardised)

    @staticmethod
    def _mean(graph: GraphBuilder, output: str, losses: str, slopes: str) -> LossTensors:
        """The mean of the samples' losses, and their slopes over N."""
        batch = _batch_size(graph, output)
        value = graph.emit("Div", graph.emit("ReduceSum", losses, keepdims=0), batch)
        return LossTensors(value, graph.refine(graph.emit("Div", slopes, batch), graph.shape(output)))


@dataclass(frozen=True)
class SquaredError(_Regression):
    """Squared error of `prediction` [N, 1], in standardised units, with `target` float32 [N], in original units.

    Args:
        target_mean: What the target is reduced by, in its own units.
        target_std: What it is divided by then; 0 counts as 1 (a constant target).
    """

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of (prediction - (target - mean) / std)^2. Gradient: 2 (prediction - ...) / N."""
        difference = self._difference(graph, output)
        losses = graph.emit("Mul", difference, difference)
        return self._mean(graph, output, losses, graph.emit("Mul", difference, graph.scalar(2, output)))


@dataclass(frozen=True)
class AbsoluteError(_Regression):
    """Absolute error, for targets with outliers: it learns the median. Shapes and units as for `SquaredError`."""

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of |difference|. Gradient: sign(difference) / N, 0 at 0."""
        difference = self._difference(graph, output)
        return self._mean(graph, output, graph.emit("Abs", difference), graph.emit("Sign", difference))


@dataclass(frozen=True)
class Huber(_Regression):
    """Huber's loss (P. Huber, 1964): squared near 0, absolute further out. Shapes and units as for `SquaredError`.

    Args:
        target_mean: What the target is reduced by, in its own units.
        target_std: What it is divided by then; 0 counts as 1 (a constant target).
        delta: Where it turns, in standard deviations of the target.
    """

    delta: float = 1.0

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2). Gradient: clip(d) / N."""
        difference = self._difference(graph, output)
        delta = graph.scalar(self.delta, output)
        slopes = graph.emit("Max", graph.emit("Min", difference, delta), graph.scalar(-self.delta, output))
        # With c = clip(d): c (d - c / 2) is d^2 / 2 inside and delta (|d| - delta / 2) outside.
        inner = graph.emit("Sub", difference, graph.emit("Mul", slopes, graph.scalar(0.5, output)))
        return self._mean(graph, output, graph.emit("Mul", slopes, inner), slopes)


@dataclass(frozen=True)
class Reconstruction:
    """The mean of `score` [N, 1], what a network that rebuilds its input misses of it.

    `target` int64 [N] is 1 where a sample is known to be an anomaly: nothing is learnt from those, so the mean is over
    the others (0 where there are none).
    """

    def emit(self, graph: GraphBuilder, output: str) -> LossTensors:
        """Value: sum of the scores of samples with target 0, over their number. Gradient: 1 over it, or 0."""
        target = graph.input(TARGET, TensorProto.INT64, (BATCH,))
        zero = graph.constant(np.asarray(0, dtype=np.int64))
        ordinary = graph.emit("Cast", graph.emit("Equal", target, zero), to=graph.element_type(output))
        column = graph.emit("Unsqueeze", ordinary, graph.integers(1))
        count = graph.emit("Max", graph.emit("ReduceSum", ordinary, keepdims=0), graph.scalar(1, output))
        value = graph.emit("Div", graph.emit("ReduceSum", graph.emit("Mul", output, column), keepdims=0), count)
        gradient = graph.emit("Div", column, count)
        return LossTensors(value, graph.refine(gradient, graph.shape(output)))


_CLASSIFICATION: dict[str, type[CrossEntropy | Focal]] = {"cross_entropy": CrossEntropy, "focal": Focal}
_MULTILABEL: dict[str, type[Binary]] = {"binary": Binary}
_REGRESSION: dict[str, type[SquaredError | AbsoluteError | Huber]] = {
    "squared": SquaredError,
    "absolute": AbsoluteError,
    "huber": Huber,
}


def loss_for(task: Task, name: str | None = None, config: Mapping[str, Any] | None = None) -> Loss:
    """The loss that fits a task.

    Args:
        task: What is learnt.
        name: `cross_entropy` or `focal` for classification; `binary` for several labels; `squared`, `absolute` or
            `huber` for regression; `reconstruction` for anomalies. None is the first.
        config: Its arguments, except the target's mean and standard deviation, which the task has.

    Raises:
        KeyError: The task has no such loss.
    """
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in (config or {}).items()
    }
    if isinstance(task, Classification):
        return _CLASSIFICATION[name or "cross_entropy"](**arguments)
    if isinstance(task, Multilabel):
        return _MULTILABEL[name or "binary"](**arguments)
    if isinstance(task, Anomaly):
        return {"reconstruction": Reconstruction}[name or "reconstruction"](**arguments)
    return _REGRESSION[name or "squared"](task.mean, task.std, **arguments)


def _one_hot(graph: GraphBuilder, output: str) -> str:
    """Declare the target; 1 at each sample's class, else 0: [N, classes]."""
    target = graph.input(TARGET, TensorProto.INT64, (BATCH,))
    depth = graph.constant(np.asarray(graph.shape(output)[1], dtype=np.int64))
    off_on = graph.constant(np.asarray([0, 1], dtype=graph.dtype(output)))
    return graph.emit("OneHot", target, depth, off_on, axis=-1)


def _all_classes(graph: GraphBuilder, output: str) -> str:
    """Declare the target as one number for each class: [N, classes]."""
    return graph.input(TARGET, TensorProto.FLOAT, (BATCH, graph.shape(output)[1]))


def _softplus(graph: GraphBuilder, x: str) -> str:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    small = graph.emit("Exp", graph.emit("Neg", graph.emit("Abs", x)))
    rest = graph.emit("Log", graph.emit("Add", graph.scalar(1, x), small))
    return graph.emit("Add", graph.emit("Relu", x), rest)


def _weights(graph: GraphBuilder, weights: tuple[float, ...], output: str) -> str:
    """The weights of the classes as a row."""
    return graph.constant(np.asarray(weights, dtype=graph.dtype(output)))


def _batch_size(graph: GraphBuilder, output: str) -> str:
    """N as a float scalar."""
    return graph.emit("Cast", graph.size_of(output, [0]), to=graph.element_type(output))
