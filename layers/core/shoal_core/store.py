"""Where bytes live: the one view of object storage that the domain has.

`shoal_core.aws.s3.S3Store` implements it over S3; tests implement it in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol


class ObjectStore(Protocol):
    """Objects under string keys, in one bucket. Writes are atomic: a reader sees all of an object or none of it."""

    def read(self, key: str, version: str | None = None) -> bytes:
        """All bytes of an object. Raises `NotFound`."""
        ...

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """A seekable, buffered reader that fetches only the ranges that are read. Raises `NotFound`."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object exists now."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, in UTF-8 binary order."""
        ...

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object."""
        ...

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless one is there (`If-None-Match: *`). False when one was: the first writer wins."""
        ...
