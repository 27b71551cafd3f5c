"""An object store in memory, for tests of the domain."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Self

from shoal_core.errors import Conflict, NotFound


class MemoryStore:
    """Implements `shoal_core.store.StreamStore`; keeps only the newest version of a key. An ETag is the bytes' MD5."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.buckets: dict[str, MemoryStore] = {}

    def in_bucket(self, bucket: str) -> Self:
        """The store of another bucket, made empty when it is first asked for."""
        return self.buckets.setdefault(bucket, type(self)())  # type: ignore[return-value]

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        if key not in self.objects:
            raise NotFound(f"Object {key!r} doesn't exist.")
        data = self.objects[key]
        if etag is not None and etag != hashlib.md5(data, usedforsecurity=False).hexdigest():
            raise Conflict(f"Object {key!r} has changed since it was listed.")
        return data

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        return io.BytesIO(self.read(key, version, etag))

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        return self.read(key, version, etag)[start:stop]

    def exists(self, key: str) -> bool:
        return key in self.objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.objects[key] = bytes(data)

    def write_stream(self, key: str, chunks: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        self.write(key, b"".join(chunks))

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        if key in self.objects:
            return False
        self.write(key, data, content_type)
        return True
