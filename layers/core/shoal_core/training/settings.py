"""The resolved settings of a run: what the user asked for, and what was inferred from the data for the rest."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

from pydantic import Field

from shoal_core.data.anomalies import NORMAL
from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import (
    Compression,
    Loss,
    LostWorkers,
    Optimizer,
    Recipe,
    Schedule,
    Scheme,
    Split,
    Task,
)
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig, BadInput
from shoal_core.frozen import Frozen
from shoal_core.training.anomalies import DEFAULT_QUANTILE
from shoal_core.training.augmentation import Augmentation, resolve_augmentation
from shoal_core.training.budgeting import plan_budget
from shoal_core.training.features import Transfer
from shoal_core.training.job_settings import JobOptions, JobSettings
from shoal_core.training.objectives import DECAY_FACTOR, resolve_objective
from shoal_core.training.quoting import choose_compute
from shoal_core.training.recipes import (
    batch_size_for,
    epochs_for,
    learning_rate_for,
    optimizer_for,
    require_learnable,
    require_recipe,
    steps_in_round,
    suggest_recipe,
    weight_decay_for,
)
from shoal_core.training.schemes import asked_scheme, outer_step, stepwise_batch, usual_momentum, usual_rounds
from shoal_core.training.worker import ONE_VCPU, Worker

MAX_ROUNDS = 500
MAX_WORKERS = 40
MAX_VALIDATION_SAMPLES = 10_000
"""Samples of the validation split that score a round; the first ones of the split, in order."""

_DEFAULT_WORKERS = 2
_SLOW_ROUND = 5
_OUTER_MOMENTUM = "training.outer_momentum"

_Value = TypeVar("_Value")


class TrainingSettings(Frozen):
    """`settings.json`: everything that the rounds of a run depend on beside the data.

    `batch_size` is global: each worker's batches have `local_batch_size` = batch_size // workers samples. `workers` are
    those of the first round; `rounds.round_settings` gives the settings of another. `target_mean` and `target_std`
    standardise a regression target (0 and 1 for other tasks); `anomaly_quantile` of the normal validation samples'
    scores is the threshold for anomalies. `loss` None is the task's usual one; `decay_factor` and `decay_rounds` are
    the `step` and `plateau` schedules'; a `patience` of 0 never stops early; `ema` is the decay of the weights' moving
    average, `swa` the share of the rounds at the end whose weights are averaged equally; `origin` is the run whose
    weights it began with; `augment` is what is varied, by its name in dataset.yaml; `transfer` is what it does with a
    backbone; `job` is the run's SageMaker job, None on Lambda; `scheme` is how workers share a round: by `synchronous`
    it is one step of all of them together, by the others each takes `steps_per_round` of its own. Names in `inferred`
    were chosen by Shoal, and `reasons` say why for some of them; `warnings` say what was done differently from what was
    asked.
    """

    schema_version: Literal[1] = 1
    run_id: str
    dataset: str
    version: str
    manifest_digest: str
    task: Task
    classes: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_std: float = Field(default=1.0, gt=0)
    anomaly_quantile: float = Field(default=DEFAULT_QUANTILE, gt=0, lt=1)
    job: JobSettings | None = None
    recipe: Recipe
    recipe_config: dict[str, Any] = Field(default={})
    optimizer: Optimizer
    optimizer_config: dict[str, Any] = Field(default={})
    learning_rate: float = Field(gt=0)
    loss: Loss | None = None
    loss_config: dict[str, Any] = Field(default={})
    schedule: Schedule = "cosine"
    warmup_rounds: float | None = Field(default=None, ge=0)
    decay_factor: float = Field(default=DECAY_FACTOR, gt=0, lt=1)
    decay_rounds: int = Field(default=1, ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    swa: float | None = Field(default=None, gt=0, le=1)
    compression: Compression = "none"
    lost_workers: LostWorkers = "fail"
    origin: str | None = None
    augment: Augmentation = Field(default={})
    transfer: Transfer | None = None
    batch_size: int = Field(ge=1)
    local_batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    steps_per_round: int = Field(ge=1)
    workers: int = Field(ge=1)
    seed: int = Field(ge=0)
    patience: int = Field(ge=0)
    scheme: Scheme = "local"
    outer_learning_rate: float = Field(default=1.0, gt=0)
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    threads: int = Field(default=1, ge=1)
    validation_split: Split = "validation"
    evaluation_split: Split = "test"
    validation_samples: int = Field(default=MAX_VALIDATION_SAMPLES, ge=1)
    inferred: tuple[str, ...] = ()
    reasons: dict[str, str] = Field(default={})
    warnings: tuple[str, ...] = ()

    @property
    def total_steps(self) -> int:
        """Local steps of each worker over the whole run."""
        return self.rounds * self.steps_per_round

    @property
    def warmup_steps(self) -> int:
        """Local steps until the learning rate is at its peak: a tenth of them all, or what was asked for."""
        if self.warmup_rounds is not None:
            return min(self.total_steps, math.ceil(self.warmup_rounds * self.steps_per_round))
        return max(1, self.total_steps // 10)

    def with_workers(self, workers: int) -> TrainingSettings:
        """The settings of a round with other workers: each takes as many steps as before, on its part of the batch."""
        if workers == self.workers:
            return self
        changed: dict[str, float] = {"workers": workers, "local_batch_size": self.batch_size // workers}
        if _OUTER_MOMENTUM in self.inferred:
            changed["outer_momentum"] = usual_momentum(self.outer_learning_rate, workers)
        return self.model_copy(update=changed)

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


def most_workers(manifest: Manifest, batch_size: int) -> int:
    """The most workers that a run may have: each needs a training shard and a sample of every batch."""
    return min(MAX_WORKERS, len(manifest.train), batch_size)


def resolve_settings(
    config: DatasetConfig,
    manifest: Manifest,
    run_id: str = "run",
    more_seconds: float = 0.0,
    jobs: JobOptions | None = None,
    worker: Worker = ONE_VCPU,
) -> tuple[TrainingSettings, list[str]]:
    """Fill in what the user left out, from the data. The hyperparameters of the recipe, and those of the optimizer that
    weren't asked for, stay empty here: they are the graphs' business.

    Args:
        config: What was asked for.
        manifest: The committed dataset version.
        run_id: The run.
        more_seconds: What a step takes per sample beside what its recipe is known to take.
        jobs: The stack's training jobs; None where it has none.
        worker: What the stack's functions that train have.

    Returns:
        The settings, and the names of the inferred ones, as in dataset.yaml (`training.epochs`): first those that
        planning inferred, then these.

    Raises:
        BadDataset: No training samples, or fewer than two classes among them.
        BadConfig: The recipe doesn't fit the data, or the epochs don't fit the rounds' time.
    """
    require_learnable(manifest)
    chosen = _Choices()
    training = config.training
    recipe, usual_epochs = _recipe(config, manifest, worker, chosen)
    optimizer = chosen.pick("training.optimizer", training.optimizer, optimizer_for(recipe, manifest.spec))
    learning_rate = chosen.pick("training.learning_rate", training.learning_rate, learning_rate_for(recipe, optimizer))
    samples = manifest.samples["train"]
    decay = weight_decay_for(recipe, manifest.spec, optimizer, samples)
    if decay is not None:
        decay = chosen.pick("training.weight_decay", training.weight_decay, decay)
        training = training.model_copy(update={"weight_decay": decay})
    batch_size = min(samples, chosen.pick("training.batch_size", training.batch_size, batch_size_for(samples)))
    workers = _workers(config, len(manifest.train), batch_size, chosen)
    epochs = chosen.pick("training.epochs", training.epochs, usual_epochs)
    most_steps = steps_in_round(recipe, manifest.spec, batch_size // workers, more_seconds)
    fits = epochs * samples / (batch_size // workers * workers) <= most_steps * MAX_ROUNDS
    job = _job(
        config, manifest, jobs, chosen, recipe=recipe, epochs=epochs, workers=workers, worker=worker, fits_lambda=fits
    )
    if job is not None:
        workers = 1
    scheme = asked_scheme(training, workers, optimizer, chosen.warnings)
    if scheme == "synchronous":
        batch_size, most_steps = stepwise_batch(config, samples, epochs, batch_size, workers, MAX_ROUNDS), 1
    local_batch_size = batch_size // workers
    total_steps = math.ceil(epochs * samples / (local_batch_size * workers))
    if job is not None:
        most_steps = total_steps
    needed = max(usual_rounds(workers, total_steps), math.ceil(total_steps / most_steps))
    rounds = min(total_steps, chosen.pick("rounds", config.rounds, needed))
    if config.rounds is not None and rounds < config.rounds:
        chosen.warnings.append(f"{rounds} rounds instead of {config.rounds}: the epochs have no more steps.")
    validation_split, evaluation_split = _held_out(manifest, chosen)
    if rounds > MAX_ROUNDS:
        raise BadConfig(
            f"{epochs} epochs over {samples:,} samples need {rounds:,} rounds; a run has at most {MAX_ROUNDS}.",
            "Lower training.epochs, use more workers or a smaller image_size, or train on later with warm_start.",
        )
    steps_per_round = math.ceil(total_steps / rounds)
    if config.rounds is None:
        rounds = math.ceil(total_steps / steps_per_round)
    if steps_per_round > _SLOW_ROUND * most_steps:
        chosen.warnings.append(
            f"A round of {steps_per_round:,} steps may take each worker several attempts of 15 minutes, nine at most: "
            f"{needed} rounds would be safe."
        )
    objective = resolve_objective(training, optimizer, rounds, manifest)
    if training.warmup_rounds is not None and training.warmup_rounds >= rounds:
        chosen.warnings.append(f"The learning rate warms up during all {rounds} rounds; its peak is the last step.")
    if objective.schedule == "plateau" and 0 < objective.patience <= objective.decay_rounds:
        chosen.warnings.append("The run is stopped early before a plateau lowers the learning rate: raise patience.")
    augment = _augmentation(config, manifest, epochs, objective.loss, recipe, chosen)
    target = manifest.statistics.target if manifest.spec.target.task == "regression" else None
    outer = outer_step(training, scheme, workers)
    if scheme == "diloco":
        chosen.pick("training.outer_learning_rate", training.outer_learning_rate, outer.learning_rate)
        chosen.pick(_OUTER_MOMENTUM, training.outer_momentum, outer.momentum)
    settings = TrainingSettings(
        run_id=run_id,
        dataset=manifest.dataset,
        version=manifest.version,
        manifest_digest=manifest.digest,
        task=manifest.spec.target.task,
        classes=manifest.spec.target.classes,
        target_mean=target.mean if target else 0.0,
        target_std=target.std if target and target.std > 0 else 1.0,
        anomaly_quantile=config.anomaly.quantile,
        job=job,
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
        threads=worker.threads,
        validation_split=validation_split,
        evaluation_split=evaluation_split,
        inferred=tuple(dict.fromkeys((*manifest.inferred, *chosen.inferred))),
        reasons=chosen.reasons,
        warnings=tuple(chosen.warnings),
        scheme=scheme,
        outer_learning_rate=outer.learning_rate,
        outer_momentum=outer.momentum,
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


def _recipe(config: DatasetConfig, manifest: Manifest, worker: Worker, chosen: _Choices) -> tuple[Recipe, int]:
    """The recipe, and the epochs where none are asked for: what suits the data and fits the budget."""
    asked = None if config.recipe == "auto" else config.recipe
    suggested, why = suggest_recipe(manifest)
    if config.uses_backbone:
        asked = "transfer"
    elif config.backbone is not None:
        chosen.warnings.append(f"The backbone {config.backbone!r} isn't used: the recipe is {asked}.")
    if asked is not None:
        require_recipe(asked, manifest.spec)
    epochs = epochs_for(asked or suggested, manifest.samples["train"])
    if config.budget is not None:
        workers = min(config.workers or _DEFAULT_WORKERS, len(manifest.train))
        plan = plan_budget(manifest, config.budget, workers, asked, config.training.epochs, worker, config)
        suggested, epochs = plan.recipe, plan.epochs
        chosen.reasons["budget"] = plan.why
    recipe = chosen.pick("recipe", asked, suggested)
    if asked is None:
        chosen.reasons["recipe"] = chosen.reasons.get("budget", why)
    return recipe, epochs


def _augmentation(
    config: DatasetConfig, manifest: Manifest, epochs: int, loss: str, recipe: Recipe, chosen: _Choices
) -> Augmentation:
    augment, why = resolve_augmentation(config.augment, manifest, epochs, loss, recipe)
    if why is not None:
        chosen.reasons["augment"] = why
    if augment and config.augment == "auto":
        chosen.inferred.append("augment")
    return augment


def _job(
    config: DatasetConfig,
    manifest: Manifest,
    options: JobOptions | None,
    chosen: _Choices,
    *,
    recipe: Recipe,
    epochs: int,
    workers: int,
    worker: Worker,
    fits_lambda: bool,
) -> JobSettings | None:
    """The run's SageMaker job; None where it trains on Lambda."""
    if config.compute.service == "lambda":
        return None
    if config.training.script is not None and config.finds_anomalies:
        raise BadConfig("dataset.yaml: training.script doesn't go with task anomaly.", "Use recipe autoencoder.")
    if config.uses_backbone:
        if config.compute.service == "sagemaker":
            raise BadConfig("dataset.yaml: compute: sagemaker doesn't go with a backbone.", "Use compute: lambda.")
        chosen.reasons["compute"] = "Features of a backbone are cached, and trained on in Lambda."
        return None
    choice = choose_compute(
        manifest,
        config,
        options,
        recipe=recipe,
        epochs=epochs,
        workers=workers,
        worker=worker,
        fits_lambda=fits_lambda,
    )
    chosen.reasons["compute"] = choice.why
    if choice.job is not None and config.workers is not None:
        chosen.warnings.append("A SageMaker job has no workers: its instances and GPUs take every batch together.")
    return choice.job and choice.job.model_copy(update={"script": config.training.script})


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
    counts = manifest.class_counts.get("validation")
    only_anomalies = manifest.spec.target.task == "anomaly" and counts is not None and not counts.get(NORMAL)
    if not manifest.validation or only_anomalies:
        validation = "train"
        lacking = "normal samples for validation" if manifest.validation else "validation samples"
        chosen.warnings.append(
            f"There are no {lacking}: rounds are scored on the training samples, which flatters them."
        )
    evaluation: Split = "test"
    if not manifest.test:
        evaluation = validation
        chosen.warnings.append(
            f"There are no test samples: the model is evaluated on the {validation} samples, which flatters it."
        )
    return validation, evaluation
