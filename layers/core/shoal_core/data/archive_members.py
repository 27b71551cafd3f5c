"""What the members of an archive may be: names, sizes, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.errors import BadArchive

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
WHOLE_FIX = "Make the archive again and upload it whole (zip, tar or tar.gz)."
_NESTED = (*ARCHIVE_SUFFIXES, ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_RELATIVE_FIX = "Pack the folder with relative names."
_GOOD = ("", "", "")


class Limits(NamedTuple):
    """What an archive may hold. The ratio counts once the contents exceed `ratio_floor` bytes."""

    members: int = 500_000
    member_bytes: int = 64 * 1024**2
    total_bytes: int = 100 * 1024**3
    ratio: int = 200
    ratio_floor: int = 256 * 1024**2


LIMITS = Limits()


# Not frozen: that would triple the time that a member takes.
@dataclass(slots=True)
class Member:
    """One entry: a file that can be read, or one that is refused with a code, a reason and a fix.

    `index` counts the entries of the archive from 0; `offset` is where reading can start: the byte of a tar header or
    of an entry in a zip's directory; 0 for tar.gz.
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


def judge_name(name: str) -> tuple[str, str, str]:
    """Why a member's name is refused: (code, reason, fix), all empty for a good one."""
    folder, slash, base = name.rpartition("/")
    judged = _judge_folder(folder, name[0] == "/") if slash else _GOOD
    if judged[0] == "unsafe_name":
        return judged
    if base == "..":
        return "unsafe_name", "its name leads out of the archive ('..')", _RELATIVE_FIX
    if not slash and _judge_drive(base)[0]:
        return _judge_drive(base)
    folded = base.casefold()
    if judged[0] or folded[:1] == "." or folded in _JUNK or not (base or folder):
        return "junk", "", ""
    if folded.endswith(_NESTED) and not folded.endswith(TABLE_SUFFIXES):
        return "nested_archive", "it is an archive inside the archive", "Unpack it and pack its files directly."
    return _GOOD


@functools.lru_cache(maxsize=4096)
def _judge_folder(folder: str, absolute: bool) -> tuple[str, str, str]:
    """The same for the folder alone: neighbours in an archive mostly share it."""
    if absolute:
        return "unsafe_name", "its name is absolute", _RELATIVE_FIX
    if _judge_drive(folder)[0]:
        return _judge_drive(folder)
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "unsafe_name", "its name leads out of the archive ('..')", _RELATIVE_FIX
    if any(part.casefold() in _JUNK or part.startswith(".") for part in parts):
        return "junk", "", ""
    return _GOOD


def _judge_drive(name: str) -> tuple[str, str, str]:
    if len(name) > 1 and name[1] == ":" and name[0].isalpha():
        return "unsafe_name", "its name is absolute", _RELATIVE_FIX
    return _GOOD


def judge_size(size: int, limits: Limits) -> tuple[str, str, str]:
    """Why a member of that many bytes is refused, as `judge_name`."""
    if size > limits.member_bytes:
        reason = f"it has {size:,} bytes, more than {limits.member_bytes:,}"
        return "too_large", reason, "Scale the image down before uploading."
    return _GOOD


def damaged_member(member: Member, error: BaseException) -> Member:
    """The member with what its bytes have shown."""
    reason = f"it is damaged: {str(error)[:120] or type(error).__name__}"
    return replace(member, code="damaged", reason=reason, fix="Pack the file again.")


def check_total(name: str, total: int, size: int, limits: Limits) -> None:
    """Raise `BadArchive` when the members' bytes are too many, or too many for the archive's size."""
    if total > limits.total_bytes:
        raise BadArchive(
            f"{name!r} would unpack to more than {limits.total_bytes:,} bytes.", "Split it into several datasets."
        )
    if total > limits.ratio_floor and total > limits.ratio * size:
        raise BadArchive(
            f"{name!r} would unpack to {total:,} bytes, more than {limits.ratio} times its size: a zip bomb.",
            "Pack image files as they are; PNG and JPEG files don't shrink.",
        )
