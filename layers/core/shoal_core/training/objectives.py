"""What a run minimises and how its steps are sized: loss, optimizer and schedule, resolved from `dataset.yaml`."""

from __future__ import annotations

import math
from typing import Any, Literal

from shoal_core.data.config import TrainingConfig
from shoal_core.data.config_types import Loss, Optimizer, Schedule, Task
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen

DECAY_FACTOR = 0.1
MAX_POSITIVE_WEIGHT = 100.0
"""A rarer label would let single samples decide a step."""
_DEFAULT_LOSSES: dict[Task, Loss] = {
    "classification": "cross_entropy",
    "multilabel": "binary",
    "regression": "squared",
    "anomaly": "reconstruction",
}
_LOSSES: dict[Task, tuple[Loss, ...]] = {
    "classification": ("cross_entropy", "focal"),
    "multilabel": ("binary",),
    "regression": ("squared", "absolute", "huber"),
    "anomaly": ("reconstruction",),
}
_DEFAULT_GAMMA, _DEFAULT_DELTA = 2.0, 1.0

# Fields that mean something only together with certain values of another one.
_BELONGS: dict[str, tuple[Literal["optimizer", "loss", "schedule"], tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "class_weights": ("loss", ("cross_entropy", "focal", "binary")),
    "label_smoothing": ("loss", ("cross_entropy",)),
    "focal_gamma": ("loss", ("focal",)),
    "huber_delta": ("loss", ("huber",)),
    "decay_factor": ("schedule", ("step", "plateau")),
    "decay_rounds": ("schedule", ("step", "plateau")),
}


class Objective(Frozen):
    """Loss, optimizer and schedule of a run; `optimizer_config` holds what was asked for only."""

    loss: Loss
    loss_config: dict[str, Any]
    optimizer_config: dict[str, Any]
    schedule: Schedule
    decay_factor: float
    decay_rounds: int
    patience: int


def resolve_objective(training: TrainingConfig, optimizer: Optimizer, rounds: int, manifest: Manifest) -> Objective:
    """Fill in what the user left out.

    Args:
        training: What was asked for.
        optimizer: The run's.
        rounds: The run's.
        manifest: The dataset version: the task, and the classes' training samples.

    Raises:
        BadConfig: The loss doesn't fit the task, or a field means nothing with the run's optimizer, loss or schedule.
    """
    task = manifest.spec.target.task
    loss = training.loss or _DEFAULT_LOSSES[task]
    if loss not in _LOSSES[task]:
        raise BadConfig(f"dataset.yaml: training.loss: {loss} isn't for {task}.", f"Use {' or '.join(_LOSSES[task])}.")
    schedule = training.schedule or "cosine"
    _require_meaning(training, {"optimizer": optimizer, "loss": loss, "schedule": schedule})
    asked = training.model_dump(include={"momentum", "nesterov", "weight_decay", "clip_norm"}, exclude_none=True)
    patience = training.patience if training.patience is not None else max(3, math.ceil(rounds / 2))
    return Objective(
        loss=loss,
        loss_config=_loss_config(training, loss, manifest),
        optimizer_config=asked,
        schedule=schedule,
        decay_factor=training.decay_factor or DECAY_FACTOR,
        decay_rounds=training.decay_rounds or _decay_rounds(schedule, rounds, patience),
        patience=patience,
    )


def balanced_weights(samples: list[int]) -> list[float]:
    """Weights that let every class count equally, and the mean training sample count 1.

    Args:
        samples: Training samples by class; a class without any gets 1.
    """
    present = sum(1 for count in samples if count)
    return [sum(samples) / (present * count) if count else 1.0 for count in samples]


def positive_weights(counts: list[int], samples: int) -> list[float]:
    """Weights that let a label's presence count as much as its absence, up to `MAX_POSITIVE_WEIGHT`.

    Args:
        counts: Training samples by label; a label without any gets 1.
        samples: All training samples.
    """
    return [min(MAX_POSITIVE_WEIGHT, (samples - count) / count) if 0 < count < samples else 1.0 for count in counts]


def _require_meaning(training: TrainingConfig, chosen: dict[str, str]) -> None:
    for field, (setting, allowed) in _BELONGS.items():
        if getattr(training, field) is not None and chosen[setting] not in allowed:
            raise BadConfig(
                f"dataset.yaml: training.{field} means nothing with {setting} {chosen[setting]}.",
                f"Leave it out, or set training.{setting} to {' or '.join(allowed)}.",
            )
    if training.ema is not None and training.swa is not None:
        raise BadConfig(
            "dataset.yaml: training.ema and training.swa can't both say which average is served.", "Leave one out."
        )
    if training.nesterov and training.momentum == 0:
        raise BadConfig("dataset.yaml: training.nesterov needs momentum.", "Leave training.momentum out: it is 0.9.")


def _loss_config(training: TrainingConfig, loss: Loss, manifest: Manifest) -> dict[str, Any]:
    """The loss's arguments."""
    config: dict[str, Any] = {}
    if training.class_weights == "balanced":
        counts = [manifest.statistics.classes.get(label, 0) for label in manifest.spec.target.classes]
        several = manifest.spec.target.task == "multilabel"
        config["class_weights"] = (
            positive_weights(counts, manifest.statistics.samples) if several else balanced_weights(counts)
        )
    if training.label_smoothing:
        config["label_smoothing"] = training.label_smoothing
    if loss == "focal":
        config["gamma"] = _DEFAULT_GAMMA if training.focal_gamma is None else training.focal_gamma
    if loss == "huber":
        config["delta"] = training.huber_delta or _DEFAULT_DELTA
    return config


def _decay_rounds(schedule: Schedule, rounds: int, patience: int) -> int:
    """Steps: three stretches of equal length. Plateau: soon enough to help before the run is stopped early."""
    if schedule == "plateau":
        return max(1, (patience or rounds) // 3)
    return max(1, math.ceil(rounds / 3))
