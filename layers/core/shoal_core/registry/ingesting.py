"""From an uploaded object to a dataset version and its run: exactly one for the same bytes, whatever the events do.

The upload contract:
- an archive or a table at `datasets/<name>/<file>` is a whole dataset; it starts a run at once;
- loose files below `datasets/<name>/` wait until `datasets/<name>/dataset.yaml` is written, which commits them all;
- a `dataset.yaml` beside an archive or table holds its settings; writing it again runs the newest one with them;
- a `dataset.yaml` with `source`, and a list of URIs (`.uris`), start the reading of what they name;
- `datasets/<name>/replay/<id>/replay.yaml` commits a version's files with those beside it in their place.

A version is named by its content (files and settings), so repeated, late or reordered events find what is there.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal_core.data.config import DatasetConfig, SourceFile, parse_config
from shoal_core.data.requests import FileList, read_request, relative_name
from shoal_core.errors import BadConfig, BadDataset, NotFound, ShoalError
from shoal_core.keys import DatasetKeys
from shoal_core.registry.audit import Caller
from shoal_core.registry.beginning import EVENTS, Begin, Outcome, RunCatalog
from shoal_core.registry.file_sets import VERSION_LENGTH, collect, read_set
from shoal_core.registry.names import (
    CONFIG_FILE,
    MISSPELT_CONFIG_FILE,
    PREFIX,
    REPLAY_FOLDER,
    UploadKey,
    matches,
    parse_upload_key,
)
from shoal_core.registry.records import Source
from shoal_core.registry.replaying import mended_set, parse_replay, replayed_request
from shoal_core.registry.source_tasks import SourceStarts, SourceTask
from shoal_core.store import ObjectStore

# Which of several archives or tables is the newest is asked of S3 one by one.
MAX_CONTAINERS = 1_000


@dataclass(frozen=True)
class Upload:
    """One finished write: an S3 event's object.

    Attributes:
        key: Its key.
        version: Its S3 version.
        size: Bytes.
        order: Sorts by time of upload.
        who: S3's principal id of who wrote it.
        address: Where the request came from.
    """

    key: str
    version: str | None
    size: int
    order: str
    who: str = EVENTS.who
    address: str = ""

    @property
    def caller(self) -> Caller:
        """Who wrote it, as the audit record names it."""
        return Caller(who=self.who, source=self.address)

    @property
    def source(self) -> Source:
        """The object, as a run names it."""
        return Source(key=self.key, version=self.version, size=self.size)


class Uploads(ObjectStore, Protocol):
    """The bucket that users write to."""

    def fingerprint(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version, size and sha256, from one pass over its bytes. Raises `NotFound`."""
        ...

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """Current objects under a prefix, in UTF-8 order, with S3 version, size and ETag."""
        ...

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written; sorts by time. Raises `NotFound`."""
        ...


class IngestCatalog(RunCatalog, Protocol):
    """What ingesting needs of the catalog."""

    def latest_version(self, dataset: str) -> str | None:
        """See `shoal_core.aws.catalog.Catalog.latest_version`."""

    def dataset_waiting(self, dataset: str, note: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.dataset_waiting`."""

    def dataset_not_waiting(self, dataset: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.dataset_not_waiting`."""

    def refuse_upload(self, run_id: str, dataset: str, source: Sequence[Source], error: str, message: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.refuse_upload`."""


@dataclass(frozen=True)
class Ingest:
    """The upload's way into the pipeline, over a bucket of uploads, a store of artefacts, a catalog and starters."""

    uploads: Uploads
    artifacts: ObjectStore
    catalog: IngestCatalog
    begin: Begin
    sources: SourceStarts

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
        if key.is_replay:
            return self._replay(key, upload)
        if key.replay is not None:
            return Outcome("waiting", reason="files of a replay wait for its replay.yaml")
        if key.is_container:
            config = self._config(key.dataset)
            if config.files is None and not self._is_label_file(key, config):
                return self._container(key, upload, config)
        return self._wait(key, upload)

    def _container(self, key: UploadKey, upload: Upload, config: DatasetConfig) -> Outcome:
        """An archive or a table is a whole dataset; a list of URIs names one."""
        if key.is_list:
            return self._read_source(key.dataset, upload, config)
        file = self.uploads.fingerprint(upload.key, upload.version)
        files = read_set(key.dataset, [file])
        outcome = self.begin(key.dataset, files, config, upload.order, caller=upload.caller)
        if not self._has_loose(key.dataset, config):
            self.catalog.dataset_not_waiting(key.dataset, upload.order)
        return outcome

    def _commit_set(self, dataset: str, upload: Upload) -> Outcome:
        """`dataset.yaml` was written: read its source, or run the files beside it, or the newest archive or table."""
        config = parse_config(self.uploads.read(upload.key, upload.version))
        if config.source is not None:
            return self._read_source(dataset, upload, config)
        self.sources.schedule(dataset, None, self._task(dataset, upload))
        containers: list[UploadKey] = []
        files = collect(self.artifacts, dataset, self._members(dataset, config, containers), self.uploads.fingerprint)
        if files is not None:
            self.catalog.dataset_not_waiting(dataset, upload.order)
            return self.begin(dataset, files, config, upload.order, caller=upload.caller)
        if containers:
            keys = [f"{PREFIX}{dataset}/{container.file}" for container in containers]
            newest = max(keys, key=lambda key: (self.uploads.modified(key), key))
            key = parse_upload_key(newest)
            if key is not None and key.is_list:
                return self._read_source(dataset, upload, config, newest)
            found = read_set(dataset, [self.uploads.fingerprint(newest)])
            return self.begin(dataset, found, config, upload.order, caller=upload.caller)
        what = f"files that match {', '.join(config.files)}" if config.files else "an archive, a table or files"
        self.catalog.dataset_waiting(
            dataset, f"{CONFIG_FILE} is there; upload {what} beside it, then write it again.", upload.order
        )
        return Outcome("waiting", reason="no data beside dataset.yaml yet")

    def _members(self, dataset: str, config: DatasetConfig, containers: list[UploadKey]) -> Iterator[SourceFile]:
        """The files that dataset.yaml commits; archives and tables that it doesn't go to `containers`."""
        for file in self.uploads.versions(f"{PREFIX}{dataset}/"):
            key = parse_upload_key(file.key)
            if key is None or key.is_config or key.file.startswith(REPLAY_FOLDER):
                continue
            if _is_member(key, config):
                yield file
            elif config.files is None:
                containers.append(key)
                if len(containers) > MAX_CONTAINERS:
                    raise BadDataset(
                        f"Dataset {dataset!r} has more than {MAX_CONTAINERS:,} archives and tables.",
                        "Name those that belong together in dataset.yaml, for example `files: '*.csv'`.",
                    )

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
        files = FileList(self.artifacts, read_request(self.artifacts, DatasetKeys(dataset, newest)))
        name = upload.key.removeprefix(f"{PREFIX}{dataset}/").encode("utf-8", "replace")
        index = bisect.bisect_left(
            files, name, key=lambda entry: relative_name(entry, dataset).encode("utf-8", "replace")
        )
        return any((entry.key, entry.version) == (upload.key, upload.version) for entry in files.part(index, index + 1))

    def _has_loose(self, dataset: str, config: DatasetConfig) -> bool:
        """Whether files wait beside an archive or table; the first one found is the answer."""
        keys = (parse_upload_key(key) for key in self.uploads.keys(f"{PREFIX}{dataset}/"))
        return any(
            _is_member(key, config) and not key.file.startswith(REPLAY_FOLDER)
            for key in keys
            if key and not key.is_config
        )

    def _is_label_file(self, key: UploadKey, config: DatasetConfig) -> bool:
        return config.labels is not None and config.labels.file == key.file

    def _config(self, dataset: str) -> DatasetConfig:
        try:
            return parse_config(self.uploads.read(f"{PREFIX}{dataset}/{CONFIG_FILE}"))
        except NotFound:
            return DatasetConfig()

    def _replay(self, key: UploadKey, upload: Upload) -> Outcome:
        """`replay.yaml` was written: the version's files with the mended ones, or the version's run once more."""
        replay = parse_replay(self.uploads.read(upload.key, upload.version), upload.key)
        request = replayed_request(self.artifacts, key.dataset, replay.version, upload.key)
        folder = upload.key.rpartition("/")[0] + "/"
        mended = {
            file.key.removeprefix(folder): file
            for file in self.uploads.versions(folder)
            if file.key != upload.key and not file.key.endswith("/")
        }
        files = mended_set(self.artifacts, request, mended, self.uploads.fingerprint)
        source = [upload.source]
        return self.begin(key.dataset, files, request.config, upload.order, source, not mended, upload.caller)

    def _task(self, dataset: str, upload: Upload, key: str | None = None) -> SourceTask:
        version = upload.version if key is None else None
        return SourceTask.of(dataset, key or upload.key, version, upload.source, upload.order, upload.caller)

    def _read_source(self, dataset: str, upload: Upload, config: DatasetConfig, key: str | None = None) -> Outcome:
        """Start the state machine that reads a source and then begins a version of what it found."""
        task = self._task(dataset, upload, key)
        what = config.source.title if config.source is not None else task.key
        self.catalog.dataset_waiting(dataset, f"Reading {what}.", upload.order)
        if config.source is not None:
            self.sources.schedule(dataset, config.schedule, task)
        self.sources.start(task)
        return Outcome("reading", reason=f"{what} is being read")

    def _refuse(self, upload: Upload, error: ShoalError) -> Outcome:
        identity = f"{upload.key}\n{upload.version}".encode()
        run_id = f"refused-{hashlib.sha256(identity).hexdigest()[:VERSION_LENGTH]}"
        # The name may be what is wrong with the upload; it is shown, never used.
        dataset = upload.key[len(PREFIX) :].partition("/")[0][:80]
        self.catalog.refuse_upload(run_id, dataset, [upload.source], type(error).__name__, str(error))
        return Outcome("refused", run_id, str(error))


def _is_member(key: UploadKey, config: DatasetConfig) -> bool:
    """Whether dataset.yaml commits the file: one that its patterns match or, without patterns, a loose one."""
    if config.files is not None:
        return matches(key.file, config.files)
    if config.labels is not None and config.labels.file == key.file:
        return True
    return not key.is_container
