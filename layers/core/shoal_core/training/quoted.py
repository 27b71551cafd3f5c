"""The quote of a run before it is asked for: what it takes on Lambda and on SageMaker, and where `auto` would train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore
from shoal_core.training.job_settings import JobOptions
from shoal_core.training.quoting import Choice, choose_compute
from shoal_core.training.requests import overridden
from shoal_core.training.settings import most_workers, resolve_settings
from shoal_core.training.worker import ONE_VCPU, Worker


class QuoteTask(Frozen):
    """What `quote_run` is asked, as the API asks it of a function."""

    dataset: str
    version: str
    overrides: dict[str, Any] = Field(default={})


def quote_run(
    artifacts: ObjectStore,
    dataset: str,
    version: str,
    overrides: Mapping[str, Any],
    jobs: JobOptions | None,
    worker: Worker = ONE_VCPU,
) -> Choice:
    """What a run with these settings would take; nothing is started.

    Args:
        artifacts: The artifacts bucket.
        dataset: Name of the dataset.
        version: A committed version of it.
        overrides: As of `RunRequest`.
        jobs: The stack's training jobs; None where it has none.
        worker: What the stack's functions that train have.

    Raises:
        BadConfig: A setting that a run can't have.
        NotFound: The version isn't committed.
    """
    manifest = Manifest.decode(artifacts.read(DatasetKeys(dataset, version).manifest))
    config = overridden(manifest.config, overrides)
    if config.uses_backbone:
        jobs = None  # its features are trained on in Lambda
    # A job's settings always resolve; on Lambda there may be too many rounds.
    elsewhere = config.compute.model_copy(update={"service": "sagemaker" if jobs else "lambda"})
    settings, _ = resolve_settings(config.model_copy(update={"compute": elsewhere}), manifest, jobs=jobs, worker=worker)
    here = config.model_copy(update={"compute": config.compute.model_copy(update={"service": "lambda"})})
    try:
        workers, fits = resolve_settings(here, manifest, worker=worker)[0].workers, True
    except BadConfig:
        if config.compute.service == "lambda" or jobs is None:
            raise  # the run would be refused as well
        workers, fits = most_workers(manifest, settings.batch_size), False
    return choose_compute(
        manifest,
        config,
        jobs,
        recipe=settings.recipe,
        epochs=settings.epochs,
        workers=workers,
        worker=worker,
        fits_lambda=fits,
    )
