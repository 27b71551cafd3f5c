"""An object store over a folder, for the data path without any cloud."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from shoal_core.errors import NotFound


@dataclass(frozen=True)
class FolderStore:
    """Implements `shoal_core.store.StreamStore`: a key is a path below `root`; versions and ETags aren't kept."""

    root: Path

    def in_bucket(self, bucket: str) -> Self:
        """A folder beside this one."""
        return type(self)(self.root.parent / bucket)

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        with self.open(key, version, etag) as file:
            return file.read()

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        try:
            return (self.root / key).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"Object {key!r} doesn't exist.") from error

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        with self.open(key, version, etag) as file:
            file.seek(start)
            return file.read(stop - start)

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def write(self, key: str, data: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        temporary = self._temporary(key, data)
        temporary.replace(self.root / key)

    def write_stream(self, key: str, chunks: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with temporary.open("wb") as file:
            file.writelines(chunks)
        temporary.replace(path)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        temporary = self._temporary(key, data)
        try:
            os.link(temporary, self.root / key)  # fails where a file is, unlike a rename
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _temporary(self, key: str, data: bytes | bytearray) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        temporary.write_bytes(data)
        return temporary
