"""Zip archives, read from the central directory: a slice costs its own entries and bytes, not the whole directory.

Zip64, data descriptors, archives behind a prefix and both encodings of names are read; a member is checked against its
local header, its declared size and its checksum. Python's zipfile reads the whole directory for each slice and takes
20 microseconds a member.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Container, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from shoal_core.data.archive_members import (
    WHOLE_FIX,
    Limits,
    Member,
    damaged_member,
    judge_name,
    judge_size,
)
from shoal_core.errors import BadArchive

# Bytes per read: of the directory and of the members' data; less where only a few members are wanted.
_DIRECTORY_BLOCK = 1 << 20
_DATA_BLOCK = 4 << 20
_SPARSE_BLOCK = 1 << 16
_LARGEST_ENTRY = 46 + 3 * 0xFFFF
# What one call of zlib may give without being told a bound; deflate shrinks at most 1,032 times.
_UNBOUNDED_INPUT = 16 * 1024
_STORED, _DEFLATED = 0, 8
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s4x2H4x3I3H4x2I")
_LOCAL = struct.Struct("<4s22x2H")
_EXTRA = struct.Struct("<2H")
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF


class _Directory(NamedTuple):
    """Where the central directory lies, and what to add to its offsets (bytes before the archive proper)."""

    start: int
    stop: int
    shift: int


class _Entry(NamedTuple):
    """One entry of the directory. `at` is where it lies, `local` where the member's own header does."""

    number: int
    at: int
    raw_name: bytes
    name: str
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    mode: int
    local: int


def list_zip(stream: BinaryIO, name: str, size: int, limits: Limits) -> Iterator[Member]:
    """Every entry but folders, in the order of the directory.

    Raises:
        BadArchive: No directory, a damaged one, or members that overlap so that they hold more than the archive.
    """
    packed = 0
    for entry in _entries(stream, name, _find_directory(stream, name)):
        packed += entry.packed
        if packed > size:
            raise BadArchive(
                f"{name!r} has members that overlap: they hold more bytes than the archive. A zip bomb.", WHOLE_FIX
            )
        if not entry.name.endswith("/"):
            yield _member(entry, limits)


def read_zip(
    stream: BinaryIO, name: str, first: int, last: int, offset: int, wanted: Container[int] | None, limits: Limits
) -> Iterator[tuple[Member, bytes]]:
    """Entries first..last (exclusive) that are wanted, with their bytes; see `archives.read_members`."""
    window = _Window(stream, _DATA_BLOCK if wanted is None else _SPARSE_BLOCK)
    directory = _find_directory(stream, name)
    for entry in _chosen(stream, name, directory, first, last, offset, wanted):
        if entry.number < first or (wanted is not None and entry.number not in wanted) or entry.name.endswith("/"):
            continue
        member = _member(entry, limits)
        if member.code:
            yield member, b""
            continue
        try:
            data = _read_entry(window, entry)
        except (ValueError, zlib.error) as error:
            yield damaged_member(member, error), b""
            continue
        yield member, data


def _chosen(
    stream: BinaryIO,
    name: str,
    directory: _Directory,
    first: int,
    last: int,
    offset: int,
    wanted: Container[int] | None,
) -> Iterator[_Entry]:
    """Entries that hold those to be read, and perhaps others."""
    if isinstance(wanted, Mapping):
        for number, at in sorted(wanted.items()):
            yield from _entries(stream, name, directory, at, number, number + 1, _LARGEST_ENTRY)
    else:
        # Without an offset the directory is read from its start.
        at, begin = (offset, first) if offset else (directory.start, 0)
        yield from _entries(stream, name, directory, at, begin, last)


