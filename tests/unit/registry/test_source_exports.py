"""A table's export: asked for once, waited for, and read as a scan is, whatever its files and whoever is killed."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.source_config import SourceConfig
from shoal_core.errors import BadDataset, NotFound
from shoal_core.keys import SourceKeys
from shoal_core.registry import source_exports
from shoal_core.registry.records import Source
from shoal_core.registry.source_exports import EXPORT_BYTES, ExportFiles, ExportState, Page, exported_items
from shoal_core.registry.source_tasks import SourceTask
from shoal_core.registry.sources import SourceReader
from tests.support.stores import MemoryStore

CONFIG = "datasets/orders/dataset.yaml"
TASK = SourceTask.of("orders", CONFIG, None, Source(key=CONFIG, size=1), "2026-11-21T08:00:00+00:00#1")
KEYS = SourceKeys(TASK.dataset, TASK.source_id)


def item(number: int) -> dict[str, Any]:
    return {"id": {"S": f"o{number}"}, "amount": {"N": str(number)}, "raw": {"B": base64.b64encode(b"x").decode()}}


@dataclass
class FakeTables:
    """DynamoDB whose exports are written as AWS documents them, in `parts` files; done after `looks` looks."""

    artifacts: MemoryStore
    items: list[dict[str, Any]]
    bytes: int = 0
    recoverable: bool = True
    parts: int = 3
    looks: int = 0
    outcome: ExportState = field(default_factory=lambda: ExportState("COMPLETED"))
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def size(self, table: str) -> int:
        return self.bytes

    def is_recoverable(self, table: str) -> bool:
        return self.recoverable

    def pages(self, table: str, segment: int, segments: int, cursor: dict[str, Any] | None) -> Iterator[Page]:
        yield list(self.items[segment::segments]), None

    def export(self, table: str, bucket: str, prefix: str, token: str) -> str:
        self.asked.append((table, bucket, prefix, token))
        lines = []
        for part in range(self.parts):
            key = f"{prefix}/AWSDynamoDB/01-ab/data/{part}.json.gz"
            items = self.items[part :: self.parts]
            self.artifacts.write(key, gzip.compress("".join(json.dumps({"Item": i}) + "\n" for i in items).encode()))
            lines.append(json.dumps({"itemCount": len(items), "md5Checksum": "", "etag": "", "dataFileS3Key": key}))
        self.artifacts.write(f"{prefix}/AWSDynamoDB/01-ab/manifest-files.json", "\n".join(lines).encode())
        return f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}/export/01-ab"

    def export_state(self, table: str, arn: str) -> ExportState:
        self.looks -= 1
        return ExportState("IN_PROGRESS", 90) if self.looks >= 0 else self.outcome


def reader(source: str, **changes: Any) -> tuple[SourceReader, FakeTables]:
    uploads, artifacts = MemoryStore(), MemoryStore()
    uploads.write(CONFIG, f"source: {{dynamodb: orders{source}}}".encode())
    tables = FakeTables(artifacts, **{"items": [item(number) for number in range(25)], **changes})
    return SourceReader(uploads, artifacts, tables, "artifacts"), tables


def rows(found: SourceReader) -> list[dict[str, Any]]:
    """Read everything; the rows of all segments, sorted."""
    plan = found.plan(TASK)
    read = []
    for segment in range(found.prepare(plan).segments):
        while not found.read(plan, segment, lambda: False):
            pass
        for file in json.loads(found.artifacts.read(plan.keys.segment(segment)))["files"]:
            read += [json.loads(line) for line in found.artifacts.read(file["key"]).splitlines()]
    return sorted(read, key=lambda row: row["amount"])


@pytest.mark.parametrize(
    ("source", "bytes", "recoverable", "by"),
    [
        ("", EXPORT_BYTES, True, "export"),
        ("", EXPORT_BYTES, False, "scan"),
        ("", EXPORT_BYTES - 1, True, "scan"),
        (", segments: 4", EXPORT_BYTES, True, "scan"),
        (", by: scan", EXPORT_BYTES, True, "scan"),
        (", by: export", 0, True, "export"),
    ],
)
def test_a_large_table_that_can_be_exported_is(source: str, bytes: int, recoverable: bool, by: str) -> None:
    found, _ = reader(source, bytes=bytes, recoverable=recoverable)
    assert found.plan(TASK).by == by


def test_an_export_is_asked_for_once_waited_for_and_read_like_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_exports, "PAGE_ITEMS", 4)
    found, tables = reader(", by: export", looks=2)
    plan = found.plan(TASK)
    assert [(found.prepare(plan).segments, found.prepare(plan).seconds)] == [(0, 45)]
    prepared = found.prepare(plan)
    assert (prepared.segments, prepared.seconds) == (3, 0)
    assert found.prepare(found.plan(TASK)) == prepared
    assert tables.asked == [("orders", "artifacts", f"exports/orders/{TASK.source_id}", TASK.source_id)]
    assert rows(found) == rows(reader(", by: scan")[0])


def test_an_empty_part_makes_no_segment_and_an_empty_table_one() -> None:
    found, _ = reader(", by: export", parts=40)
    assert found.prepare(found.plan(TASK)).segments == 25
    assert len(rows(found)) == 25
    found, _ = reader(", by: export", items=[])
    assert found.prepare(found.plan(TASK)).segments == 1 and rows(found) == []


def test_a_failed_export_is_told() -> None:
    found, _ = reader(", by: export", outcome=ExportState("FAILED", message="no room"))
    with pytest.raises(BadDataset, match="couldn't export table 'orders': no room") as caught:
        found.prepare(found.plan(TASK))
    assert "by: scan" in caught.value.fix
    with pytest.raises(NotFound, match="isn't done"):
        found.read(found.plan(TASK), 0, lambda: True)


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(1, 5), st.integers(0, 30))
def test_any_files_pages_and_interruption_give_every_item_once(counts: list[int], page: int, stop: int) -> None:
    store, number, files = MemoryStore(), 0, []
    for file, count in enumerate(counts):
        lines = "".join(json.dumps({"Item": item(number + index)}) + "\n" for index in range(count))
        store.write(f"f{file}", gzip.compress(lines.encode()))
        files.append(f"f{file}")
        number += count
    export = ExportFiles(arn="arn", files=tuple(files))
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_exports, "PAGE_ITEMS", page)
        for segment in range(export.segments):
            cursor: dict[str, Any] | None = None
            pages = exported_items(store, export, segment, None)
            for done, (items, cursor) in enumerate(pages):
                seen += [entry["id"]["S"] for entry in items]
                if done == stop and cursor is not None:
                    for again, _ in exported_items(store, export, segment, cursor):
                        seen += [entry["id"]["S"] for entry in again]
                    break
    assert sorted(seen) == sorted(f"o{index}" for index in range(number))


def test_a_page_of_large_items_ends_early() -> None:
    """A hundred of DynamoDB's largest items would be forty pages of a scan."""
    lines = "".join(
        json.dumps({"Item": {"id": {"S": str(number)}, "text": {"S": "x" * 400_000}}}) + "\n" for number in range(7)
    )
    store = MemoryStore({"f": gzip.compress(lines.encode())})
    pages = list(exported_items(store, ExportFiles(arn="arn", files=("f",)), 0, None))
    assert [len(items) for items, _ in pages] == [3, 3, 1]
    assert [cursor and cursor["line"] for _, cursor in pages] == [3, 6, None]


def test_a_damaged_file_is_named() -> None:
    store = MemoryStore({"cut.json.gz": gzip.compress(b'{"Item":{}}' * 999)[:-12], "no.json.gz": b"not packed"})
    for name in store.objects:
        with pytest.raises(BadDataset, match=f"'{name}' is damaged"):
            list(exported_items(store, ExportFiles(arn="arn", files=(name,)), 0, None))


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="by goes with dynamodb"):
        SourceConfig(s3="s3://lake/x", by="scan")
    with pytest.raises(ValueError, match="segments go with a scan"):
        SourceConfig(dynamodb="orders", segments=2, by="export")
    assert KEYS.export_prefix == f"exports/orders/{TASK.source_id}"
