"""Jobs are reserved once per upload, pieces count once, and large outputs go to S3 in parts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shoal_core.aws import s3
from shoal_core.aws import table as table_module
from shoal_core.aws.batch_catalog import BatchCatalog
from shoal_core.aws.s3 import S3Store
from shoal_core.errors import NotFound
from shoal_core.registry.batch_records import batch_view
from shoal_core.registry.records import Source
from tests.support.aws import stack
from tests.unit.aws.test_catalog import OneAtATime

SOURCE = [Source(key="batch/m/j/a.csv", version="1", size=9)]
NOW = "2026-11-21T09:00:00.000Z"


@pytest.fixture
def catalog() -> Iterator[BatchCatalog]:
    with stack():
        yield BatchCatalog()


def test_an_upload_has_one_job_whoever_asks(catalog: BatchCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    served = OneAtATime(table_module.client("dynamodb"))
    monkeypatch.setattr(table_module, "client", lambda service: served)
    uploads = [f"id-{number % 3}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda identity: catalog.reserve("m", "j", identity, SOURCE), uploads))
    names = {
        identity: {name for (name, _), asked in zip(found, uploads, strict=True) if asked == identity}
        for identity in uploads
    }
    assert all(len(jobs) == 1 for jobs in names.values())
    assert sorted(name for jobs in names.values() for name in jobs) == ["j", "j-2", "j-3"]
    assert sum(is_new for _, is_new in found) == 3


def test_a_piece_counts_once(catalog: BatchCatalog) -> None:
    catalog.reserve("m", "j", "id", SOURCE)
    catalog.planned("m", "j", 4, 3, ["careful"])
    for piece in (0, 2, 0, 2, 0):
        catalog.predicted("m", "j", piece, 10, 1)
    batch = batch_view(catalog.items("m", "j"), "x86_64", NOW)
    assert (batch.pieces_done, batch.pieces_total, batch.records, batch.errors) == (2, 3, 20, 2)
    assert (batch.version, batch.warnings, batch.seconds_left) == (4, ["careful"], None)


def test_files_wait_until_the_job_begins(catalog: BatchCatalog) -> None:
    catalog.waiting("m", "j", "Files wait.")
    assert batch_view(catalog.items("m", "j"), "x86_64", NOW).note == "Files wait."
    assert catalog.newest() == [("m", "j")]
    catalog.reserve("m", "j", "id", SOURCE)
    catalog.waiting("m", "j", "A late event.")
    assert batch_view(catalog.items("m", "j"), "x86_64", NOW).status == "running"
    assert catalog.newest() == [("m", "j")]
    assert catalog.newest("other") == []
    with pytest.raises(NotFound):
        catalog.items("m", "nothing")


def test_time_left_is_told_by_the_pace(catalog: BatchCatalog) -> None:
    catalog.reserve("m", "j", "id", SOURCE)
    catalog.planned("m", "j", 1, 4, [])
    catalog.book("m", "j").started("Predict Batch")
    catalog.predicted("m", "j", 0, 10, 0)
    items = catalog.items("m", "j")
    for item in items:
        if item["sk"] == "STAGE#Predict Batch":
            item["started_at"] = "2026-11-21T08:59:50.000Z"
    assert batch_view(items, "x86_64", NOW).seconds_left == 30.0


def test_a_large_object_goes_in_parts_and_a_broken_one_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024**2)  # the least that S3 allows
    data = bytes(range(256)) * 1024 * 44
    with stack():
        store = S3Store("artifacts")
        store.write_stream("large", (data[start : start + 100_000] for start in range(0, len(data), 100_000)))
        assert store.read("large") == data
        assert store.head("large")["ETag"].endswith('-3"')
        store.write_stream("small", iter([b"a", b"", b"b"]))
        assert store.read("small") == b"ab"
        store.write_stream("empty", iter([]))
        assert store.read("empty") == b""

        def broken() -> Iterator[bytes]:
            yield data
            raise ValueError("the input ends early")

        with pytest.raises(ValueError, match="ends early"):
            store.write_stream("broken", broken())
        assert not store.exists("broken")
        from shoal_core.aws.clients import client

        assert "Uploads" not in client("s3").list_multipart_uploads(Bucket="artifacts")
