"""Zip, tar and tar.gz archives: list members, read a slice of them, safely and in bounded memory.

A member that is unsafe (absolute name, `..`, link, device), encrypted, too large, nested or damaged is refused and
told; the rest goes on. An archive that can't be trusted as a whole (a bomb, cut short, not an archive, empty) raises
`BadArchive`. Nothing is ever extracted to a disk.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, cast

from shoal_core.data.guards import GuardedStream
from shoal_core.errors import BadArchive

ArchiveFormat = Literal["zip", "tar", "tar.gz"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_NESTED = (*ARCHIVE_SUFFIXES, ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_WHOLE_FIX = "Make the archive again and upload it whole (zip, tar or tar.gz)."
_MEMBER_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold. The ratio counts once the contents exceed `ratio_floor` bytes."""

    members: int = 500_000
    member_bytes: int = 64 * 1024**2
    total_bytes: int = 100 * 1024**3
    ratio: int = 200
    ratio_floor: int = 256 * 1024**2


LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """One entry: a file that can be read, or one that is refused with a code, a reason and a fix.

    `index` counts the entries of the archive from 0; `offset` is where reading can start: the byte of a tar header,
    0 for zip and tar.gz.
    """

    index: int
    name: str
    size: int
    offset: int = 0
    code: str = ""
    reason: str = ""
    fix: str = ""

    @property
    def junk(self) -> bool:
        """Hidden and system files: skipped without a word, only counted."""
        return self.code == "junk"


def archive_format(stream: BinaryIO, name: str) -> ArchiveFormat:
    """Tell the format by the first bytes; `stream` is left at its start.

    Raises:
        BadArchive: Empty, or none of the three.
    """
    stream.seek(0)
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise BadArchive(f"{name!r} is empty.", _WHOLE_FIX)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    # POSIX and GNU archives say `ustar`, older ones only have a header checksum, and empty ones are zeros.
    if head[257:262] == b"ustar" or (len(head) == 512 and (not head.strip(b"\0") or _old_tar(head))):
        return "tar"
    raise BadArchive(f"{name!r} isn't a zip, tar or tar.gz archive, or its beginning is damaged.", _WHOLE_FIX)


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
    count = 0
    entries = _zip_entries(stream, name, limits) if kind == "zip" else _tar_entries(stream, name, size, limits)
    total = 0
    for member in entries:
        count += 1
        total += member.size
        if count > limits.members:
            raise BadArchive(f"{name!r} has more than {limits.members:,} members.", "Split it into several datasets.")
        _check_total(name, total, size, limits)
        yield member
    if not count:
        raise BadArchive(f"{name!r} holds no files.", "Put images in one folder per class and pack those folders.")


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
        wanted: Indices to read; None is all of them.
        limits: What it may hold.

    Raises:
        BadArchive: The archive is damaged so that reading can't go on (tar, tar.gz), or it is a bomb.
    """
    reads = range(first, last) if wanted is None else wanted
    if archive_format(stream, name) == "zip":
        yield from _read_zip(stream, name, first, last, reads, limits)
    else:
        yield from _read_tar(stream, name, size, first, last, offset, reads, limits)


def judge_name(name: str) -> tuple[str, str, str]:
    """Why a member's name is refused: (code, reason, fix), all empty for a good one."""
    path = PurePosixPath(name)
    parts = path.parts
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return "unsafe_name", "its name is absolute", "Pack the folder with relative names."
    if ".." in parts:
        return "unsafe_name", "its name leads out of the archive ('..')", "Pack the folder with relative names."
    if any(part.casefold() in _JUNK or part.startswith(".") for part in parts) or not parts:
        return "junk", "", ""
    if name.casefold().endswith(_NESTED):
        return "nested_archive", "it is an archive inside the archive", "Unpack it and pack its files directly."
    return "", "", ""


def _check_total(name: str, total: int, size: int, limits: Limits) -> None:
    if total > limits.total_bytes:
        raise BadArchive(
            f"{name!r} would unpack to more than {limits.total_bytes:,} bytes.", "Split it into several datasets."
        )
    if total > limits.ratio_floor and total > limits.ratio * size:
        raise BadArchive(
            f"{name!r} would unpack to {total:,} bytes, more than {limits.ratio} times its size: a zip bomb.",
            "Pack image files as they are; PNG and JPEG files don't shrink.",
        )


def _judge_size(size: int, limits: Limits) -> tuple[str, str, str]:
    if size > limits.member_bytes:
        reason = f"it has {size:,} bytes, more than {limits.member_bytes:,}"
        return "too_large", reason, "Scale the image down before uploading."
    return "", "", ""


def _open_zip(stream: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, OverflowError) as error:
        raise BadArchive(f"{name!r} is a damaged zip archive: {error}.", _WHOLE_FIX) from error


def _zip_entries(stream: BinaryIO, name: str, limits: Limits) -> Iterator[Member]:
    with _open_zip(stream, name) as archive:
        for index, info in enumerate(archive.infolist()):
            if not _is_folder(info):
                yield _zip_member(index, info, limits)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    # ZipInfo.is_dir() fails on an empty name before Python 3.13.
    return info.filename.endswith("/")


