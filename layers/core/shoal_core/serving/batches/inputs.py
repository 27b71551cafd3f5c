"""The files of a batch job, pinned once: `inputs.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetRequest, SourceFile
from shoal_core.data.requests import FileList
from shoal_core.errors import BadDataset, NotFound
from shoal_core.keys import BatchKeys
from shoal_core.registry.file_sets import ListingWriter
from shoal_core.registry.names import UploadKey, matches
from shoal_core.registry.sources import is_hidden
from shoal_core.registry.uri_lists import count_uris, describe_uris, read_uris
from shoal_core.serving.batches.request import CONFIG_FILE, BatchRequest
from shoal_core.store import ObjectStore


class BatchUploads(ObjectStore, Protocol):
    """The bucket of uploads as planning needs it; `in_bucket` leads to others."""

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's S3 version, size and ETag. Raises `NotFound` or `NotPermitted`."""
        ...

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """Current objects under a prefix, in UTF-8 order, with S3 version, size and ETag."""
        ...

    def listing(self, prefix: str, after: str = "") -> Iterator[SourceFile]:
        """Current objects under a prefix, in UTF-8 order, with size and ETag."""
        ...


def read_inputs(artifacts: ObjectStore, keys: BatchKeys) -> FileList:
    """The files that `pin_inputs` has pinned. Raises `NotFound`."""
    return FileList(artifacts, DatasetRequest.model_validate_json(artifacts.read(keys.inputs)))


def pin_inputs(uploads: BatchUploads, artifacts: ObjectStore, request: BatchRequest) -> FileList:
    """The job's files in the order of their names, each with its S3 version or ETag; a later call returns the same.

    Raises:
        BadDataset: There are none, or they are empty.
        NotFound, NotPermitted: They are gone, or the stack may not read them.
    """
    if not artifacts.exists(request.keys.inputs):
        folder = f"{request.keys.prefix}files/"
        writer = ListingWriter(artifacts, f"{request.model}/{request.job}", folder=folder)
        for file in _listed(uploads, request):
            writer.add(file)
        if not writer.bytes:
            what = request.file.key if request.file else request.config.source or request.folder
            raise BadDataset(f"{what!r} holds no data.", "Upload files with content.")
        found = writer.finish()
        pinned = DatasetRequest(dataset=writer.dataset, version="", files=found.files, listing=found.listing)
        artifacts.write_new(request.keys.inputs, canonical_json(pinned.model_dump(mode="json")), "application/json")
    return read_inputs(artifacts, request.keys)


def _listed(uploads: BatchUploads, request: BatchRequest) -> Iterator[SourceFile]:
    config = request.config
    if request.file is not None:
        key, version = request.file.key, request.file.version
        name = key.removeprefix(request.folder)
        if UploadKey(request.model, name).is_list:
            yield from describe_uris(
                uploads, key, read_uris(uploads, key, version, 0, count_uris(uploads, key, version))
            )
            return
        yield uploads.describe(key, version).model_copy(update={"name": name})
        return
    if config.source is not None:
        yield from _of_source(uploads, request)
        return
    for file in uploads.versions(request.folder):
        name = file.key.removeprefix(request.folder)
        if name and not name.endswith("/") and is_member(UploadKey(request.model, name), config.files):
            yield file.model_copy(update={"name": name})


def is_member(key: UploadKey, patterns: tuple[str, ...] | None) -> bool:
    """Whether batch.yaml commits the file: one that its patterns match or, without patterns, a loose one."""
    if key.file == CONFIG_FILE:
        return False
    return matches(key.file, patterns) if patterns is not None else not key.is_container


def _of_source(uploads: BatchUploads, request: BatchRequest) -> Iterator[SourceFile]:
    config = request.config
    folder = config.source_prefix.rpartition("/")[0]
    skipped = len(folder) + 1 if folder else 0
    found = False
    for file in uploads.in_bucket(config.source_bucket).listing(config.source_prefix):
        name = file.key[skipped:]
        if is_hidden(name) or (config.files is not None and not matches(name, config.files)):
            continue
        found = True
        yield file.model_copy(update={"bucket": config.source_bucket, "name": name})
    if not found:
        raise NotFound(f"Nothing lies under {config.source!r}.", f"Check `source` (and `files`) in {CONFIG_FILE}.")
