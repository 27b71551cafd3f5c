"""The frame of an output: what stands before, between and after records, so that parts make one file of its format."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shoal_core.data.tables.formats import Packing

_GZIP_LEVEL = 4


@dataclass(frozen=True)
class Frame:
    """Bytes before the first record, between runs of records, and after the last one; `pack` packs each run.

    Both gzip (RFC 1952) and Zstandard (RFC 8878) allow a file to be several packed runs one after the other.
    """

    head: bytes = b""
    separator: bytes = b""
    tail: bytes = b""
    packing: Packing | None = None

    def pack(self, data: bytes) -> bytes:
        """Bytes as they stand in the output."""
        return _packer(self.packing)(data) if data else b""

    def around(self, runs: Iterable[bytes]) -> Iterator[bytes]:
        """The whole output: the frame around runs of records."""
        yield self.pack(self.head)
        separator = b""
        for run in runs:
            if run:
                yield self.pack(separator + run)
                separator = self.separator
        yield self.pack(self.tail)


def _packer(packing: Packing | None) -> Callable[[bytes], bytes]:
    if packing == "gzip":
        # No time stamp: the bytes depend on the records alone.
        return lambda data: gzip.compress(data, _GZIP_LEVEL, mtime=0)
    if packing == "zstd":
        import zstandard  # here, since few tables are packed with it

        return zstandard.ZstdCompressor().compress
    return bytes
