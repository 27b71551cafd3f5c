"""From an uploaded object to a dataset version and its run: exactly one for the same bytes, whatever the events do.

The upload contract:
- an archive or a table at `datasets/<name>/<file>` is a whole dataset; it starts a run at once;
- loose files below `datasets/<name>/` wait until `datasets/<name>/dataset.yaml` is written, which commits them all;
- a `dataset.yaml` beside an archive or table holds its settings; writing it again runs the newest one with them.

A version is named by its content (files and settings), so repeated, late or reordered events find what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile, parse_config
from shoal_core.errors import BadConfig, BadDataset, NotFound, ShoalError
from shoal_core.keys import DatasetKeys
from shoal_core.registry.names import CONFIG_FILE, MISSPELT_CONFIG_FILE, PREFIX, UploadKey, parse_upload_key
from shoal_core.registry.records import Source, VersionRun
from shoal_core.store import ObjectStore

VERSION_LENGTH = 12
# One file is one GET; this many at once keeps a Lambda's network busy without running out of connections.
PARALLEL_READS = 16


@dataclass(frozen=True)
class Upload:
    """One finished write: an S3 event's object. `order` sorts by time of upload."""

    key: str
    version: str | None
    size: int
    order: str


class Uploads(ObjectStore, Protocol):
    """The bucket that users write to."""

    def fingerprint(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version, size and sha256, from one pass over its bytes. Raises `NotFound`."""
        ...

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written; sorts by time. Raises `NotFound`."""
        ...


class RunCatalog(Protocol):
    """What ingesting needs of the catalog."""

    def begin_run(self, run_id: str, dataset: str, version: str, source: Sequence[Source], order: str) -> bool:
        """See `shoal_core.aws.catalog.Catalog.begin_run`."""

    def run_of_version(self, dataset: str, version: str) -> VersionRun:
        """See `shoal_core.aws.catalog.Catalog.run_of_version`."""

    def begin_again(self, run_id: str, failed: VersionRun, source: Sequence[Source]) -> bool:
        """See `shoal_core.aws.catalog.Catalog.begin_again`."""

    def newest_version(self, dataset: str, version: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.newest_version`."""

    def latest_version(self, dataset: str) -> str | None:
        """See `shoal_core.aws.catalog.Catalog.latest_version`."""

    def dataset_waiting(self, dataset: str, note: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.dataset_waiting`."""

    def dataset_not_waiting(self, dataset: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.dataset_not_waiting`."""

    def refuse_upload(self, run_id: str, dataset: str, source: Sequence[Source], error: str, message: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.refuse_upload`."""


@dataclass(frozen=True)
class Outcome:
    """What came of an upload."""

    status: Literal["started", "unchanged", "waiting", "ignored", "refused"]
    run_id: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Ingest:
    """The upload's way into the pipeline, over a bucket of uploads, a store of artefacts, a catalog and a starter."""

    uploads: Uploads
    artifacts: ObjectStore
    catalog: RunCatalog
    start: Callable[[str, str, str], None]

    def __call__(self, upload: Upload) -> Outcome:
        """Handle one finished write. What is wrong with the upload is recorded as a failed run, not raised."""
        try:
            key = parse_upload_key(upload.key)
            if key is None:
                return Outcome("ignored", reason="not a file of a dataset")
            return self._ingest(key, upload)
        except NotFound:
            if self._is_there(upload):
                raise  # something else is missing, and that is no reason to forget an upload
            return Outcome("ignored", reason="the object is gone: a later event tells what replaced it")
        except ShoalError as error:
            if error.retryable:
                raise
            return self._refuse(upload, error)

    def _is_there(self, upload: Upload) -> bool:
        try:
            self.uploads.modified(upload.key, upload.version)
        except NotFound:
            return False
        return True

    def _ingest(self, key: UploadKey, upload: Upload) -> Outcome:
        if key.file == MISSPELT_CONFIG_FILE:
            raise BadConfig(f"{upload.key!r} isn't read.", f"Name it {CONFIG_FILE}.")
        if key.is_config:
            return self._commit_set(key.dataset, upload)
        if key.is_container:
            file = self.uploads.fingerprint(upload.key, upload.version)
            outcome = self._begin(key.dataset, [file], self._config(key.dataset), upload.order)
            if not self._beside(key.dataset)[0]:
                self.catalog.dataset_not_waiting(key.dataset, upload.order)
            return outcome
        return self._wait(key, upload)

    def _commit_set(self, dataset: str, upload: Upload) -> Outcome:
        """`dataset.yaml` was written: run the loose files beside it, or else the newest archive or table."""
        config = parse_config(self.uploads.read(upload.key, upload.version))
        loose, containers = self._beside(dataset)
        if loose:
            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                files = list(pool.map(self.uploads.fingerprint, loose))
            self.catalog.dataset_not_waiting(dataset, upload.order)
            return self._begin(dataset, files, config, upload.order)
        if containers:
            newest = max(containers, key=lambda key: (self.uploads.modified(key), key))
            return self._begin(dataset, [self.uploads.fingerprint(newest)], config, upload.order)
        note = "dataset.yaml is there; upload an archive, a table or files beside it."
        self.catalog.dataset_waiting(dataset, note, upload.order)
        return Outcome("waiting", reason="no data beside dataset.yaml yet")

    def _wait(self, key: UploadKey, upload: Upload) -> Outcome:
        """A loose file was written: it waits, unless the dataset.yaml that commits it came before this event."""
        config_key = f"{PREFIX}{key.dataset}/{CONFIG_FILE}"
        if self._is_committed(key.dataset, config_key, upload):
            return Outcome("ignored", reason="committed by its dataset.yaml")
        note = f"Files wait: write {config_key} (it may be empty) to commit them as one dataset version."
        self.catalog.dataset_waiting(key.dataset, note, upload.order)
        return Outcome("waiting", reason="loose files wait for dataset.yaml")

    def _is_committed(self, dataset: str, config_key: str, upload: Upload) -> bool:
        try:
            config, file = self.uploads.modified(config_key), self.uploads.modified(upload.key)
        except NotFound:
            return False
        if config != file:
            return config > file
        # Written within the same second, which is as fine as S3 tells time: the newest version's own list decides.
        newest = self.catalog.latest_version(dataset)
        if newest is None:
            return False
        request = DatasetRequest.model_validate_json(self.artifacts.read(DatasetKeys(dataset, newest).request))
        return any((entry.key, entry.version) == (upload.key, upload.version) for entry in request.files)

    def _beside(self, dataset: str) -> tuple[list[str], list[str]]:
        loose: list[str] = []
        containers: list[str] = []
        for key in self.uploads.keys(f"{PREFIX}{dataset}/"):
            parsed = parse_upload_key(key)
            if parsed is None or parsed.is_config:
                continue
            (containers if parsed.is_container else loose).append(key)
        return loose, containers

    def _config(self, dataset: str) -> DatasetConfig:
        try:
            return parse_config(self.uploads.read(f"{PREFIX}{dataset}/{CONFIG_FILE}"))
        except NotFound:
            return DatasetConfig()

    def _begin(self, dataset: str, files: list[SourceFile], config: DatasetConfig, order: str) -> Outcome:
        """Record the version and its run, then start it; each step finds it done when it was."""
        if not any(file.size for file in files):
            raise BadDataset(f"The upload {files[0].key[:200]!r} is empty (0 bytes).", "Upload a file with content.")
        version = version_of(files, config)
        source = _sources(files)
        run_id, is_new = self._run_of(dataset, version, source, order)
        request = DatasetRequest(dataset=dataset, version=version, files=tuple(files), config=config)
        data = canonical_json(request.model_dump(mode="json"))
        self.artifacts.write_new(DatasetKeys(dataset, version).request, data, "application/json")
        self.catalog.newest_version(dataset, version, order)
        self.start(run_id, dataset, version)
        return Outcome("started" if is_new else "unchanged", run_id)

    def _run_of(self, dataset: str, version: str, source: list[Source], order: str) -> tuple[str, bool]:
        """The run of a version, and whether it is new.

        A version has one run, whatever the events do; a failed one gets a successor when its bytes are uploaded again.
        A repeated event doesn't count as an upload: its object versions are those that the failed run was made from.
        """
        first = f"{dataset}-{version}"
        if self.catalog.begin_run(first, dataset, version, source, order):
            return first, True
        last = self.catalog.run_of_version(dataset, version)
        if last.failed and not set(last.source) & set(source):
            successor = f"{first}-{last.attempt + 1}"
            if self.catalog.begin_again(successor, last, source):
                return successor, True
            last = self.catalog.run_of_version(dataset, version)
        return last.run_id, False

    def _refuse(self, upload: Upload, error: ShoalError) -> Outcome:
        identity = f"{upload.key}\n{upload.version}".encode()
        run_id = f"refused-{hashlib.sha256(identity).hexdigest()[:VERSION_LENGTH]}"
        # The name may be what is wrong with the upload; it is shown, never used.
        dataset = upload.key[len(PREFIX) :].partition("/")[0][:80]
        source = [Source(key=upload.key, version=upload.version, size=upload.size)]
        self.catalog.refuse_upload(run_id, dataset, source, type(error).__name__, str(error))
        return Outcome("refused", run_id, str(error))


def version_of(files: Sequence[SourceFile], config: DatasetConfig) -> str:
    """The version that these bytes and settings make: 12 hex digits of a sha256.

    The names of loose files count (their folders are classes), the name of a single archive or table doesn't.
    """
    contents = sorted((_identity(file.key) if len(files) > 1 else "", file.sha256 or "") for file in files)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    data = canonical_json({"files": contents, "config": settings})
    return hashlib.sha256(data).hexdigest()[:VERSION_LENGTH]


def _identity(key: str) -> str:
    return key[len(PREFIX) :].partition("/")[2]


def _sources(files: Iterable[SourceFile], limit: int = 20) -> list[Source]:
    """The first files, for people; request.json has them all."""
    return [Source(key=file.key, version=file.version, size=file.size) for file in list(files)[:limit]]
