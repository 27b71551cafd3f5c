"""The request that a dataset version starts from, and its files: ten, or a million."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import BinaryIO, overload

from shoal_core.data.config import DatasetRequest, ListingPart, SourceFile
from shoal_core.data.listings import decode_part
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

CONFIG_NAMES = ("dataset.yaml", "dataset.yml")
# Parts of a listing that are kept in memory at once, each at most 10,000 files.
_PARTS_KEPT = 2


def read_request(artifacts: ObjectStore, keys: DatasetKeys) -> DatasetRequest:
    """The request of a dataset version. Raises `NotFound`, or `BadInput` when it can't be read."""
    try:
        return DatasetRequest.model_validate_json(artifacts.read(keys.request))
    except ValueError as error:
        raise BadInput(f"The request {keys.request!r} can't be read: {error}.", "Upload the data again.") from error


def relative_name(file: SourceFile, dataset: str) -> str:
    """A file's name within its dataset: the key without `datasets/<name>/`, or the name that a source gave it."""
    return file.name if file.name is not None else file.key.removeprefix(f"datasets/{dataset}/")


class FileList(Sequence[SourceFile]):
    """The files of a request in the order of their names, without `dataset.yaml` and folder markers.

    A million of them are read in parts of 10,000 as they are asked for, so memory is bounded by the part.

    Args:
        artifacts: Where the parts of the listing are.
        request: The dataset version's request.
    """

    def __init__(self, artifacts: ObjectStore, request: DatasetRequest) -> None:
        self._artifacts = artifacts
        self._parts = request.listing.parts if request.listing else ()
        self._files = [] if request.listing else _sorted_files(request)
        self._starts = [0, *itertools.accumulate(part.count for part in self._parts)]
        self._read = lru_cache(_PARTS_KEPT)(self._read_part)

    def __len__(self) -> int:
        return self._starts[-1] if self._parts else len(self._files)

    @overload
    def __getitem__(self, index: int) -> SourceFile: ...
    @overload
    def __getitem__(self, index: slice) -> list[SourceFile]: ...

    def __getitem__(self, index: int | slice) -> SourceFile | list[SourceFile]:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            return self.part(first, max(first, last))[::step] if step > 0 else list(self)[index]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"file {index} of {len(self)}")
        return self.part(position, position + 1)[0]

    def __iter__(self) -> Iterator[SourceFile]:
        yield from self._files
        for part in self._parts:
            yield from self._read(part)

    def part(self, first: int, last: int) -> list[SourceFile]:
        """Files first..last (exclusive), from only those parts of the listing that hold them."""
        if not self._parts:
            return self._files[first:last]
        found: list[SourceFile] = []
        number = max(0, bisect.bisect_right(self._starts, first) - 1)
        while number < len(self._parts) and self._starts[number] < last:
            start = self._starts[number]
            found += self._read(self._parts[number])[max(0, first - start) : last - start]
            number += 1
        return found

    def _read_part(self, part: ListingPart) -> tuple[SourceFile, ...]:
        return decode_part(self._artifacts.read(part.key), part)


def _sorted_files(request: DatasetRequest) -> list[SourceFile]:
    files = [
        file
        for file in request.files
        if relative_name(file, request.dataset) not in CONFIG_NAMES and not file.key.endswith("/")
    ]
    return sorted(files, key=lambda file: relative_name(file, request.dataset).encode("utf-8", "replace"))


def read_source(uploads: ObjectStore, file: SourceFile) -> bytes:
    """All bytes of a file, from whichever bucket it is in.

    Raises:
        NotFound: It is gone.
        Conflict: It has changed since it was listed; the reason names it.
        NotPermitted: The stack may not read its bucket; the fix names the parameter.
    """
    return _store(uploads, file).read(file.key, file.version, _expected(file))


def open_source(uploads: ObjectStore, file: SourceFile) -> BinaryIO:
    """A seekable, buffered reader of a file, from whichever bucket it is in. Raises as `read_source`."""
    return _store(uploads, file).open(file.key, file.version, _expected(file))


def _store(uploads: ObjectStore, file: SourceFile) -> ObjectStore:
    return uploads if file.bucket is None else uploads.in_bucket(file.bucket)


def _expected(file: SourceFile) -> str | None:
    """The ETag to insist on; an S3 version can't change, so there it isn't needed."""
    return file.etag if file.version is None else None