def _zip_member(index: int, info: zipfile.ZipInfo, limits: Limits) -> Member:
    # Some Windows tools write backslashes.
    name = info.filename.replace("\\", "/")
    code, reason, fix = judge_name(name)
    mode = info.external_attr >> 16
    if not code and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        code, reason, fix = "link", "it is a link or a device, not a file", "Pack the file itself."
    if not code and info.flag_bits & 0x1:
        code, reason, fix = "encrypted", "it is encrypted", "Pack it without a password."
    if not code and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile bounds the memory of these two only.
        code, reason, fix = "compression", "its compression method isn't supported", "Pack it with plain deflate."
    if not code:
        code, reason, fix = _judge_size(info.file_size, limits)
    return Member(index, name, info.file_size, 0, code, reason, fix)


def _read_zip(
    stream: BinaryIO, name: str, first: int, last: int, wanted: Container[int], limits: Limits
) -> Iterator[tuple[Member, bytes]]:
    with _open_zip(stream, name) as archive:
        for index, info in enumerate(archive.infolist()[first:last], first):
            if index not in wanted or _is_folder(info):
                continue
            member = _zip_member(index, info, limits)
            if member.code:
                yield member, b""
                continue
            try:
                # zipfile stops at the declared size and then finds the checksum wrong, so a lie about it shows.
                with archive.open(info) as file:
                    data = file.read(limits.member_bytes + 1)
                if len(data) != info.file_size:
                    raise EOFError("it is cut short")
            except (*_MEMBER_ERRORS, NotImplementedError) as error:
                yield _damaged(member, error), b""
                continue
            yield member, data


def _damaged(member: Member, error: BaseException) -> Member:
    reason = f"it is damaged: {str(error)[:120] or type(error).__name__}"
    return Member(member.index, member.name, member.size, member.offset, "damaged", reason, "Pack the file again.")


def _tar_stream(stream: BinaryIO, name: str, size: int, limits: Limits) -> BinaryIO:
    """The uncompressed tar, guarded: no header may ask for a huge read, no stream may grow past the limits."""
    if archive_format(stream, name) == "tar.gz":
        unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
        most = min(limits.total_bytes, max(limits.ratio_floor, limits.ratio * size))
        return cast(BinaryIO, GuardedStream(unpacked, name, most, limits.member_bytes + 1024**2))
    return cast(BinaryIO, GuardedStream(stream, name, size, limits.member_bytes + 1024**2))


def _tar_infos(source: BinaryIO, name: str, offset: int = 0) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Entries of a tar from a header's offset on; every kind of damage becomes `BadArchive`."""
    try:
        source.seek(offset)
        with tarfile.open(fileobj=source, mode="r:", errorlevel=0) as archive:
            while (info := archive.next()) is not None:
                # TarFile keeps every header; without this a million members would stay in memory.
                cast(Any, archive).members = []
                if info.size < 0:
                    raise tarfile.ReadError("a member has a negative size")
                yield archive, info
            _check_end(source, archive, name)
    except BadArchive:
        raise
    except (tarfile.TarError, *_MEMBER_ERRORS, UnicodeError, IndexError) as error:
        reason = str(error)[:120] or type(error).__name__
        raise BadArchive(f"{name!r} is a damaged or cut-off tar archive: {reason}.", _WHOLE_FIX) from error


def _check_end(source: BinaryIO, archive: tarfile.TarFile, name: str) -> None:
    """tarfile takes a damaged header for the end; the true end is a block of zeros (POSIX asks for two)."""
    source.seek(archive.offset)
    block = source.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise BadArchive(f"{name!r} is a damaged or cut-off tar archive: it has no end mark.", _WHOLE_FIX)
    while source.read(1024**2):
        # Reading on to the end lets gzip check its checksum.
        pass


def _tar_member(index: int, info: tarfile.TarInfo, random: bool, limits: Limits) -> Member:
    name = _readable_name(info.name)
    code, reason, fix = judge_name(name)
    if not code and (not info.isreg() or info.issparse()):
        code, reason, fix = "link", "it is a link or a device, not a file", "Pack the file itself."
    if not code:
        code, reason, fix = _judge_size(info.size, limits)
    size = info.size if info.isreg() else 0
    return Member(index, name, size, info.offset if random else 0, code, reason, fix)


def _readable_name(name: str) -> str:
    """A tar member's name as text: UTF-8 (tarfile keeps other bytes as lone surrogates), else Windows-1252."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return name


def _tar_entries(stream: BinaryIO, name: str, size: int, limits: Limits) -> Iterator[Member]:
    random = archive_format(stream, name) == "tar"
    source = _tar_stream(stream, name, size, limits)
    for index, (_, info) in enumerate(_tar_infos(source, name)):
        if not info.isdir():
            yield _tar_member(index, info, random, limits)


def _read_tar(
    stream: BinaryIO,
    name: str,
    size: int,
    first: int,
    last: int,
    offset: int,
    wanted: Container[int],
    limits: Limits,
) -> Iterator[tuple[Member, bytes]]:
    random = archive_format(stream, name) == "tar"
    source = _tar_stream(stream, name, size, limits)
    # Only an uncompressed tar can be entered in the middle.
    begin, start = (first, offset) if random and offset else (0, 0)
    for index, (archive, info) in enumerate(_tar_infos(source, name, start), begin):
        if index >= last:
            return
        if index < first or index not in wanted or info.isdir():
            continue
        member = _tar_member(index, info, random, limits)
        file = None if member.code else archive.extractfile(info)
        data = file.read() if file else b""
        if not member.code and len(data) != info.size:
            raise BadArchive(f"{name!r} is cut off in member {member.name!r}.", _WHOLE_FIX)
        yield member, data


def _old_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
