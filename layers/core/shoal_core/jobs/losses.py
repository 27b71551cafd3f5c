"""The losses of graphs/losses.py in PyTorch, summed over samples: a batch may be cut over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shoal_core.errors import BadConfig
from shoal_core.training.gradients import counted as samples_counted
from shoal_core.training.settings import TrainingSettings

_LEAST_DOUBT = 1e-7
_USUAL = {
    "anomaly": "reconstruction",
    "classification": "cross_entropy",
    "multilabel": "binary",
    "regression": "squared",
}


def counted(settings: TrainingSettings, target: NDArray[Any]) -> int:
    """Over how many samples of a batch the loss is a mean; nothing is learnt from known anomalies."""
    return max(1, samples_counted(settings, target))


def loss_sum(settings: TrainingSettings, output: Tensor, target: Tensor) -> Tensor:
    """The loss of a batch, added up over its samples.

    Args:
        settings: Of the run.
        output: `logits` [N, classes], `prediction` [N, 1] or `score` [N, 1].
        target: int64 [N]; float32 [N, classes] for several labels and mixed samples; float32 [N] in its own units.

    Raises:
        BadConfig: The run has a loss that a job doesn't know.
    """
    name = settings.loss or _USUAL[settings.task]
    config = settings.loss_config
    weights = torch.tensor(config["class_weights"], device=output.device) if config.get("class_weights") else None
    if name == "cross_entropy":
        return _cross_entropy(output, _shares(output, target), float(config.get("label_smoothing", 0.0)), weights)
    if name == "focal":
        return _focal(output, target, float(config.get("gamma", 2.0)), weights)
    if name == "binary":
        positive = target if weights is None else target * weights
        losses = positive * F.softplus(-output) + (1 - target) * F.softplus(output)
        return losses.mean(1).sum()
    if name == "reconstruction":
        return (output[:, 0] * (target == 0)).sum()
    away = output[:, 0] - (target - settings.target_mean) / settings.target_std
    if name == "squared":
        return (away * away).sum()
    if name == "absolute":
        return away.abs().sum()
    if name == "huber":
        return F.huber_loss(away, torch.zeros_like(away), reduction="sum", delta=float(config.get("delta", 1.0)))
    raise BadConfig(f"A SageMaker job doesn't know the loss {name!r}.", "Train with compute: lambda.")


def _shares(output: Tensor, target: Tensor) -> Tensor:
    if target.ndim == 2:
        return target
    return F.one_hot(target, output.shape[1]).to(output.dtype)


def _cross_entropy(output: Tensor, truth: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    wanted = truth * (1 - smoothing) + smoothing / output.shape[1]
    if weights is not None:
        wanted = wanted * weights
    return -(torch.log_softmax(output, 1) * wanted).sum()


def _focal(output: Tensor, target: Tensor, gamma: float, weights: Tensor | None) -> Tensor:
    log_p = torch.log_softmax(output, 1).gather(1, target[:, None])[:, 0]
    doubt = (1 - log_p.exp()).clamp(min=_LEAST_DOUBT)
    losses = -doubt.pow(gamma) * log_p
    return (losses if weights is None else losses * weights[target]).sum()
