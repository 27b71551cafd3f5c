"""The quarantine: bad samples as they were uploaded, with the reason, for a person to mend and replay.

```
quarantine/<dataset>/<version>/item-00000.jsonl         one entry per line: file, place, code, reason, fix, row or key
                               item-00000/0000.png      a bad file as it was
```
Everything is written before the work item's index, and again with the same bytes when it is repeated. A work item keeps
`MAX_SAMPLES` samples and `MAX_BYTES` of them; what goes beyond is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.quality.findings import QuarantineReport
from shoal_core.data.report import Drop, Drops
from shoal_core.errors import BadRequest, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

MAX_SAMPLES = 1000
MAX_BYTES = 16 * 1024**2
MAX_ROW_CHARACTERS = 64 * 1024
MAX_PAGE = 1000
_ROW_PLACE = re.compile(r"(?:.*, )?(?:line|row) [\d,]+", re.DOTALL)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_AFTER = re.compile(r"(\d{1,9}):(\d{1,9})")


class Quarantined(Frozen):
    """One bad sample: where it was, why it was left out, how to mend it, and the sample itself.

    `row` is a table's row as text; `key` is the object in the artifacts bucket that holds a file, of `bytes` bytes.
    Neither is there where planning refused it unread, or where the work item had no room left.
    """

    file: str
    place: str
    code: str
    reason: str
    fix: str = ""
    row: str | None = None
    key: str | None = None
    bytes: int = Field(ge=0, default=0)


class QuarantinePage(Frozen):
    """A part of a version's quarantine; `after` asks for the next part, and is None with the last one."""

    dataset: str
    version: str
    samples: tuple[Quarantined, ...]
    after: str | None = None


class Quarantine:
    """Collects one work item's bad samples, and writes them.

    Args:
        keys: Keys of the dataset version.
        item: Number of the work item.
    """

    def __init__(self, keys: DatasetKeys, item: int) -> None:
        self._keys = keys
        self._item = item
        self._entries: list[dict[str, Any]] = []
        self._files: dict[str, bytes] = {}
        self._bytes = 0
        self._left_out = 0

    @property
    def full(self) -> bool:
        """Whether no more samples are kept."""
        return len(self._entries) >= MAX_SAMPLES

    def leave_out(self, count: int) -> None:
        """Count samples that aren't kept."""
        self._left_out += count

    def keep(self, drop: Drop, raw: bytes | None) -> None:
        """Take one sample; its bytes stay in memory until `write`, `MAX_BYTES` at most."""
        if self.full or (raw is not None and self._bytes + len(raw) > MAX_BYTES):
            self._left_out += 1
            return
        row = key = None
        size = 0
        if raw is not None:
            size = len(raw)
            self._bytes += size
            if _ROW_PLACE.fullmatch(drop.place):
                row = raw.decode("utf-8", "replace")[:MAX_ROW_CHARACTERS]
            else:
                key = self._keys.quarantined(self._item, len(self._entries), _suffix(drop.place))
                self._files[key] = raw
        self._entries.append(_entry(drop, row, key, size))

    def write(self, artifacts: ObjectStore) -> QuarantineReport:
        """Write the files, then the list; nothing when nothing was bad."""
        for key, data in self._files.items():
            artifacts.write(key, data)
        if self._entries:
            artifacts.write(self._keys.quarantine(self._item), _lines(self._entries), "application/jsonl")
        return QuarantineReport(samples=len(self._entries), bytes=self._bytes, left_out=self._left_out)


def quarantine_planned(artifacts: ObjectStore, keys: DatasetKeys, drops: Drops) -> QuarantineReport:
    """List what planning itself refused: there are reasons and places, no bytes."""
    entries = [_entry(drop) for drop in drops.examples[:MAX_SAMPLES]]
    if entries:
        artifacts.write(keys.quarantine(None), _lines(entries), "application/jsonl")
    return QuarantineReport(samples=len(entries), left_out=drops.total - len(entries))


def merge_quarantines(parts: Iterator[QuarantineReport] | list[QuarantineReport]) -> QuarantineReport:
    """What all work items keep."""
    total = QuarantineReport()
    for part in parts:
        total = QuarantineReport(
            samples=total.samples + part.samples,
            bytes=total.bytes + part.bytes,
            left_out=total.left_out + part.left_out,
        )
    return total


def read_quarantine(
    artifacts: ObjectStore, dataset: str, version: str, after: str | None = None, limit: int = 100
) -> QuarantinePage:
    """One page of a version's quarantine, in the order of the source.

    Args:
        artifacts: Where it is.
        dataset: Name of the dataset.
        version: Its version.
        after: Where the page before ended; None begins.
        limit: Samples at most, 1 to `MAX_PAGE`.

    Raises:
        BadRequest: `after` isn't what a page gave, or the limit is out of range.
        NotFound: No such dataset version.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is {limit}.", f"Ask for 1 to {MAX_PAGE} samples.")
    start = _AFTER.fullmatch(after) if after else None
    if after and start is None:
        raise BadRequest(f"after is {after[:40]!r}, which no page gave.", "Pass on `after` of the page before.")
    keys = DatasetKeys(dataset, version)
    if not artifacts.exists(keys.request):
        raise NotFound(f"Dataset {dataset!r} has no version {version!r}.", f"See GET /datasets/{dataset}.")
    first_list, first_line = (int(part) for part in start.groups()) if start else (0, 0)
    found: list[Quarantined] = []
    lists = [key for key in artifacts.keys(keys.quarantine_prefix) if key.endswith(".jsonl")]
    for number, key in enumerate(lists):
        if number < first_list:
            continue
        lines = artifacts.read(key).splitlines()
        begin = first_line if number == first_list else 0
        chosen = lines[begin : begin + limit - len(found)]
        found += [Quarantined.model_validate_json(line) for line in chosen]
        end = begin + len(chosen)
        if len(found) == limit:
            more = end < len(lines) or number + 1 < len(lists)
            following = f"{number}:{end}" if end < len(lines) else f"{number + 1}:0"
            return QuarantinePage(
                dataset=dataset, version=version, samples=tuple(found), after=following if more else None
            )
    return QuarantinePage(dataset=dataset, version=version, samples=tuple(found))


def _entry(drop: Drop, row: str | None = None, key: str | None = None, size: int = 0) -> dict[str, Any]:
    """One line of the list: what `Quarantined` reads."""
    told = {"file": drop.file, "place": drop.place, "code": drop.code, "reason": drop.reason, "fix": drop.fix}
    sample = {name: text for name, text in (("row", row), ("key", key)) if text is not None}
    return {**told, **sample, "bytes": size}


def _lines(entries: list[dict[str, Any]]) -> bytes:
    return b"".join(canonical_json(entry) + b"\n" for entry in entries)


def _suffix(place: str) -> str:
    """A file name's ending, when it is harmless in a key."""
    suffix = place[place.rfind(".") :].casefold() if "." in place else ""
    return suffix if _SUFFIX.fullmatch(suffix) else ".bin"