def _find_directory(stream: BinaryIO, name: str) -> _Directory:
    """The directory, from the record at the archive's end. Raises `BadArchive`."""
    length = stream.seek(0, 2)
    tail_size = min(length, _END.size + _MAX16)
    stream.seek(length - tail_size)
    tail = stream.read(tail_size)
    # A comment may hold the signature, too: the record whose comment ends the file is the right one.
    found = tail.rfind(b"PK\x05\x06")
    while found >= 0 and not _ends_here(tail, found):
        found = tail.rfind(b"PK\x05\x06", 0, found)
    if found < 0:
        raise _damaged(name, "its end is missing")
    _, disk, directory_disk, _, count, size, start, _ = _END.unpack_from(tail, found)
    end = length - tail_size + found
    if _MAX16 in (disk, count) or _MAX32 in (size, start):
        big = _find_directory64(stream, name, end)
        if big is not None:
            disk, size, start, end = big
            directory_disk = disk
    if disk or directory_disk:
        raise BadArchive(f"{name!r} is one part of a zip archive in several parts.", "Pack it as one file.")
    shift = end - size - start
    if shift < 0 or start + shift < 0:
        raise _damaged(name, "its directory lies outside the file")
    return _Directory(start + shift, end, shift)


def _ends_here(tail: bytes, found: int) -> bool:
    comment = int.from_bytes(tail[found + 20 : found + 22], "little")
    return found + _END.size <= len(tail) and found + _END.size + comment <= len(tail)


def _find_directory64(stream: BinaryIO, name: str, end: int) -> tuple[int, int, int, int] | None:
    """Disk, size, start and end of the directory by the Zip64 records before `end`; None when there are none."""
    stream.seek(max(0, end - _LOCATOR.size))
    data = stream.read(_LOCATOR.size)
    if len(data) < _LOCATOR.size or not data.startswith(b"PK\x06\x07"):
        return None
    _, _, _, disks = _LOCATOR.unpack(data)
    # The record lies right before its locator; archives with extensible data in it aren't made by common tools.
    at = end - _LOCATOR.size - _END64.size
    stream.seek(max(0, at))
    data = stream.read(_END64.size)
    if at < 0 or len(data) < _END64.size or not data.startswith(b"PK\x06\x06"):
        raise _damaged(name, "its Zip64 record is missing")
    fields = _END64.unpack(data)
    return fields[4] or int(disks > 1), fields[8], fields[9], at


def _entries(
    stream: BinaryIO,
    name: str,
    directory: _Directory,
    at: int | None = None,
    index: int = 0,
    last: int | None = None,
    read: int = _DIRECTORY_BLOCK,
) -> Iterator[_Entry]:
    """Entries from a place in the directory on, up to entry `last` (exclusive)."""
    at = directory.start if at is None else at
    if not directory.start <= at <= directory.stop:
        raise _damaged(name, "its directory isn't where it was")
    block, base = b"", at
    unpack, fixed = _ENTRY.unpack_from, _ENTRY.size
    while at < directory.stop and (last is None or index < last):
        place = at - base
        if place + fixed > len(block):
            block, base, place = _read_at(stream, at, min(read, directory.stop - at)), at, 0
            if fixed > len(block):
                raise _damaged(name, "its directory is cut short")
        mark, flags, method, checksum, packed, size, names, extras, comments, mode, local = unpack(block, place)
        begin = place + fixed
        stop = begin + names + extras + comments
        if stop > len(block) and place:
            # Cut by the end of the block, which is longer than any entry.
            block = b""
            continue
        if mark != b"PK\x01\x02" or stop > len(block):
            raise _damaged(name, "its directory is broken")
        raw = block[begin : begin + names]
        if size == _MAX32 or packed == _MAX32 or local == _MAX32:
            extra = block[begin + names : begin + names + extras]
            size, packed, local = _sizes64(name, extra, size, packed, local)
        if flags & 0x800:
            text = raw.decode("utf-8", "replace")
        elif raw.isascii():
            text = raw.decode("ascii")
        else:
            text = _old_name(raw, block[begin + names : begin + names + extras])
        if "\\" in text or "\0" in text:
            # Some Windows tools write backslashes; Python's zipfile cuts at a zero byte.
            text = text.split("\0", 1)[0].replace("\\", "/")
        yield _Entry(index, at, raw, text, flags, method, checksum, packed, size, mode >> 16, local + directory.shift)
        index += 1
        at = base + stop


def _read_at(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)


def _old_name(raw: bytes, extra: bytes) -> str:
    """A name without the UTF-8 flag: Info-ZIP's Unicode field where it fits the name, else code page 437."""
    field = _extra_field(extra, 0x7075)
    if len(field) > 5 and field[0] == 1 and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
        return field[5:].decode("utf-8", "replace")
    return raw.decode("cp437")


