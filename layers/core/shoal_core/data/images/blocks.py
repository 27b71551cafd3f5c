"""Blocks: the images of an archive that can't be entered in the middle, re-packed so that each worker reads its own.

A tar.gz has to be read from its start to reach any member. Planning reads it once anyway, and while it does so writes
its images to blocks in the artifacts bucket: plain tars (POSIX ustar with GNU long names) without anything else.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from shoal_core.data.archive_members import LIMITS
from shoal_core.data.plan import ArchiveSlice
from shoal_core.data.tar_headers import file_header
from shoal_core.data.tar_reading import read_tar
from shoal_core.errors import BadArchive
from shoal_core.keys import BlockKeys
from shoal_core.store import ObjectStore

BLOCK_BYTES = 16 * 1024**2


class BlockWriter:
    """Packs members into blocks as they come; memory is bounded by a block and one member.

    Args:
        artifacts: Where blocks go.
        keys: The keys of blocks.
        first: Number of the first block.
    """

    def __init__(self, artifacts: ObjectStore, keys: BlockKeys, first: int) -> None:
        self._artifacts = artifacts
        self._keys = keys
        self.block = first
        self._buffer = io.BytesIO()

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Pack one member: the block it is in, and the offset of its header there."""
        if self._buffer.tell() >= BLOCK_BYTES:
            self._write()
        offset = self._buffer.tell()
        self._buffer.write(file_header(name, len(data)))
        self._buffer.write(data)
        self._buffer.write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
        return self.block, offset

    def close(self) -> int:
        """Write what is left; the number of the block after the last one."""
        if self._buffer.tell():
            self._write()
        return self.block

    def _write(self) -> None:
        self._buffer.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._artifacts.write(self._keys.block(self.block), self._buffer.getvalue(), "application/x-tar")
        self._buffer = io.BytesIO()
        self.block += 1


def read_blocks(artifacts: ObjectStore, keys: BlockKeys, item: ArchiveSlice) -> Iterator[tuple[int, str, bytes]]:
    """Members first..last of an item (number, name, bytes), from the block and offset that it names on."""
    block, offset, index = item.block or 0, item.offset, item.first
    while index < item.last:
        key = keys.block(block)
        data = artifacts.read(key)
        before = index
        stream, left = io.BytesIO(data), item.last - index
        for member, content in read_tar(stream, key, len(data), False, 0, left, offset, None, LIMITS):
            yield index, member.name, content
            index += 1
        if index == before:
            raise BadArchive(f"{key!r} ends before member {index}.", "Upload the data again.")
        block, offset = block + 1, 0
