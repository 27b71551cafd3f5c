"""What a run's SageMaker job is given when the run starts: its program, and the network that it trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from shoal_core.errors import BadConfig, NotFound
from shoal_core.keys import RunKeys, script_key
from shoal_core.store import ObjectStore
from shoal_core.training.job_requests import archive, program_archive
from shoal_core.training.settings import TrainingSettings

MAX_SCRIPT_BYTES = 1024**2


def no_script(key: str) -> bytes:
    """What reads scripts where there are no uploads. Raises `NotFound`."""
    raise NotFound(f"Object {key!r} doesn't exist.")


def prepare_job(
    artifacts: ObjectStore,
    settings: TrainingSettings,
    network: Callable[[], bytes],
    read_upload: Callable[[str], bytes],
) -> TrainingSettings:
    """Write what the run's job needs; nothing happens to a run on Lambda.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the run.
        network: Makes `graphs.documents.network_document` of its forward graph.
        read_upload: Reads an object of the uploads bucket. Raises `NotFound`.

    Returns:
        The settings, with the sha256 of the user's script.

    Raises:
        BadConfig: The script isn't there, or is too large.
        UnsupportedOperator: The network can't be trained in PyTorch here.
    """
    job, keys = settings.job, RunKeys(settings.run_id)
    if job is None:
        return settings
    if job.script is None:
        artifacts.write(keys.network, network())
        artifacts.write(keys.job_code, program_archive())
        return settings
    data = _script(settings.dataset, job.script, read_upload)
    artifacts.write(keys.job_code, archive({Path(job.script).name: data}))
    told = job.model_copy(update={"script_sha256": hashlib.sha256(data).hexdigest()})
    return settings.model_copy(update={"job": told})


def _script(dataset: str, name: str, read_upload: Callable[[str], bytes]) -> bytes:
    key = script_key(dataset, name)
    try:
        data = read_upload(key)
    except NotFound as error:
        raise BadConfig(
            f"dataset.yaml: training.script: {key} isn't in the uploads bucket.",
            f"Put it there (`shoal train {dataset} --script {Path(name).name}` does), then start the run again.",
        ) from error
    if len(data) > MAX_SCRIPT_BYTES:
        raise BadConfig(
            f"dataset.yaml: training.script: {key} has {len(data):,} bytes; {MAX_SCRIPT_BYTES:,} are allowed.",
            "Bring larger files in an image of your own (SageMakerImage).",
        )
    return data
