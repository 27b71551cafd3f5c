"""The resolved settings of a run: what the user asked for, and what was inferred from the data for the rest."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import Compression, Loss, LostWorkers, Optimizer, Recipe, Schedule, Split, Task
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig, BadDataset, BadInput
from shoal_core.training.augmentation import Augmentation, resolve_augmentation
from shoal_core.training.budgeting import plan_budget
from shoal_core.training.objectives import DECAY_FACTOR, resolve_objective
from shoal_core.training.recipes import epochs_for, require_recipe, steps_in_round, suggest_recipe
from shoal_core.training.states import evaluation_items

MAX_ROUNDS = 500
MAX_VALIDATION_SAMPLES = 10_000
"""Samples of the validation split that score a round; the first ones of the split, in order."""

_DEFAULT_WORKERS = 2
_DEFAULT_ROUNDS = 10
_DEFAULT_OPTIMIZER: Optimizer = "adam"
_LEARNING_RATES: dict[Optimizer, float] = {"adam": 2e-3, "adamw": 2e-3, "sgd": 5e-2, "lion": 3e-4}
# One layer can take larger steps, and has to: its weights travel as far as the answer does. So do embeddings.
_FLAT_LEARNING_RATES: dict[Recipe, dict[Optimizer, float]] = {
    "linear": {"adam": 2e-2, "adamw": 2e-2, "lion": 3e-3},
    "fasttext": {"adam": 4e-3, "adamw": 4e-3},
}
_SLOW_ROUND = 5

# A Standard execution has 25,000 history events, https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html:
# a round takes 7 per worker (the iteration's three, the task's four) and 11 for its Map, merge and choice; each item of
# the evaluation, of which there are at most 40, takes 7 as well. The other stages take 90; the rest of 1,000 is left
# for retries.
_HISTORY_EVENTS = 24_000
_EVENTS_PER_WORKER = 7
_EVENTS_PER_ROUND = 11

_Value = TypeVar("_Value")


class TrainingSettings(BaseModel):
    """`settings.json`: everything that the rounds of a run depend on beside the data.

    `batch_size` is global: each worker's batches have `local_batch_size` = batch_size // workers samples.
    `target_mean` and `target_std` standardise a regression target (0 and 1 for classification). `loss` None is the
    task's usual one; `decay_factor` and `decay_rounds` are the `step` and `plateau` schedules'; a `patience` of 0 never
    stops early; `ema` is the decay of the weights' moving average, `swa` the share of the rounds at the end whose
    weights are averaged equally; `origin` is the run whose weights it began with; `augment` is what is varied, by its
    name in dataset.yaml. Names in `inferred` were chosen by Shoal, and `reasons` say why for some of them; `warnings`
    say what was done differently from what was asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    run_id: str
    dataset: str
    version: str
    manifest_digest: str
    task: Task
    classes: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_std: float = Field(default=1.0, gt=0)
    recipe: Recipe
    recipe_config: dict[str, Any] = {}
    optimizer: Optimizer
    optimizer_config: dict[str, Any] = {}
    learning_rate: float = Field(gt=0)
    loss: Loss | None = None
    loss_config: dict[str, Any] = {}
    schedule: Schedule = "cosine"
    warmup_rounds: float | None = Field(default=None, ge=0)
    decay_factor: float = Field(default=DECAY_FACTOR, gt=0, lt=1)
    decay_rounds: int = Field(default=1, ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    swa: float | None = Field(default=None, gt=0, le=1)
    compression: Compression = "none"
    lost_workers: LostWorkers = "fail"
    origin: str | None = None
    augment: Augmentation = {}
    batch_size: int = Field(ge=1)
    local_batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    steps_per_round: int = Field(ge=1)
    workers: int = Field(ge=1)
    seed: int = Field(ge=0)
    patience: int = Field(ge=0)
    outer_learning_rate: float = Field(default=1.0, gt=0)
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    threads: int = Field(default=1, ge=1)
    validation_split: Split = "validation"
    evaluation_split: Split = "test"
    validation_samples: int = Field(default=MAX_VALIDATION_SAMPLES, ge=1)
    inferred: tuple[str, ...] = ()
    reasons: dict[str, str] = {}
    warnings: tuple[str, ...] = ()

    @property
    def total_steps(self) -> int:
        """Local steps of each worker over the whole run."""
        return self.rounds * self.steps_per_round

    @property
    def warmup_steps(self) -> int:
        """Local steps until the learning rate is at its peak: the first round, or what was asked for."""
        if self.warmup_rounds is not None:
            return min(self.total_steps, math.ceil(self.warmup_rounds * self.steps_per_round))
        # A run of one round would otherwise be all warm-up.
        return self.steps_per_round if self.rounds > 1 else max(1, self.steps_per_round // 10)

    def average_decay(self, round_: int) -> float | None:
        """The say of the average so far when a round's weights join it; None where the round isn't averaged."""
        if self.swa is None:
            return self.ema
        averaged_before = round_ - 1 - (self.rounds - math.ceil(self.swa * self.rounds))
        return averaged_before / (averaged_before + 1) if averaged_before >= 0 else None

    def encode(self) -> bytes:
        """The canonical bytes of `settings.json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> TrainingSettings:
        """Read `settings.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The settings of the run can't be read: {error}.", "Upload the data again.") from error


def shown_settings(settings: TrainingSettings, manifest: Manifest) -> dict[str, Any]:
    """The settings in force as dataset.yaml would say them, and what follows from them: for people, not for workers."""
    spec, config = manifest.spec, manifest.config
    shown: dict[str, Any] = {
        "task": settings.task,
        "target": spec.target.column or "folder",
        "recipe": settings.recipe,
        "seed": settings.seed,
        "split": config.split.model_dump(mode="json"),
        "workers": settings.workers,
        "rounds": settings.rounds,
        "training": _shown_training(settings),
        "steps_per_round": settings.steps_per_round,
        "patience": settings.patience,
        "network": settings.recipe_config,
        "augment": settings.augment or "none",
        "reasons": settings.reasons,
    }
    if "class_weights" in settings.loss_config:
        shown["class_weights"] = dict(zip(settings.classes, settings.loss_config["class_weights"], strict=True))
    if spec.image is not None:
        shown |= {"image_size": [spec.image.height, spec.image.width], "channels": spec.image.channels}
    if spec.table is not None:
        shown["columns"] = list(spec.table.names)
    if spec.sequence is not None:
        shown |= {"columns": list(spec.sequence.names), "window": spec.sequence.window}
    return shown


def _shown_training(settings: TrainingSettings) -> dict[str, Any]:
    """The fields of `training` in dataset.yaml that are in force; those that mean nothing in this run are left out."""
    shown = settings.model_dump(include={"optimizer", "learning_rate", "batch_size", "epochs", "schedule", "patience"})
    optimizer, loss = settings.optimizer_config, settings.loss_config
    shown |= {name: optimizer[name] for name in ("momentum", "nesterov", "weight_decay") if name in optimizer}
    shown["loss"] = settings.loss
    shown["warmup_rounds"] = settings.warmup_steps / settings.steps_per_round
    if settings.schedule in ("step", "plateau"):
        shown |= settings.model_dump(include={"decay_factor", "decay_rounds"})
    if settings.task != "regression":
        shown["class_weights"] = "balanced" if "class_weights" in loss else "none"
    if settings.loss == "cross_entropy":
        shown["label_smoothing"] = loss.get("label_smoothing", 0.0)
    asked = {
        "clip_norm": optimizer.get("clip_norm"),
        "focal_gamma": loss.get("gamma"),
        "huber_delta": loss.get("delta"),
        "ema": settings.ema,
        "swa": settings.swa,
        "warm_start": settings.origin,
        "lost_workers": None if settings.lost_workers == "fail" else settings.lost_workers,
        "compression": None if settings.compression == "none" else settings.compression,
    }
    return shown | {name: value for name, value in asked.items() if value is not None}


def rounds_in_history(workers: int, evaluated: int = 1) -> int:
    """The most rounds that a run may have, so that its execution's history holds them.

    Args:
        workers: Workers of a round.
        evaluated: Items of the evaluation.
    """
    events = _HISTORY_EVENTS - _EVENTS_PER_WORKER * evaluated
    return max(0, min(MAX_ROUNDS, events // (_EVENTS_PER_WORKER * workers + _EVENTS_PER_ROUND)))


def resolve_settings(
    config: DatasetConfig, manifest: Manifest, run_id: str = "run"
) -> tuple[TrainingSettings, list[str]]:
    """Fill in what the user left out, from the data. The hyperparameters of the recipe, and those of the optimizer that
    weren't asked for, stay empty here: they are the graphs' business.

    Args:
        config: What was asked for.
        manifest: The committed dataset version.
        run_id: The run.

    Returns:
        The settings, and the names of the inferred ones, as in dataset.yaml (`training.epochs`): first those that
        planning inferred, then these.

    Raises:
        BadDataset: No training samples, or fewer than two classes among them.
        BadConfig: The recipe doesn't fit the data, or the epochs don't fit the rounds' time.
    """
    _require_learnable(manifest)
    chosen = _Choices()
    training = config.training
    recipe, usual_epochs = _recipe(config, manifest, chosen)
    optimizer = chosen.pick("training.optimizer", training.optimizer, _DEFAULT_OPTIMIZER)
    learning_rate = chosen.pick("training.learning_rate", training.learning_rate, _learning_rate(recipe, optimizer))
    samples = manifest.samples["train"]
    batch_size = min(samples, chosen.pick("training.batch_size", training.batch_size, _batch_size(samples)))
    workers = _workers(config, len(manifest.train), batch_size, chosen)
    local_batch_size = batch_size // workers
    epochs = chosen.pick("training.epochs", training.epochs, usual_epochs)
    total_steps = math.ceil(epochs * samples / (local_batch_size * workers))
    most_steps = steps_in_round(recipe, manifest.spec, local_batch_size)
    needed = max(min(_DEFAULT_ROUNDS, total_steps), math.ceil(total_steps / most_steps))
    rounds = chosen.pick("rounds", config.rounds, needed)
    validation_split, evaluation_split = _held_out(manifest, chosen)
    most_rounds = rounds_in_history(workers, evaluation_items(manifest, evaluation_split))
    if rounds > most_rounds:
        asked = "" if config.rounds else f" ({epochs} epochs over {samples:,} samples need that many)"
        raise BadConfig(
            f"{rounds:,} rounds{asked} are too many: with {workers} workers a run has at most {most_rounds}.",
            "Lower rounds, workers or training.epochs in dataset.yaml, or use a smaller image_size.",
        )
    steps_per_round = math.ceil(total_steps / rounds)
    if steps_per_round > _SLOW_ROUND * most_steps:
        chosen.warnings.append(
            f"A round of {steps_per_round:,} steps may outlast a function's 15 minutes: {needed} rounds would be safe."
        )
    objective = resolve_objective(training, optimizer, rounds, manifest)
    if training.warmup_rounds is not None and training.warmup_rounds >= rounds:
        chosen.warnings.append(f"The learning rate warms up during all {rounds} rounds; its peak is the last step.")
    if objective.schedule == "plateau" and 0 < objective.patience <= objective.decay_rounds:
        chosen.warnings.append("The run is stopped early before a plateau lowers the learning rate: raise patience.")
    augment = _augmentation(manifest, epochs, objective.loss, recipe, chosen)
    target = manifest.statistics.target if manifest.spec.target.task == "regression" else None
    settings = TrainingSettings(
        run_id=run_id,
        dataset=manifest.dataset,
        version=manifest.version,
        manifest_digest=manifest.digest,
        task=manifest.spec.target.task,
        classes=manifest.spec.target.classes,
        target_mean=target.mean if target else 0.0,
        target_std=target.std if target and target.std > 0 else 1.0,
        recipe=recipe,
        optimizer=optimizer,
        learning_rate=learning_rate,
        warmup_rounds=training.warmup_rounds,
        ema=training.ema,
        swa=training.swa,
        compression=training.compression or "none",
        lost_workers=training.lost_workers or "fail",
        augment=augment,
        batch_size=batch_size,
        local_batch_size=local_batch_size,
        epochs=epochs,
        rounds=rounds,
        steps_per_round=steps_per_round,
        workers=workers,
        seed=config.seed,
        validation_split=validation_split,
        evaluation_split=evaluation_split,
        inferred=tuple(dict.fromkeys((*manifest.inferred, *chosen.inferred))),
        reasons=chosen.reasons,
        warnings=tuple(chosen.warnings),
        **dict(objective),
    )
    return settings, list(settings.inferred)


class _Choices:
    """Collects what was inferred and why, and what was changed."""

    def __init__(self) -> None:
        self.inferred: list[str] = []
        self.warnings: list[str] = []
        self.reasons: dict[str, str] = {}

    def pick(self, name: str, asked: _Value | None, otherwise: _Value) -> _Value:
        """What was asked for, or else the inferred value."""
        if asked is not None:
            return asked
        self.inferred.append(name)
        return otherwise


def _require_learnable(manifest: Manifest) -> None:
    name = f"Dataset {manifest.dataset!r} version {manifest.version}"
    if not manifest.train:
        raise BadDataset(f"{name} has no training samples.", "Upload more samples, or lower the shares under `split`.")
    if manifest.spec.target.task == "classification":
        present = [label for label, samples in manifest.statistics.classes.items() if samples]
        if len(present) < 2:
            only = f"only the class {present[0]!r}" if present else "no class"
            raise BadDataset(
                f"{name} has {only} among its training samples; telling classes apart needs at least two.",
                "Upload samples of another class too: one folder per class, or another value in the target column.",
            )
    if manifest.spec.target.task == "multilabel" and not any(manifest.statistics.classes.values()):
        raise BadDataset(f"{name} has no label among its training samples.", "Upload samples that have labels.")


def _recipe(config: DatasetConfig, manifest: Manifest, chosen: _Choices) -> tuple[Recipe, int]:
    """The recipe, and the epochs where none are asked for: what suits the data and fits the budget."""
    asked = None if config.recipe == "auto" else config.recipe
    suggested, why = suggest_recipe(manifest)
    if asked is not None:
        require_recipe(asked, manifest.spec)
    epochs = epochs_for(asked or suggested, manifest.samples["train"])
    if config.budget is not None:
        workers = min(config.workers or _DEFAULT_WORKERS, len(manifest.train))
        plan = plan_budget(manifest, config.budget, workers, asked, config.training.epochs)
        suggested, epochs = plan.recipe, plan.epochs
        chosen.reasons["budget"] = plan.why
    recipe = chosen.pick("recipe", asked, suggested)
    if asked is None:
        chosen.reasons["recipe"] = chosen.reasons.get("budget", why)
    return recipe, epochs


def _augmentation(manifest: Manifest, epochs: int, loss: str, recipe: Recipe, chosen: _Choices) -> Augmentation:
    augment, why = resolve_augmentation(manifest, epochs, loss, recipe)
    if why is not None:
        chosen.reasons["augment"] = why
    if augment and manifest.config.augment == "auto":
        chosen.inferred.append("augment")
    return augment


def _learning_rate(recipe: Recipe, optimizer: Optimizer) -> float:
    return _FLAT_LEARNING_RATES.get(recipe, {}).get(optimizer, _LEARNING_RATES[optimizer])


def _batch_size(samples: int) -> int:
    """Small data needs small batches, or an epoch has too few steps."""
    return next(size for least, size in ((1024, 64), (256, 32), (64, 16), (0, 8)) if samples >= least)


def _workers(config: DatasetConfig, shards: int, batch_size: int, chosen: _Choices) -> int:
    workers = chosen.pick("workers", config.workers, _DEFAULT_WORKERS)
    possible = min(workers, shards, batch_size)
    if config.workers is not None and possible < workers:
        limit = f"{shards} training shards" if shards <= batch_size else f"a batch of {batch_size}"
        chosen.warnings.append(f"{possible} workers instead of {workers}: there are no more for {limit}.")
    return possible


def _held_out(manifest: Manifest, chosen: _Choices) -> tuple[Split, Split]:
    """The splits that score rounds and the final model."""
    validation: Split = "validation"
    if not manifest.validation:
        validation = "train"
        chosen.warnings.append(
            "There are no validation samples: rounds are scored on the training samples, which flatters them."
        )
    evaluation: Split = "test"
    if not manifest.test:
        evaluation = validation
        chosen.warnings.append(
            f"There are no test samples: the model is evaluated on the {validation} samples, which flatters it."
        )
    return validation, evaluation