def _sizes64(archive: str, extra: bytes, size: int, packed: int, local: int) -> tuple[int, int, int]:
    field = _extra_field(extra, 1)
    found: list[int] = []
    for value in (size, packed, local):
        if value == _MAX32:
            if len(field) < 8:
                raise _damaged(archive, "a Zip64 field in its directory is broken")
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        found.append(value)
    return found[0], found[1], found[2]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    place = 0
    while place + 4 <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, place)
        if kind == wanted:
            return extra[place + 4 : place + 4 + length]
        place += 4 + length
    return b""


def _member(entry: _Entry, limits: Limits) -> Member:
    code, reason, fix = judge_name(entry.name)
    if not code and stat.S_IFMT(entry.mode) not in (0, stat.S_IFREG):
        code, reason, fix = "link", "it is a link or a device, not a file", "Pack the file itself."
    if not code and entry.flags & 0x41:
        code, reason, fix = "encrypted", "it is encrypted", "Pack it without a password."
    if not code and (entry.method not in (_STORED, _DEFLATED) or entry.flags & 0x20):
        code, reason, fix = "compression", "its compression method isn't supported", "Pack it with plain deflate."
    if not code and entry.size > limits.member_bytes:
        code, reason, fix = judge_size(entry.size, limits)
    return Member(entry.number, entry.name, entry.size, entry.at, code, reason, fix)


class _Window:
    """A stretch of the archive in memory: members mostly lie one behind the other, so one read serves many."""

    def __init__(self, stream: BinaryIO, block: int) -> None:
        self._stream = stream
        self._block = block
        self._start = 0
        self.data = b""

    def place(self, offset: int, length: int) -> int:
        """Where in `data` the bytes from `offset` on are, after reading `length` of them (or up to the end)."""
        place = offset - self._start
        if place < 0 or place + length > len(self.data):
            self._stream.seek(offset)
            self.data = self._stream.read(max(length, self._block))
            self._start, place = offset, 0
        return place


def _read_entry(window: _Window, entry: _Entry) -> bytes:
    """A member's bytes. Raises `ValueError` or `zlib.error` when they aren't what the directory says."""
    # A lie about the packed size must not become a huge read.
    if entry.packed > entry.size + entry.size // 8 + 4096:
        raise ValueError("it would take more bytes than it holds")
    names = len(entry.raw_name)
    place = window.place(entry.local, _LOCAL.size + names + entry.packed)
    if place + _LOCAL.size > len(window.data):
        raise ValueError("it lies outside the archive")
    signature, local_names, extras = _LOCAL.unpack_from(window.data, place)
    begin = place + _LOCAL.size + local_names
    if signature != b"PK\x03\x04" or window.data[place + _LOCAL.size : begin] != entry.raw_name:
        raise ValueError("its own header isn't the one that the directory tells of")
    begin += extras
    if begin + entry.packed > len(window.data):
        begin = window.place(entry.local, begin - place + entry.packed) + begin - place
    packed = window.data[begin : begin + entry.packed]
    if len(packed) != entry.packed:
        raise ValueError("it is cut short")
    data = packed if entry.method == _STORED else _inflate(packed, entry.size)
    if len(data) != entry.size:
        raise ValueError("it isn't as long as the directory says")
    if zlib.crc32(data) != entry.checksum:
        raise ValueError("its checksum is wrong")
    return data


def _inflate(packed: bytes, size: int) -> bytes:
    """Raw deflate, never more than a little beyond `size`."""
    if len(packed) <= _UNBOUNDED_INPUT:
        return zlib.decompress(packed, -zlib.MAX_WBITS, size or 1)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(packed, size + 1)
    # The end mark may still be waiting when the output is full.
    if not inflater.eof and len(data) == size:
        data += inflater.decompress(inflater.unconsumed_tail, 1)
    if not inflater.eof:
        raise ValueError("its end is missing, or it is longer than the directory says")
    return data


def _damaged(name: str, reason: str) -> BadArchive:
    return BadArchive(f"{name!r} is a damaged zip archive: {reason}.", WHOLE_FIX)
