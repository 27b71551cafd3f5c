"""The frame of every handler: logs, traces, metrics, parsing; and what a run's stage used."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import ConfigDict

from shoal_core.aws.catalog import Catalog
from shoal_core.aws.config import environment, memory_mb
from shoal_core.aws.s3 import S3Store
from shoal_core.aws.stages import StageBook
from shoal_core.frozen import Frozen

if TYPE_CHECKING:
    from shoal_core.aws.batch_catalog import BatchCatalog
    from shoal_core.aws.tuning_catalog import TuningCatalog
    from shoal_core.aws.uploads import UploadStore

logger = Logger(service="shoal")
# AWS calls are all that leaves a function; every other library that X-Ray knows would be imported to be patched.
tracer = Tracer(service="shoal", patch_modules=("botocore",))
metrics = Metrics(namespace="Shoal", service="shoal")

Handler = Callable[[dict[str, Any], LambdaContext], Any]
_first = True
_context: LambdaContext | None = None


class RunEvent(Frozen):
    """What every state of the training state machine is given."""

    model_config = ConfigDict(extra="ignore")

    run_id: str
    dataset: str
    version: str


class BatchEvent(Frozen):
    """What every state of the batch state machine is given."""

    model_config = ConfigDict(extra="ignore")

    model: str
    job: str


RunEventT = TypeVar("RunEventT", bound=RunEvent)
BatchEventT = TypeVar("BatchEventT", bound=BatchEvent)


@functools.cache
def artifacts() -> S3Store:
    """The bucket that Shoal writes."""
    return S3Store(environment().artifacts_bucket)


@functools.cache
def uploads() -> UploadStore:
    """The bucket that users write."""
    # Most functions never see the uploads; this import brings dataset.yaml's models along.
    from shoal_core.aws.uploads import UploadStore

    return UploadStore(environment().bucket)


@functools.cache
def catalog() -> Catalog:
    """The catalog."""
    return Catalog()


@functools.cache
def batches() -> BatchCatalog:
    """The catalog of batch jobs."""
    from shoal_core.aws.batch_catalog import BatchCatalog  # most functions never see a job

    return BatchCatalog()


@functools.cache
def tunings() -> TuningCatalog:
    """The catalog of searches."""
    from shoal_core.aws.tuning_catalog import TuningCatalog  # most functions never see a search

    return TuningCatalog()


def seconds_left() -> float:
    """Seconds until this invocation of a run's stage is ended; a process has one at a time."""
    return _context.get_remaining_time_in_millis() / 1000 if _context else 900.0


def framed(handler: Handler) -> Handler:
    """Log, trace and measure a handler of any event."""

    def timed(event: dict[str, Any], context: LambdaContext) -> Any:  # noqa: ANN401 - what the handler returns
        started = time.perf_counter()
        try:
            return handler(event, context)
        finally:
            metrics.add_metric("Duration", MetricUnit.Milliseconds, (time.perf_counter() - started) * 1000)

    logged = logger.inject_lambda_context(timed, clear_state=True)
    traced = tracer.capture_lambda_handler(logged, capture_response=False)

    def chosen(event: dict[str, Any], context: LambdaContext) -> Any:  # noqa: ANN401 - what the handler returns
        # X-Ray takes one request a second and a twentieth of the others; nobody would see the segments of the rest.
        sampled = "Sampled=0" not in os.environ.get("_X_AMZN_TRACE_ID", "")
        return (traced if sampled else logged)(event, context)

    return metrics.log_metrics(chosen, capture_cold_start_metric=True)


def stage(
    name: str, event: type[RunEventT], ends_run: bool = False
) -> Callable[[Callable[[RunEventT], dict[str, Any]]], Handler]:
    """Make a function of one state into a Lambda handler.

    It parses the state's input as `event`, shows the run at this stage, and adds the invocation to what the run used,
    also when the function raises.

    Args:
        name: The state's name in statemachines/training.asl.yaml.
        event: The model of the state's input; a wrong one raises pydantic's `ValidationError`.
        ends_run: Whether the run has succeeded when the function returns `model` and `model_version`.
    """

    def decorate(function: Callable[[RunEventT], dict[str, Any]]) -> Handler:
        def measured(task: RunEventT, context: LambdaContext) -> dict[str, Any]:
            global _context
            _context = context
            logger.append_keys(run_id=task.run_id)
            with accounted(name, catalog().book(task.run_id)):
                answer = {**task.model_dump(include={"run_id", "dataset", "version"}), **function(task)}
            if ends_run:
                # Last: whoever sees that a run has succeeded sees all of it, this stage's time and cost included.
                catalog().run_succeeded(task.run_id, answer["model"], answer["model_version"])
            return answer

        return framed(event_parser(model=event)(measured))

    return decorate


def batch_stage(name: str, event: type[BatchEventT]) -> Callable[[Callable[[BatchEventT], dict[str, Any]]], Handler]:
    """The same as `stage` for a state of statemachines/batch.asl.yaml."""

    def decorate(function: Callable[[BatchEventT], dict[str, Any]]) -> Handler:
        def measured(task: BatchEventT, context: LambdaContext) -> dict[str, Any]:
            logger.append_keys(model=task.model, job=task.job)
            with accounted(name, batches().book(task.model, task.job)):
                return {**task.model_dump(include={"model", "job"}), **function(task)}

        return framed(event_parser(model=event)(measured))

    return decorate


@contextmanager
def accounted(name: str, book: StageBook) -> Iterator[None]:
    """Show that a stage has begun, and add the invocation to what it used, also when it raises."""
    started = time.perf_counter() - _init_seconds()
    book.started(name)
    try:
        yield
    finally:
        book.used(name, round((time.perf_counter() - started) * 1000), memory_mb())


def _init_seconds() -> float:
    """CPU seconds that this process took to start, the first time; 0 after that.

    AWS bills the INIT phase (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/),
    and a process that imports is bound by its CPU.
    """
    global _first
    if not _first:
        return 0.0
    _first = False
    return time.process_time()
