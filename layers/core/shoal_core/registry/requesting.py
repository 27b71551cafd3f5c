"""Runs that somebody asks for: on a dataset version that is there, and with other workers while they go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shoal_core.data.config import DatasetConfig
from shoal_core.errors import BadRequest, Conflict, NotFound
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.registry.audit import AuditLog, Caller
from shoal_core.registry.records import RunStarted, WorkersChanged
from shoal_core.registry.views import document_of
from shoal_core.store import ObjectStore
from shoal_core.training.requests import RunRequest, overridden

MAX_ATTEMPTS = 100


class RequestCatalog(Protocol):
    """What asking for a run needs of the catalog."""

    def begin_requested(self, run_id: str, request: RunRequest) -> bool:
        """See `shoal_core.aws.catalog.Catalog.begin_requested`."""

    def run_record(self, run_id: str) -> Mapping[str, Any]:
        """See `shoal_core.aws.catalog.Catalog.run_record`."""


class VersionsCatalog(Protocol):
    """What choosing a version needs of the catalog."""

    def dataset_items(self, dataset: str) -> list[dict[str, Any]]:
        """See `shoal_core.aws.catalog.Catalog.dataset_items`."""


class WorkersCatalog(Protocol):
    """What changing a run's workers needs of the catalog."""

    def run_record(self, run_id: str) -> Mapping[str, Any]:
        """See `shoal_core.aws.catalog.Catalog.run_record`."""

    def want_workers(self, run_id: str, workers: int) -> bool:
        """See `shoal_core.aws.catalog.Catalog.want_workers`."""


def committed_version(catalog: VersionsCatalog, dataset: str, version: str | None) -> str:
    """The version that a run may train on: the one that is named, or the newest that is committed.

    Raises:
        NotFound: No such dataset or version, or none that is committed.
        Conflict: The version isn't committed.
    """
    items = catalog.dataset_items(dataset)
    versions = {item["version"]: item for item in items if item["sk"].startswith("VERSION#")}
    if version is not None:
        if version not in versions:
            raise NotFound(
                f"Dataset {dataset!r} has no version {version!r}.", f"See GET /datasets/{dataset} for its versions."
            )
        if versions[version]["status"] != "ready":
            raise Conflict(
                f"Version {version!r} of dataset {dataset!r} isn't committed.",
                f"Wait for its run {versions[version]['run_id']!r}, or name another version.",
            )
        return version
    ready = {name: item for name, item in versions.items() if item["status"] == "ready"}
    if not ready:
        raise NotFound(f"Dataset {dataset!r} has no committed version yet.", "Wait for its run: `shoal runs`.")
    latest = next((item.get("latest_version") for item in items if item["sk"] == "DATASET"), None)
    return str(latest) if latest in ready else max(ready, key=lambda name: (str(ready[name]["upload_order"]), name))


