"""Where bytes live: the one view of object storage that the domain has.

`shoal_core.aws.s3.S3Store` implements it over S3; tests implement it in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol, Self


class ObjectStore(Protocol):
    """Objects under string keys, in one bucket. Writes are atomic: a reader sees all of an object or none of it."""

    def in_bucket(self, bucket: str) -> Self:
        """The same kind of store over another bucket."""
        ...

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        """All bytes of an object. Raises `NotFound`, or `Conflict` when it hasn't the ETag asked for (any more)."""
        ...

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        """A seekable, buffered reader that fetches only the ranges that are read.

        Raises `NotFound`; with an ETag asked for, also `Conflict`, here or at a later read.
        """
        ...

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        """Bytes [start, stop) of an object, in one request. Raises as `open` does."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object exists now."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, in UTF-8 binary order."""
        ...

    def write(self, key: str, data: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object."""
        ...

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless one is there (`If-None-Match: *`). False when one was: the first writer wins."""
        ...


class StreamStore(ObjectStore, Protocol):
    """A store that takes objects larger than memory."""

    def write_stream(self, key: str, chunks: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object from its bytes in order; none of it is there before all of it is."""
        ...
