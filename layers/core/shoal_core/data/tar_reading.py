"""Tar and tar.gz archives, read behind guards.

A tar can be entered at any header; a tar.gz only at its start, so planning re-packs it (`blocks`).
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Container, Iterator
from typing import Any, BinaryIO, cast

from shoal_core.data.archive_members import WHOLE_FIX, Limits, Member, judge_name, judge_size
from shoal_core.data.guards import GuardedStream
from shoal_core.data.tar_headers import PlainHeaders, TarEntry
from shoal_core.errors import BadArchive

_TAR_ERRORS = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
    UnicodeError,
    IndexError,
)


def _tar_stream(stream: BinaryIO, name: str, size: int, packed: bool, limits: Limits) -> BinaryIO:
    """The uncompressed tar, guarded: no header may ask for a huge read, no stream may grow past the limits."""
    stream.seek(0)
    if packed:
        unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
        most = min(limits.total_bytes, max(limits.ratio_floor, limits.ratio * size))
        return cast(BinaryIO, GuardedStream(unpacked, name, most, limits.member_bytes + 1024**2))
    return cast(BinaryIO, GuardedStream(stream, name, size, limits.member_bytes + 1024**2))


def _entries(headers: PlainHeaders, source: BinaryIO, name: str) -> Iterator[TarEntry]:
    """Entries of a tar from a header on; every kind of damage becomes `BadArchive`."""
    try:
        yield from headers
        # From here on it is tarfile's: the end, something unusual, or damage.
        source.seek(headers.offset)
        headers.position = -1
        with tarfile.open(fileobj=source, mode="r:", errorlevel=0) as archive:
            while (info := archive.next()) is not None:
                # TarFile keeps every header; without this a million members would stay in memory.
                cast(Any, archive).members = []
                if info.size < 0:
                    raise tarfile.ReadError("a member has a negative size")
                is_file = info.isreg() and not info.issparse()
                yield TarEntry(info.offset, info.name, info.size, info.offset_data, is_file, info.isdir())
                headers.position = -1
            _check_end(source, archive, name)
    except BadArchive:
        raise
    except _TAR_ERRORS as error:
        reason = str(error)[:120] or type(error).__name__
        raise BadArchive(f"{name!r} is a damaged or cut-off tar archive: {reason}.", WHOLE_FIX) from error


def _check_end(source: BinaryIO, archive: tarfile.TarFile, name: str) -> None:
    """tarfile takes a damaged header for the end; the true end is a block of zeros (POSIX asks for two)."""
    source.seek(archive.offset)
    block = source.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise BadArchive(f"{name!r} is a damaged or cut-off tar archive: it has no end mark.", WHOLE_FIX)
    while source.read(1024**2):
        # Reading on to the end lets gzip check its checksum.
        pass


def _member(index: int, entry: TarEntry, random: bool, limits: Limits) -> Member:
    name = entry.name if entry.name.isascii() else _readable_name(entry.name)
    code, reason, fix = judge_name(name)
    if not code and not entry.is_file:
        code, reason, fix = "link", "it is a link or a device, not a file", "Pack the file itself."
    if not code and entry.size > limits.member_bytes:
        code, reason, fix = judge_size(entry.size, limits)
    return Member(index, name, entry.size if entry.is_file else 0, entry.offset if random else 0, code, reason, fix)


def _readable_name(name: str) -> str:
    """A tar member's name as text: UTF-8 (tarfile keeps other bytes as lone surrogates), else Windows-1252."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return name


def list_tar(stream: BinaryIO, name: str, size: int, packed: bool, limits: Limits) -> Iterator[Member]:
    """Every entry but folders, in order; `packed` says whether it is gzipped.

    Raises:
        BadArchive: Damaged, cut off, or a bomb; found as the archive is read.
    """
    source = _tar_stream(stream, name, size, packed, limits)
    for index, entry in enumerate(_entries(PlainHeaders(source, 0), source, name)):
        if not entry.is_folder:
            yield _member(index, entry, not packed, limits)


def read_tar(
    stream: BinaryIO,
    name: str,
    size: int,
    packed: bool,
    first: int,
    last: int | None,
    offset: int,
    wanted: Container[int] | None,
    limits: Limits,
) -> Iterator[tuple[Member, bytes]]:
    """Entries first..last (exclusive) that are wanted, with their bytes; see `archives.read_members`."""
    source = _tar_stream(stream, name, size, packed, limits)
    begin, start = (first, offset) if offset and not packed else (0, 0)
    headers = PlainHeaders(source, start)
    for index, entry in enumerate(_entries(headers, source, name), begin):
        if last is not None and index >= last:
            return
        if index < first or (wanted is not None and index not in wanted) or entry.is_folder:
            continue
        member = _member(index, entry, not packed, limits)
        data = b"" if member.code else _read(headers, entry, name)
        if not member.code and len(data) != entry.size:
            raise BadArchive(f"{name!r} is cut off in member {member.name!r}.", WHOLE_FIX)
        yield member, data


def _read(headers: PlainHeaders, entry: TarEntry, name: str) -> bytes:
    try:
        return headers.read(entry.data, entry.size)
    except _TAR_ERRORS as error:
        raise BadArchive(f"{name!r} is a damaged or cut-off tar archive: {str(error)[:120]}.", WHOLE_FIX) from error


def is_old_tar(head: bytes) -> bool:
    """Whether a file's first block is a header with a right checksum, as tars before POSIX have."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
