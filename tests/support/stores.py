"""An object store in memory, for tests of the domain."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from shoal_core.errors import NotFound


class MemoryStore:
    """Implements `shoal_core.store.ObjectStore`; keeps only the newest version of a key."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})

    def read(self, key: str, version: str | None = None) -> bytes:
        if key not in self.objects:
            raise NotFound(f"Object {key!r} doesn't exist.")
        return self.objects[key]

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        return io.BytesIO(self.read(key, version))

    def exists(self, key: str) -> bool:
        return key in self.objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.objects[key] = bytes(data)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        if key in self.objects:
            return False
        self.write(key, data, content_type)
        return True
