"""A recipe and a number of epochs that fit a budget of minutes or dollars, estimated before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shoal_core.data.config import BudgetConfig, DatasetConfig
from shoal_core.data.config_types import Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.registry.pricing import LAMBDA_GB_SECOND
from shoal_core.training.recipes import batch_size_for, epochs_for, sample_seconds, suggest_recipe
from shoal_core.training.schemes import RoundCost, usual_rounds
from shoal_core.training.worker import ONE_VCPU, Worker, speed_up, useful_threads

LEAST_EPOCHS = 3
# Starts, checkpoints and updates beside the steps: measured as this share of short runs; long ones have less.
OVERHEAD = 1.25
_PRICE = LAMBDA_GB_SECOND["x86_64"]
# From this side on an image has room for a residual network's strides.
_LARGE_SIDE = 24


@dataclass(frozen=True)
class Estimate:
    """What training takes, about.

    Attributes:
        minutes: Of all rounds, one after the other.
        dollars: Of all workers, on AWS.
    """

    minutes: float
    dollars: float

    def fits(self, budget: BudgetConfig) -> bool:
        """Whether both limits hold."""
        return (budget.minutes is None or self.minutes <= budget.minutes) and (
            budget.dollars is None or self.dollars <= budget.dollars
        )

    def __str__(self) -> str:
        return f"about {self.minutes:.1f} minutes and ${self.dollars:.4f}"


@dataclass(frozen=True)
class Plan:
    """What a budget is spent on, and why."""

    recipe: Recipe
    epochs: int
    why: str


def planned_rounds(config: DatasetConfig, samples: int, epochs: int, workers: int) -> int:
    """In how many rounds a run exchanges, before its network is known: what was asked for, or what is usual."""
    batch_size = min(samples, config.training.batch_size or batch_size_for(samples))
    steps = math.ceil(epochs * samples / batch_size)
    if workers > 1 and config.training.scheme == "synchronous":
        return min(steps, config.rounds or steps)  # the batch grows until steps fit
    return min(steps, config.rounds or usual_rounds(workers, steps))


def estimate(
    manifest: Manifest,
    recipe: Recipe,
    epochs: int,
    workers: int,
    worker: Worker = ONE_VCPU,
    config: DatasetConfig | None = None,
) -> Estimate:
    """What training a recipe takes, by the seconds of its steps, and what each of its rounds waits for S3.

    How large a network is, and with it what is moved, isn't known yet.

    Args:
        manifest: The data.
        recipe: The run's.
        epochs: The run's.
        workers: The run's.
        worker: What each of them has.
        config: What was asked for, of which rounds, batch size and scheme count; the version's own when None.
    """
    samples = manifest.samples["train"]
    speed = speed_up(useful_threads(recipe, 0, worker.threads))
    seconds = epochs * samples * sample_seconds(recipe, manifest.spec) * OVERHEAD / speed
    rounds = planned_rounds(config or manifest.config, samples, epochs, workers)
    waiting = RoundCost(checkpoint=0, update=0, scoring=0)
    minutes = (seconds / workers + rounds * waiting.seconds(workers)) / 60
    billed = seconds + rounds * waiting.billed_seconds(workers)
    return Estimate(minutes, billed * worker.gigabytes * _PRICE)


def plan_budget(
    manifest: Manifest,
    budget: BudgetConfig,
    workers: int,
    recipe: Recipe | None,
    epochs: int | None,
    worker: Worker = ONE_VCPU,
    config: DatasetConfig | None = None,
) -> Plan:
    """The best recipe that fits, with as many epochs as fit up to its usual ones.

    Args:
        manifest: The data.
        budget: What may be spent on training.
        workers: The run's.
        recipe: What was asked for; None leaves it open.
        epochs: The same.
        worker: What each worker has.
        config: As of `estimate`.

    Raises:
        BadConfig: Nothing fits.
    """
    usual, _ = suggest_recipe(manifest)
    tried: list[str] = []
    for candidate in [recipe] if recipe else candidates(manifest, usual):
        wanted = epochs or epochs_for(candidate, manifest.samples["train"])
        whole = estimate(manifest, candidate, wanted, workers, worker, config)
        if whole.fits(budget):
            return Plan(candidate, wanted, _why(candidate, wanted, whole, workers, tried))
        tried.append(f"{candidate} with {wanted} epochs would take {whole}")
        fewer = range(wanted - 1, LEAST_EPOCHS - 1, -1) if epochs is None else ()
        for count in fewer:
            found = estimate(manifest, candidate, count, workers, worker, config)
            if found.fits(budget):
                return Plan(candidate, count, _why(candidate, count, found, workers, tried))
    asked = [] if budget.minutes is None else [f"{budget.minutes:g} minutes"]
    asked += [] if budget.dollars is None else [f"${budget.dollars:g}"]
    raise BadConfig(
        f"dataset.yaml: nothing can be trained within a budget of {' and '.join(asked)}: {'; '.join(tried)}.",
        "Raise budget, or lower training.epochs, rounds or image_size; for long steps, use more workers.",
    )


def candidates(manifest: Manifest, usual: Recipe) -> Sequence[Recipe]:
    """What may be chosen, the most capable first."""
    if usual == "autoencoder":
        return [usual]
    image = manifest.spec.image
    large: list[Recipe] = ["resnet"] if image and min(image.height, image.width) >= _LARGE_SIDE else []
    small: list[Recipe] = ["linear"] if usual != "linear" else []
    return [*large, usual, *small]


def _why(recipe: Recipe, epochs: int, found: Estimate, workers: int, tried: Sequence[str]) -> str:
    chosen = f"{recipe} with {epochs} epochs takes {found} with {workers} worker{'s' * (workers > 1)}"
    return f"{chosen}; {'; '.join(tried)}." if tried else f"{chosen}."
