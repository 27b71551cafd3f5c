"""Zip, tar and tar.gz archives: list members, read a slice of them, safely and in bounded memory.

A member that is unsafe (absolute name, `..`, link, device), encrypted, too large, nested or damaged is refused and
told; the rest goes on. An archive that can't be trusted as a whole (a bomb, cut short, not an archive, empty) raises
`BadArchive`. Nothing is ever extracted to a disk.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import BinaryIO, Literal

from shoal_core.data.archive_members import (
    ARCHIVE_SUFFIXES,
    LIMITS,
    WHOLE_FIX,
    Limits,
    Member,
    check_total,
    judge_name,
)
from shoal_core.data.tar_reading import is_old_tar, list_tar, read_tar
from shoal_core.data.zip_reading import list_zip, read_zip
from shoal_core.errors import BadArchive

__all__ = [
    "ARCHIVE_SUFFIXES",
    "LIMITS",
    "ArchiveFormat",
    "Limits",
    "Member",
    "archive_format",
    "judge_name",
    "list_members",
    "read_members",
    "unpack_members",
]

ArchiveFormat = Literal["zip", "tar", "tar.gz"]


def archive_format(stream: BinaryIO, name: str) -> ArchiveFormat:
    """Tell the format by the first bytes; `stream` is left at its start.

    Raises:
        BadArchive: Empty, or none of the three.
    """
    stream.seek(0)
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise BadArchive(f"{name!r} is empty.", WHOLE_FIX)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    # POSIX and GNU archives say `ustar`, older ones only have a header checksum, and empty ones are zeros.
    if head[257:262] == b"ustar" or (len(head) == 512 and (not head.strip(b"\0") or is_old_tar(head))):
        return "tar"
    raise BadArchive(f"{name!r} isn't a zip, tar or tar.gz archive, or its beginning is damaged.", WHOLE_FIX)


def list_members(stream: BinaryIO, name: str, size: int, limits: Limits = LIMITS) -> Iterator[Member]:
    """Every entry but directories, in the archive's order: readable, refused and junk ones.

    Args:
        stream: The archive, seekable.
        name: Its name, for errors.
        size: Its bytes, for the compression ratio.
        limits: What it may hold.

    Raises:
        BadArchive: The archive as a whole is empty, damaged or a bomb. A tar is read while this iterates, so its
            damage may show late.
    """
    kind = archive_format(stream, name)
    if kind == "zip":
        members = list_zip(stream, name, size, limits)
    else:
        members = list_tar(stream, name, size, kind == "tar.gz", limits)
    counter = _Counter(name, size, limits)
    for member in members:
        counter.add(member)
        yield member
    counter.close()


def unpack_members(stream: BinaryIO, name: str, size: int, limits: Limits = LIMITS) -> Iterator[tuple[Member, bytes]]:
    """What `list_members` tells of a tar.gz, with the bytes of each member, in one pass. Raises `BadArchive`."""
    counter = _Counter(name, size, limits)
    for member, data in read_tar(stream, name, size, True, 0, None, 0, None, limits):
        counter.add(member)
        yield member, data
    counter.close()


class _Counter:
    """Counts members and their bytes. Raises `BadArchive` for none, too many, or a bomb."""

    def __init__(self, name: str, size: int, limits: Limits) -> None:
        self._name = name
        self._size = size
        self._limits = limits
        self._members = 0
        self._bytes = 0

    def add(self, member: Member) -> None:
        self._members += 1
        self._bytes += member.size
        if self._members > self._limits.members:
            raise BadArchive(
                f"{self._name!r} has more than {self._limits.members:,} members.", "Split it into several datasets."
            )
        check_total(self._name, self._bytes, self._size, self._limits)

    def close(self) -> None:
        if not self._members:
            fix = "Put images in one folder per class and pack those folders."
            raise BadArchive(f"{self._name!r} holds no files.", fix)


def read_members(
    stream: BinaryIO,
    name: str,
    size: int,
    first: int,
    last: int,
    offset: int = 0,
    wanted: Container[int] | None = None,
    limits: Limits = LIMITS,
) -> Iterator[tuple[Member, bytes]]:
    """Entries first..last (exclusive) with their bytes.

    A refused, junk or damaged entry comes with empty bytes and its `code` set.

    Args:
        stream: The archive, seekable.
        name: Its name, for errors.
        size: Its bytes.
        first: Index of the entry to start at, as `list_members` told it.
        last: Index after the last entry to read.
        offset: The first entry's `offset`.
        wanted: Indices to read; None is all of them. A mapping gives the `offset` of each, so a zip is read only there.
        limits: What it may hold.

    Raises:
        BadArchive: The archive is damaged so that reading can't go on (tar, tar.gz), or it is a bomb.
    """
    kind = archive_format(stream, name)
    if kind == "zip":
        yield from read_zip(stream, name, first, last, offset, wanted, limits)
    else:
        yield from read_tar(stream, name, size, kind == "tar.gz", first, last, offset, wanted, limits)
