"""A job's channels as part of the artifacts bucket: what SageMaker has downloaded isn't fetched again."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from shoal_core.store import ObjectStore

VARIABLE = "SM_CHANNEL_"


@dataclass(frozen=True)
class ChannelStore:
    """An object store some of whose prefixes lie in folders.

    Attributes:
        store: Everything, and where writes go.
        folders: Prefix of keys, with its slash -> the folder that holds what is below it.
    """

    store: ObjectStore
    folders: Mapping[str, Path]

    @classmethod
    def of(cls, store: ObjectStore, dataset_prefix: str, environment: Mapping[str, str]) -> ChannelStore:
        """The channels of a job, as its variables `SM_CHANNEL_<NAME>` tell, one for each split of a dataset version."""
        return cls(
            store,
            {
                f"{dataset_prefix}{split}/": Path(environment[f"{VARIABLE}{split.upper()}"])
                for split in ("train", "validation", "test")
                if f"{VARIABLE}{split.upper()}" in environment
            },
        )

    def _file(self, key: str, version: str | None, etag: str | None) -> Path | None:
        if version is not None or etag is not None:
            return None
        for prefix, folder in self.folders.items():
            path = folder / key.removeprefix(prefix)
            if key.startswith(prefix) and path.is_file():
                return path
        return None

    def in_bucket(self, bucket: str) -> Self:
        """The same kind of store over another bucket, without channels."""
        return type(self)(self.store.in_bucket(bucket), {})

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        """All bytes of an object; see `ObjectStore.read`."""
        path = self._file(key, version, etag)
        return self.store.read(key, version, etag) if path is None else path.read_bytes()

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        """A seekable reader; see `ObjectStore.open`."""
        path = self._file(key, version, etag)
        return self.store.open(key, version, etag) if path is None else io.BytesIO(path.read_bytes())

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        """Bytes [start, stop) of an object; see `ObjectStore.read_range`."""
        path = self._file(key, version, etag)
        if path is None:
            return self.store.read_range(key, start, stop, version, etag)
        with path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def exists(self, key: str) -> bool:
        """Whether the object exists now."""
        return self._file(key, None, None) is not None or self.store.exists(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, as the bucket has them."""
        return self.store.keys(prefix)

    def write(self, key: str, data: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object of the bucket."""
        self.store.write(key, data, content_type)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write an object of the bucket unless one is there."""
        return self.store.write_new(key, data, content_type)
