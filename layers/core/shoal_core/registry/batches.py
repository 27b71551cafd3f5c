"""From an uploaded object to a batch job: exactly one for each upload, whatever the events do.

The contract, as that of datasets (`registry.ingesting`):
- an archive, a table or a list of URIs at `batch/<model>/<job>/<file>` is a whole job; it starts at once;
- loose files below `batch/<model>/<job>/` wait until `batch.yaml` is written there, which commits them all;
- a `batch.yaml` beside an archive or table holds its settings; writing it again runs the newest one with them;
- a `batch.yaml` with `source` reads an S3 prefix.

A job is named by its upload: the same event again finds the job that is there, another upload under the same name is
`<job>-2`. What was predicted depends on the version in production at that time, so the same bytes may be asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import MAX_CONFIG_BYTES, SourceFile
from shoal_core.errors import BadConfig, BadName, NotFound, ShoalError
from shoal_core.registry.audit import AuditLog, Caller
from shoal_core.registry.beginning import Outcome
from shoal_core.registry.ingesting import MAX_CONTAINERS, Upload
from shoal_core.registry.names import UploadKey, check_name
from shoal_core.registry.records import Source
from shoal_core.serving.batches.inputs import is_member
from shoal_core.serving.batches.request import (
    CONFIG_FILE,
    BatchConfig,
    BatchRequest,
    UploadedFile,
    parse_batch_config,
)
from shoal_core.store import ObjectStore

PREFIX = "batch/"
MISSPELT_CONFIG_FILE = "batch.yml"
_ID_LENGTH = 24


class BatchUploads(ObjectStore, Protocol):
    """The bucket of uploads as ingesting needs it."""

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's S3 version, size and ETag. Raises `NotFound`."""
        ...

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """Current objects under a prefix, in UTF-8 order, with S3 version, size and ETag."""
        ...

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written; sorts by time. Raises `NotFound`."""
        ...


class BatchIngestCatalog(Protocol):
    """What ingesting needs of the catalog."""

    def reserve(self, model: str, job: str, identity: str, source: Sequence[Source]) -> tuple[str, bool]:
        """See `shoal_core.aws.batch_catalog.BatchCatalog.reserve`."""

    def waiting(self, model: str, job: str, note: str) -> None:
        """See `shoal_core.aws.batch_catalog.BatchCatalog.waiting`."""

    def refuse(self, model: str, job: str, source: Sequence[Source], error: str, message: str) -> None:
        """See `shoal_core.aws.batch_catalog.BatchCatalog.refuse`."""


@dataclass(frozen=True)
class BatchKey:
    """`batch/<model>/<job>/<file>` taken apart; `file` may hold further slashes."""

    model: str
    job: str
    file: UploadKey

    @property
    def folder(self) -> str:
        """What the keys of the job's files begin with."""
        return f"{PREFIX}{self.model}/{self.job}/"


def parse_batch_key(key: str) -> BatchKey | None:
    """The model, job and file that an uploaded key means; None for folder markers and keys outside `batch/`.

    Raises:
        BadName: There is no job's name, or a name isn't allowed.
    """
    if not key.startswith(PREFIX) or key.endswith("/"):
        return None
    model, _, rest = key[len(PREFIX) :].partition("/")
    job, slash, file = rest.partition("/")
    if not slash:
        place = f"{PREFIX}{model}/JOB/{job}" if job else f"{PREFIX}MODEL/JOB/{model}"
        raise BadName(f"The upload {key[:200]!r} names no batch job.", f"Upload it to {place[:200]} instead.")
    return BatchKey(check_name(model, "model"), check_name(job, "job"), UploadKey(model, file))


