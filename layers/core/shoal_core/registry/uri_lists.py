"""Uploaded lists of S3 URIs (`.uris`): one URI a line, or one JSON object with `uri` and, if wanted, `version`, `name`.

Empty lines and lines that begin with `#` are skipped. Every object is asked for its size, version and ETag, so that
what is listed is what is read.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal_core.data.config import SourceFile
from shoal_core.errors import BadDataset, NotFound, TooLarge

if TYPE_CHECKING:
    from shoal_core.registry.sources import SourceUploads

MAX_LINES = 1_000_000
LINES_PER_SEGMENT = 10_000
MAX_LINE_BYTES = 8 * 1024
PARALLEL_HEADS = 32
_SHOWN_LINES = 5
_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
_FIX = 'Write one s3://BUCKET/KEY a line, or one JSON object like {"uri": "s3://BUCKET/KEY"}.'


@dataclass(frozen=True)
class Uri:
    """One entry: its line (from 1), and what it names."""

    line: int
    bucket: str
    key: str
    version: str | None
    name: str


def count_uris(uploads: SourceUploads, key: str, version: str | None) -> int:
    """How many entries a list has.

    Raises:
        BadDataset: None, or lines that are no entries; the reason numbers them.
        TooLarge: More than 1,000,000.
    """
    count, bad = 0, []
    for line, text in _lines(uploads, key, version):
        if _parse(line, text) is None:
            bad.append(line)
        else:
            count += 1
        if count > MAX_LINES:
            raise TooLarge(f"{key!r} lists more than {MAX_LINES:,} URIs.", "Name their prefix: `source: {s3: …}`.")
        if len(bad) > _SHOWN_LINES:
            break
    if bad:
        more = " and more" if len(bad) > _SHOWN_LINES else ""
        raise BadDataset(f"{key!r}: no S3 URI in line {', '.join(map(str, bad[:_SHOWN_LINES]))}{more}.", _FIX)
    if not count:
        raise BadDataset(f"{key!r} lists nothing.", _FIX)
    return count


def read_uris(uploads: SourceUploads, key: str, version: str | None, first: int, last: int) -> list[Uri]:
    """Entries first..last (exclusive) of a list that `count_uris` has accepted."""
    entries = (entry for line, text in _lines(uploads, key, version) if (entry := _parse(line, text)) is not None)
    return list(itertools.islice(entries, first, last))


def describe_uris(uploads: SourceUploads, key: str, entries: Sequence[Uri]) -> Iterator[SourceFile]:
    """The objects that entries name, in their order, with S3 version, size and ETag.

    Raises:
        BadDataset: An object isn't there; the reason numbers the line.
        NotPermitted: The stack may not read a bucket.
    """

    def describe(entry: Uri) -> SourceFile | None:
        try:
            file = uploads.in_bucket(entry.bucket).describe(entry.key, entry.version)
        except NotFound:
            return None
        return file.model_copy(update={"bucket": entry.bucket, "name": entry.name})

    missing: list[int] = []
    with ThreadPoolExecutor(PARALLEL_HEADS) as pool:
        for entry, file in zip(entries, pool.map(describe, entries), strict=True):
            if file is None:
                missing.append(entry.line)
            elif not missing:
                yield file
    if missing:
        more = f" and {len(missing) - _SHOWN_LINES} more" if len(missing) > _SHOWN_LINES else ""
        shown = ", ".join(map(str, missing[:_SHOWN_LINES]))
        raise BadDataset(f"{key!r}: no object is there for line {shown}{more}.", "Mend or remove these lines.")


def _lines(uploads: SourceUploads, key: str, version: str | None) -> Iterator[tuple[int, bytes]]:
    """(number, text) of the lines that aren't empty or remarks; a line over 8 KiB comes cut, and won't parse."""
    with uploads.open(key, version) as stream:
        line = 0
        while text := stream.readline(MAX_LINE_BYTES):
            line += 1
            whole = text.endswith(b"\n") or len(text) < MAX_LINE_BYTES
            if not whole:
                while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            stripped = text.removeprefix(b"\xef\xbb\xbf").strip() if whole else b"?"
            if stripped and not stripped.startswith(b"#"):
                yield line, stripped


def _parse(line: int, text: bytes) -> Uri | None:
    version: object = None
    name: object = None
    try:
        uri: object = text.decode()
        if text.startswith(b"{"):
            entry = json.loads(text)
            uri, version, name = entry.get("uri"), entry.get("version"), entry.get("name")
    except ValueError:
        return None
    found = _URI.fullmatch(uri) if isinstance(uri, str) else None
    if found is None or not isinstance(version, str | None) or not isinstance(name, str | None):
        return None
    return Uri(line, found[1], found[2], version, name or f"{found[1]}/{found[2]}")
