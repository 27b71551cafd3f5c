"""What a run takes on Lambda and on SageMaker, about: minutes and dollars before anything is spent, and the choice.

Lambda's seconds are measured, at one thread of a slow CPU (training/recipes.py). SageMaker's are those, divided by how
many times faster PyTorch is on the instance. On processors that is a measured share of their number; on GPUs it is
assumed, as Shoal's makers had none: the table below says what for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from shoal_core.data.compute_config import Compute
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen
from shoal_core.registry.pricing import SAGEMAKER_INSTANCES, Instance, sagemaker_cost
from shoal_core.training.budgeting import Estimate, estimate
from shoal_core.training.job_settings import JobOptions, JobSettings, resolve_job
from shoal_core.training.recipes import sample_seconds
from shoal_core.training.worker import ONE_VCPU, Worker, useful_threads

START_MINUTES = 4.0
"""Until a job's program runs: instances are found, the image and the channels are downloaded. Assumed."""
LONG_MINUTES = 30.0
"""A run of less isn't worth another machine."""
_SPEED_UP_OF_VCPU = 0.45
_MORE_GPUS = 0.85
# How many times faster than one slow thread a T4 trains a recipe, assumed: what is many small steps gains little.
_T4: Mapping[Recipe, float] = {
    "cnn": 25,
    "crnn": 6,
    "fasttext": 3,
    "linear": 1,
    "mlp": 1.5,
    "resnet": 30,
    "rnn": 6,
    "text-cnn": 12,
    "transformer": 20,
    "vgg": 40,
}
_OTHERS_GPU = 10.0
# Of other GPUs, beside a T4's; assumed.
_GPUS: Mapping[str, float] = {"T4": 1.0, "A10G": 2.0, "V100": 2.5}


class Quote(Frozen):
    """What a run takes in one place.

    Attributes:
        service: Where.
        minutes: From its start to its last round, about; None where nothing is known of the instance.
        dollars: For training, about; None where its price isn't known.
        how: On what, and what the numbers stand on.
    """

    service: Compute
    minutes: float | None
    dollars: float | None
    how: str

    def __str__(self) -> str:
        minutes = "unknown minutes" if self.minutes is None else f"about {self.minutes:.1f} minutes"
        dollars = "an unknown price" if self.dollars is None else f"${self.dollars:.4f}"
        return f"{minutes} and {dollars} on {self.how}"


class Choice(Frozen):
    """Where a run trains, why, and what was weighed."""

    service: Compute
    job: JobSettings | None
    quotes: tuple[Quote, ...]
    why: str


def choose_compute(
    manifest: Manifest,
    config: DatasetConfig,
    options: JobOptions | None,
    *,
    recipe: Recipe,
    epochs: int,
    workers: int,
    worker: Worker = ONE_VCPU,
    fits_lambda: bool,
) -> Choice:
    """Where a run trains: as asked, or by the quotes.

    `auto` takes SageMaker where Lambda can't do it, or where the run lasts above half an hour there and a job is done
    in less than half of that. Both quotes are told, whoever decides.

    Args:
        manifest: The data.
        config: What was asked for.
        options: The stack's jobs; None where it has none.
        recipe: The run's.
        epochs: The run's.
        workers: What Lambda would train with.
        worker: What each of them has.
        fits_lambda: Whether the rounds that Lambda needs are few enough for a run.

    Raises:
        BadConfig: SageMaker was asked for, and the stack has no jobs.
    """
    compute = config.compute
    here = _lambda_quote(estimate(manifest, recipe, epochs, workers, worker, config), recipe, workers, worker)
    if options is None:
        if compute.service == "sagemaker":
            raise BadConfig(
                "dataset.yaml: compute: sagemaker isn't possible here: the stack has no training jobs.",
                "Deploy the stack's own template.yaml, or use compute: lambda.",
            )
        return Choice(service="lambda", job=None, quotes=(here,), why=f"{here}.")
    job = resolve_job(compute, options)
    there = sagemaker_quote(manifest, recipe, epochs, job)
    quotes = (here, there)
    told = f"Lambda: {here}; SageMaker: {there}"
    if compute.service != "auto":
        chosen = job if compute.service == "sagemaker" else None
        return Choice(service=compute.service, job=chosen, quotes=quotes, why=f"As asked. {told}.")
    service, why = _decided(here, there, fits_lambda)
    return Choice(service=service, job=job if service == "sagemaker" else None, quotes=quotes, why=f"{why} {told}.")


def _decided(here: Quote, there: Quote, fits_lambda: bool) -> tuple[Literal["lambda", "sagemaker"], str]:
    if not fits_lambda:
        return "sagemaker", "Lambda would need more rounds than a run may have."
    if there.minutes is None or here.minutes is None:
        return "lambda", "Nothing is known of the instance's speed, so the run stays on Lambda."
    if here.minutes <= LONG_MINUTES:
        return "lambda", f"It takes less than {LONG_MINUTES:.0f} minutes on Lambda, which starts at once."
    if there.minutes > here.minutes / 2:
        return "lambda", "A job wouldn't be done in half the time."
    return "sagemaker", "A job is done in less than half the time."


def _lambda_quote(found: Estimate, recipe: Recipe, workers: int, worker: Worker) -> Quote:
    """What Lambda's workers take, by measured seconds."""
    count = useful_threads(recipe, 0, worker.threads)
    threads = f", {count} threads each" if count > 1 else ""
    how = f"{workers} Lambda worker{'s' * (workers > 1)}{threads} (speed measured)"
    return Quote(service="lambda", minutes=found.minutes, dollars=found.dollars, how=how)


def sagemaker_quote(manifest: Manifest, recipe: Recipe, epochs: int, job: JobSettings) -> Quote:
    """What a training job takes; at the price on demand, as that of spare capacity changes."""
    told = f"{job.count} {job.instance}"
    known = SAGEMAKER_INSTANCES.get(job.instance)
    if known is None:
        return Quote(service="sagemaker", minutes=None, dollars=None, how=f"{told} (not in Shoal's table)")
    seconds = epochs * manifest.samples["train"] * sample_seconds(recipe, manifest.spec)
    minutes = START_MINUTES + seconds / speed_up(recipe, known, job.count) / 60
    how = (
        f"{told} ({START_MINUTES:.0f} minutes to start and the {'GPU' if known.gpus else 'processor'}'s speed assumed)"
    )
    # Starting is counted, too: part of it, the download of image and data, is billed.
    dollars = sagemaker_cost(job.instance, job.count, minutes * 60)
    return Quote(service="sagemaker", minutes=minutes, dollars=dollars, how=how)


def speed_up(recipe: Recipe, instance: Instance, count: int) -> float:
    """How many times faster than one thread of a slow CPU instances train a recipe."""
    if not instance.gpus:
        return max(1.0, _SPEED_UP_OF_VCPU * instance.vcpus) * math.pow(count, _MORE_GPUS)
    one = max(1.0, _T4.get(recipe, _OTHERS_GPU) * _GPUS[instance.gpu])
    return one * math.pow(instance.gpus * count, _MORE_GPUS)