@dataclass(frozen=True)
class BatchIngest:
    """The upload's way into the batch state machine, over uploads, artefacts, a catalog and `start(model, job)`.

    `audit` keeps who began which job.
    """

    uploads: BatchUploads
    artifacts: ObjectStore
    catalog: BatchIngestCatalog
    start: Callable[[str, str], None]
    audit: AuditLog

    def __call__(self, upload: Upload) -> Outcome:
        """Handle one finished write. What is wrong with the upload is recorded as a failed job, not raised."""
        try:
            key = parse_batch_key(upload.key)
            if key is None:
                return Outcome("ignored", reason="not a file of a batch job")
            if key.file.file == MISSPELT_CONFIG_FILE:
                raise BadConfig(f"{upload.key!r} isn't read.", f"Name it {CONFIG_FILE}.")
            return self._ingest(key, upload)
        except NotFound:
            return Outcome("ignored", reason="the object is gone: a later event tells what replaced it")
        except ShoalError as error:
            if error.retryable:
                raise
            return self._refuse(upload, error)

    def _ingest(self, key: BatchKey, upload: Upload) -> Outcome:
        if key.file.file == CONFIG_FILE:
            return self._commit(key, upload)
        config_key = f"{key.folder}{CONFIG_FILE}"
        try:
            written: SourceFile | None = self.uploads.describe(config_key)
        except NotFound:
            written = None
        config = BatchConfig()
        if written is not None:
            config = self._config(written)
        if key.file.is_container and config.files is None and config.source is None:
            return self._begin(key, config, upload.source, written, upload.caller)
        if written is not None and self.uploads.modified(config_key) >= self.uploads.modified(upload.key):
            return Outcome("ignored", reason=f"committed by its {CONFIG_FILE}")
        note = f"Files wait: write {config_key} (it may be empty) to start one job with all of them."
        self.catalog.waiting(key.model, key.job, note)
        return Outcome("waiting", reason=f"loose files wait for {CONFIG_FILE}")

    def _commit(self, key: BatchKey, upload: Upload) -> Outcome:
        """`batch.yaml` was written: read its source, or take the files beside it, or the newest archive or table."""
        described = self.uploads.describe(upload.key, upload.version)
        config = self._config(described)
        if config.source is not None:
            return self._begin(key, config, None, described, upload.caller)
        newest: SourceFile | None = None
        times: tuple[str, str] = ("", "")
        for number, file in enumerate(self.uploads.versions(key.folder)):
            found = UploadKey(key.model, file.key.removeprefix(key.folder))
            if file.key.endswith("/") or found.file == CONFIG_FILE:
                continue
            if is_member(found, config.files):
                return self._begin(key, config, None, described, upload.caller)
            if config.files is None and number <= MAX_CONTAINERS:
                written = (self.uploads.modified(file.key), file.key)
                newest, times = (file, written) if written > times else (newest, times)
        if newest is not None:
            source = Source(key=newest.key, version=newest.version, size=newest.size)
            return self._begin(key, config, source, described, upload.caller)
        what = f"files that match {', '.join(config.files)}" if config.files else "an archive, a table or files"
        self.catalog.waiting(key.model, key.job, f"{CONFIG_FILE} is there; upload {what} beside it.")
        return Outcome("waiting", reason=f"no data beside {CONFIG_FILE} yet")

    def _config(self, file: SourceFile) -> BatchConfig:
        """The settings in a batch.yaml, whose size is looked at before it is read."""
        if file.size > MAX_CONFIG_BYTES:
            raise BadConfig(f"{CONFIG_FILE} has {file.size:,} bytes.", f"Keep it under {MAX_CONFIG_BYTES:,} bytes.")
        return parse_batch_config(self.uploads.read(file.key, file.version))

    def _begin(
        self, key: BatchKey, config: BatchConfig, file: Source | None, written: SourceFile | None, caller: Caller
    ) -> Outcome:
        """Record the job of these objects and start it; each step finds it done when it was."""
        settings = [Source(key=written.key, version=written.version, size=written.size)] if written else []
        source = [*([file] if file else []), *settings]
        identity = hashlib.sha256(canonical_json([[entry.key, entry.version] for entry in source])).hexdigest()
        job, is_new = self.catalog.reserve(key.model, key.job, identity[:_ID_LENGTH], source)
        uploaded = UploadedFile(key=file.key, version=file.version) if file else None
        request = BatchRequest(model=key.model, job=job, folder=key.folder, file=uploaded, config=config)
        self.artifacts.write_new(request.keys.request, request.encode(), "application/json")
        details = {"upload": source[0].key, "upload_version": source[0].version or ""}
        name = f"{key.model}/{job}"
        self.audit.record("batch.begun", name, caller.who, caller.source, details, once=f"batch {name}")
        self.start(key.model, job)
        return Outcome("started" if is_new else "unchanged", f"{key.model}/{job}")

    def _refuse(self, upload: Upload, error: ShoalError) -> Outcome:
        # The names may be what is wrong with the upload; they are shown, never used.
        model, _, rest = upload.key[len(PREFIX) :].partition("/")
        identity = hashlib.sha256(f"{upload.key}\n{upload.version}".encode()).hexdigest()[:_ID_LENGTH]
        job = f"{rest.partition('/')[0][:40] or 'job'}-refused-{identity}"
        self.catalog.refuse(model[:64], job, [upload.source], type(error).__name__, str(error))
        return Outcome("refused", f"{model[:64]}/{job}", str(error))
