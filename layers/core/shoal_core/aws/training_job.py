"""The program of a SageMaker training job that trains a recipe: `python train.py`, which the stack's own code makes.

It needs PyTorch, numpy, pydantic and botocore. `SHOAL_RUN_ID` names the run, `SHOAL_ARTIFACTS_BUCKET` the bucket that
settings are read from and rounds are written to, `SHOAL_ATTEMPT` the attempt; the rest is in the run's own objects and
in SageMaker's variables (`SM_…`).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from shoal_core.aws.config import environment
from shoal_core.aws.s3 import S3Store
from shoal_core.errors import ShoalError
from shoal_core.jobs.channels import ChannelStore
from shoal_core.jobs.places import Hosts, join, leave
from shoal_core.jobs.training import train_run
from shoal_core.keys import DatasetKeys
from shoal_core.training.job_attempts import JobFailure, write_failure
from shoal_core.training.rounds import read_settings

_FAILURE = "failure"
_LOOK_SECONDS = 0.5
_MOST_LETTERS = 1024  # what SageMaker shows of a failure


def main() -> int:
    """Train the run in one process for each GPU of this machine; the exit status is that of the job."""
    hosts = Hosts.of(os.environ)
    if hosts.processes == 1:
        return _process(0)
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=_child, args=(local,)) for local in range(hosts.processes)]
    for process in processes:
        process.start()
    return ended(processes)


def ended(processes: Sequence[BaseProcess]) -> int:
    """Wait for processes; one that fails ends the others, which would wait for it. The worst exit status."""
    left = list(processes)
    while left:
        left[0].join(_LOOK_SECONDS)
        failed = any(process.exitcode for process in left)
        left = [process for process in left if process.exitcode is None]
        if failed:
            for process in left:
                process.terminate()
    return max(abs(process.exitcode or 0) for process in processes)


def _child(local: int) -> None:
    sys.exit(_process(local))


def _process(local: int) -> int:
    run_id, attempt = os.environ["SHOAL_RUN_ID"], int(os.environ.get("SHOAL_ATTEMPT", "1"))
    store = S3Store(environment().artifacts_bucket)
    try:
        place = join(Hosts.of(os.environ), local)
        settings = read_settings(store, run_id)
        prefix = DatasetKeys(settings.dataset, settings.version).prefix
        train_run(ChannelStore.of(store, prefix, os.environ), run_id, place)
        leave(place)
    except ShoalError as error:
        failure = JobFailure(error=type(error).__name__, reason=error.reason, fix=error.fix)
        write_failure(store, run_id, attempt, failure)
        return _told(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - SageMaker is told what went wrong, whatever it was
        traceback.print_exc()
        return _told(f"{type(error).__name__}: {error}")
    return 0


def _told(text: str) -> int:
    """Leave a reason where SageMaker looks for it."""
    folder = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FAILURE).write_text(text[:_MOST_LETTERS], encoding="utf-8")
    sys.stderr.write(text + "\n")
    return 1
