"""A DynamoDB table's export to S3: asked for once, waited for, and its files read as the pages of a scan are.

An export is a snapshot of one moment, takes nothing of the table's capacity, and takes minutes; a scan is quicker for
small tables. Form: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadDataset, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import SourceKeys
from shoal_core.store import ObjectStore

# From here on a table that can be exported is. Below, a scan in 16 segments takes minutes, too, and costs less.
EXPORT_BYTES = 10 << 30
MAX_EXPORT_SEGMENTS = 100
# Items, and bytes of their lines, that are handed on at once: as many as a page of a scan, whatever an item holds.
PAGE_ITEMS = 100
PAGE_BYTES = 1 << 20
_LONGEST_WAIT = 60

Cursor = dict[str, Any]
Page = tuple[list[Mapping[str, Any]], Cursor | None]


@dataclass(frozen=True)
class ExportState:
    """How far an export has come; `seconds` since it began, `message` of one that failed."""

    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    seconds: int = 0
    message: str = ""


class TableExports(Protocol):
    """DynamoDB's exports. Raises `NotFound`, `NotPermitted` or `Unavailable`."""

    def is_recoverable(self, table: str) -> bool:
        """Whether the table has point-in-time recovery, which exports need."""
        ...

    def export(self, table: str, bucket: str, prefix: str, token: str) -> str:
        """Begin an export, once per token; its ARN. Raises `BadConfig` without point-in-time recovery."""
        ...

    def export_state(self, table: str, arn: str) -> ExportState:
        """How far an export has come."""
        ...


class StartedExport(Frozen):
    """`started.json`: the export that was asked for."""

    schema_version: Literal[1] = 1
    arn: str


class ExportFiles(Frozen):
    """`export.json`: the files of a finished export that hold items."""

    schema_version: Literal[1] = 1
    arn: str
    files: tuple[str, ...]

    @property
    def segments(self) -> int:
        """In how many parts they are read."""
        return max(1, min(MAX_EXPORT_SEGMENTS, len(self.files)))

    def of(self, segment: int) -> tuple[str, ...]:
        """The files of one part."""
        return self.files[segment :: self.segments]


@dataclass(frozen=True)
class ExportLook:
    """What came of looking at an export: its segments, or when to look again."""

    done: bool
    segments: int = 0
    seconds: int = 0


def look_at_export(
    artifacts: ObjectStore, tables: TableExports, table: str, keys: SourceKeys, token: str, bucket: str
) -> ExportLook:
    """Ask for a table's export unless that was done, and see whether it is there.

    Args:
        artifacts: Where it goes, and where it is noted.
        tables: DynamoDB.
        table: Name of the table.
        keys: Of this reading of the source.
        token: Names the reading: the same one begins no second export.
        bucket: Name of the artifacts' bucket.

    Raises:
        BadConfig: The table has no point-in-time recovery.
        BadDataset: DynamoDB couldn't export it.
    """
    if not artifacts.exists(keys.export):
        if not artifacts.exists(keys.started):
            started = StartedExport(arn=tables.export(table, bucket, keys.export_prefix, token))
            artifacts.write_new(keys.started, canonical_json(started.model_dump(mode="json")), "application/json")
        arn = StartedExport.model_validate_json(artifacts.read(keys.started)).arn
        state = tables.export_state(table, arn)
        if state.status == "IN_PROGRESS":
            # Half as long as it has taken already: soon after a short export, and rarely during a long one.
            return ExportLook(done=False, seconds=min(_LONGEST_WAIT, max(1, state.seconds // 2)))
        if state.status == "FAILED":
            raise BadDataset(
                f"DynamoDB couldn't export table {table!r}: {state.message.rstrip('.') or 'no reason given'}.",
                "Write dataset.yaml again, or set `by: scan` under `source`.",
            )
        found = ExportFiles(arn=arn, files=tuple(_listed(artifacts, keys, arn)))
        artifacts.write_new(keys.export, canonical_json(found.model_dump(mode="json")), "application/json")
    return ExportLook(done=True, segments=export_files(artifacts, keys).segments)


def _listed(artifacts: ObjectStore, keys: SourceKeys, arn: str) -> list[str]:
    """Keys of the data files that hold items, in order."""
    manifest = f"{keys.export_prefix}/AWSDynamoDB/{arn.rpartition('/')[2]}/manifest-files.json"
    entries = [json.loads(line) for line in artifacts.read(manifest).splitlines() if line]
    return sorted(str(entry["dataFileS3Key"]) for entry in entries if entry["itemCount"])


def export_files(artifacts: ObjectStore, keys: SourceKeys) -> ExportFiles:
    """The files of a finished export. Raises `NotFound` when it isn't known to be finished."""
    try:
        return ExportFiles.model_validate_json(artifacts.read(keys.export))
    except NotFound as error:
        raise NotFound(f"The export of source {keys.source_id!r} isn't done.", "Write dataset.yaml again.") from error


def exported_items(artifacts: ObjectStore, export: ExportFiles, segment: int, cursor: Cursor | None) -> Iterator[Page]:
    """Items of one segment's files, page by page, each with the cursor of the next page (None after the last).

    A file is streamed; one that is gone on with is skipped up to the line where its reader stopped.
    """
    start = cursor or {"file": 0, "line": 0}
    files = export.of(segment)
    page: list[Mapping[str, Any]] = []
    held = 0
    for number in range(start["file"], len(files)):
        skipped = start["line"] if number == start["file"] else 0
        for line, text in _lines(artifacts, files[number]):
            if line < skipped or not text.strip():
                continue
            page.append(json.loads(text)["Item"])
            held += len(text)
            if len(page) == PAGE_ITEMS or held >= PAGE_BYTES:
                yield page, {"file": number, "line": line + 1}
                page, held = [], 0
    yield page, None


def _lines(artifacts: ObjectStore, key: str) -> Iterator[tuple[int, bytes]]:
    """Lines of a packed file, numbered from 0. Raises `BadDataset` for one that is damaged."""
    with artifacts.open(key) as packed, gzip.open(packed) as lines:
        try:
            yield from enumerate(lines)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadDataset(f"The exported file {key!r} is damaged: {error}.", "Write dataset.yaml again.") from error