@dataclass(frozen=True)
class RequestRun:
    """Records runs by request, and starts them. Asking again for the same thing finds the same run.

    Args:
        artifacts: Where manifests are, and requests go.
        catalog: Where runs are recorded.
        start: Starts the execution of (run, dataset, version), whose version is committed.
        audit: Where it is kept who asked for which run.
        check: Refuses a network of the user's own that can't be trained on (dataset, version), by its settings.
    """

    artifacts: ObjectStore
    catalog: RequestCatalog
    start: Callable[[str, str, str], None]
    audit: AuditLog
    check: Callable[[str, str, Mapping[str, Any]], object]

    def __call__(self, request: RunRequest, caller: Caller) -> RunStarted:
        """Record a run and start it. A failed one gets a successor; one that goes on or has succeeded is the answer.

        Args:
            request: What is asked for; its version is committed.
            caller: Who asks.

        Raises:
            BadConfig: Fields of the request that a run can't change, or values that dataset.yaml doesn't take either.
            BadNetwork: A network of the user's own can't be trained on the version; nothing is recorded then.
            NotFound: The version isn't there (any more).
            Unavailable: The audit record can't be written; nothing is started then.
        """
        config = overridden(version_config(self.artifacts, request.dataset, request.version), request.asked)
        if config.recipe == "network":
            self.check(request.dataset, request.version, config.network)
        data = request.encode()
        run_id, status, is_new = self._begin(request)
        if status == "running":
            self.artifacts.write_new(RunKeys(run_id).request, data, "application/json")
            details = {"dataset": request.dataset, "version": request.version, "overrides": request.overrides}
            told = {name: value for name, value in (("network", request.network), ("tuning", request.tuning)) if value}
            self.audit.record(
                "run.requested", run_id, caller.who, caller.source, {**details, **told}, once=f"run {run_id}"
            )
            self.start(run_id, request.dataset, request.version)
        return RunStarted(run_id=run_id, dataset=request.dataset, version=request.version, unchanged=not is_new)

    def _begin(self, request: RunRequest) -> tuple[str, str, bool]:
        """The run of a request, its status, and whether it is new."""
        first = request.run_id
        for attempt in range(1, MAX_ATTEMPTS + 1):
            run_id = first if attempt == 1 else f"{first}-{attempt}"
            if self.catalog.begin_requested(run_id, request):
                return run_id, "running", True
            status = str(self.catalog.run_record(run_id)["status"])
            if status != "failed":
                return run_id, status, False
        raise Conflict(
            f"The run {first!r} has failed {MAX_ATTEMPTS} times.", "Ask for something else; `shoal runs` tells why."
        )


def version_config(artifacts: ObjectStore, dataset: str, version: str) -> DatasetConfig:
    """The dataset.yaml of a committed version. Raises `NotFound`."""
    # Only the config: the spec's models bring numpy along, which the control plane hasn't.
    manifest = json.loads(artifacts.read(DatasetKeys(dataset, version).manifest))
    return DatasetConfig.model_validate(manifest["config"])


def change_workers(catalog: WorkersCatalog, run_id: str, workers: int) -> WorkersChanged:
    """Ask for other workers of a run that trains, from the next round that is decided on.

    Args:
        catalog: The catalog.
        run_id: The run.
        workers: How many it shall have.

    Raises:
        NotFound: No such run.
        Conflict: It hasn't begun to train, has ended, is a search's trial, or trains as a SageMaker job.
        BadRequest: It can't have so many.
    """
    record = catalog.run_record(run_id)
    _require_running(run_id, str(record["status"]))
    if "trial_of" in record and "kind" not in record:
        raise Conflict(f"Run {run_id!r} is a trial of a search: it has one worker.", "See docs/tuning.md.")
    settings = document_of(record, "settings", {})
    most = settings.get("most_workers")
    if most is None:
        raise Conflict(
            f"Run {run_id!r} hasn't begun to train.", "Try again when it has, or set workers in dataset.yaml."
        )
    search = document_of(record, "request", {}).get("tuning")
    if search is not None:
        raise Conflict(
            f"Run {run_id!r} is a trial of the search {search!r}: it has one worker.",
            "Train what the search found with more: `shoal train`.",
        )
    if settings.get("compute", "lambda") != "lambda":
        raise Conflict(
            f"Run {run_id!r} trains as a SageMaker job, whose instances take every batch together.",
            "Set `compute` in a run of its own: `shoal train`.",
        )
    if not 1 <= workers <= most:
        raise BadRequest(
            f"Run {run_id!r} can't have {workers} workers: 1 to {most} fit its training shards and its batch size.",
            "Each needs a shard and a sample of every batch: upload with more `workers` in dataset.yaml for more "
            "shards, or use a larger training.batch_size.",
        )
    before = int(record.get("workers_wanted", settings["workers"]))
    if before != workers and not catalog.want_workers(run_id, workers):
        _require_running(run_id, str(catalog.run_record(run_id)["status"]))
    return WorkersChanged(run_id=run_id, before=before, workers=workers)


def _require_running(run_id: str, status: str) -> None:
    if status != "running":
        raise Conflict(f"Run {run_id!r} has {status}: its workers are done.", "Start another run: `shoal train`.")
