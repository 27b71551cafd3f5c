"""From a set of files to a dataset version and its run: each step finds it done when it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, DatasetRequest
from shoal_core.errors import BadDataset
from shoal_core.keys import DatasetKeys
from shoal_core.registry.audit import AuditLog, Caller
from shoal_core.registry.file_sets import FileSet
from shoal_core.registry.records import Source, VersionRun
from shoal_core.store import ObjectStore

EVENTS = Caller()


class RunCatalog(Protocol):
    """What beginning a run needs of the catalog."""

    def begin_run(self, run_id: str, dataset: str, version: str, source: Sequence[Source], order: str) -> bool:
        """See `shoal_core.aws.catalog.Catalog.begin_run`."""

    def run_of_version(self, dataset: str, version: str) -> VersionRun:
        """See `shoal_core.aws.catalog.Catalog.run_of_version`."""

    def begin_again(self, run_id: str, last: VersionRun, source: Sequence[Source]) -> bool:
        """See `shoal_core.aws.catalog.Catalog.begin_again`."""

    def newest_version(self, dataset: str, version: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.newest_version`."""


@dataclass(frozen=True)
class Outcome:
    """What came of an upload."""

    status: Literal["started", "unchanged", "waiting", "reading", "ignored", "refused"]
    run_id: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Begin:
    """Records versions and runs, and starts them.

    Args:
        artifacts: Where requests go.
        catalog: Where versions and runs are recorded.
        start: Starts the execution of (run, dataset, version).
        audit: Where it is kept who began which run.
    """

    artifacts: ObjectStore
    catalog: RunCatalog
    start: Callable[[str, str, str], None]
    audit: AuditLog

    def __call__(
        self,
        dataset: str,
        files: FileSet,
        config: DatasetConfig,
        order: str,
        source: Sequence[Source] = (),
        again: bool = False,
        caller: Caller = EVENTS,
    ) -> Outcome:
        """Record a version of these files and its run, then start it.

        Args:
            dataset: The dataset's name.
            files: Its files.
            config: What was asked for.
            order: Sorts by time of upload.
            source: The objects that asked for the run; the first files when there are none.
            again: Whether the version runs again although its last run didn't fail.
            caller: Who asked for it.

        Raises:
            BadDataset: All files are empty.
            Unavailable: The audit record can't be written; nothing is started then.
        """
        source = list(source) or list(files.shown)
        if not files.bytes:
            name = files.shown[0].key[:200] if files.shown else dataset
            raise BadDataset(f"The upload {name!r} is empty (0 bytes).", "Upload a file with content.")
        version = files.version(config)
        run_id, is_new = self._run_of(dataset, version, source, order, again)
        request = DatasetRequest(
            dataset=dataset, version=version, files=files.files, listing=files.listing, config=config
        )
        data = canonical_json(request.model_dump(mode="json"))
        self.artifacts.write_new(DatasetKeys(dataset, version).request, data, "application/json")
        self.catalog.newest_version(dataset, version, order)
        self._record(run_id, dataset, version, source, caller)
        self.start(run_id, dataset, version)
        return Outcome("started" if is_new else "unchanged", run_id)

    def _record(self, run_id: str, dataset: str, version: str, source: Sequence[Source], caller: Caller) -> None:
        """One entry per run, whoever comes again: the record tells what began it, not what found it there."""
        details = (
            {"run_id": run_id, "upload": source[0].key, "upload_version": source[0].version or ""} if source else {}
        )
        subject = f"{dataset}/{version}"
        self.audit.record("dataset.begun", subject, caller.who, caller.source, details, once=f"run {run_id}")

    def _run_of(
        self, dataset: str, version: str, source: Sequence[Source], order: str, again: bool
    ) -> tuple[str, bool]:
        """The run of a version, and whether it is new.

        A version has one run, whatever the events do; a failed one gets a successor when its bytes are uploaded again.
        A repeated event doesn't count as an upload: its object versions are those that the failed run was made from.
        """
        first = f"{dataset}-{version}"
        if self.catalog.begin_run(first, dataset, version, source, order):
            return first, True
        last = self.catalog.run_of_version(dataset, version)
        if (last.failed or again) and not set(last.source) & set(source):
            successor = f"{first}-{last.attempt + 1}"
            if self.catalog.begin_again(successor, last, source):
                return successor, True
            last = self.catalog.run_of_version(dataset, version)
        return last.run_id, False
