"""Batch jobs by Python: what a path becomes, waiting, and reading the output in every format."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

import shoal
from shoal._batches import read_records
from shoal.uploads import plan_batch
from tests.unit.sdk.fake_api import FakeApi

ROWS = [
    {"id": "1", "label": "a, b", "error_reason": "", "error_fix": ""},
    {"id": "2", "label": "c", "error_reason": "", "error_fix": ""},
]
CSV = 'id,label,error_reason,error_fix\n1,"a, b",,\n2,c,,\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_runs", "_batches"):
        monkeypatch.setattr(f"shoal.{module}.POLL_SECONDS", 0.01)


@pytest.fixture
def client(cloud: dict[str, str], tmp_path: Path) -> shoal.Client:
    (tmp_path / "project/.shoal/cloud.json").write_text(json.dumps({**cloud, "artifacts_bucket": cloud["bucket"]}))
    return shoal.connect()


def finish(
    api: FakeApi, job: str, parts: dict[str, bytes], joined: str | None = None, style: dict[str, str] | None = None
) -> None:
    """The job's output, as commit_batch leaves it."""
    prefix = f"batches/{job}/"
    entries = {}
    for name, data in parts.items():
        api.s3.put_object(Bucket=api.bucket, Key=prefix + name, Body=data)
        entries[name] = {"key": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **(style or {})}
    manifest = {"parts": [entry for name, entry in entries.items() if name != joined]}
    manifest["predictions"] = entries[joined] if joined else None
    api.s3.put_object(Bucket=api.bucket, Key=f"{prefix}manifest.json", Body=json.dumps(manifest))
    output = {
        "prefix": prefix,
        "manifest": f"{prefix}manifest.json",
        "parts": [],
        "predictions": joined and prefix + joined,
    }
    api.batch_script = [{"status": "succeeded", "records": 2, "output": output}]


def test_a_table_is_uploaded_answered_and_read(client: shoal.Client, api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "birds.csv"
    path.write_text("id\n1\n")
    job = client.batch("digits", path, job="birds", version=3, probabilities=True)
    assert (job.id, job.status, job.model) == ("digits/birds", "running", "digits")
    config = api.s3.get_object(Bucket=api.bucket, Key="batch/digits/birds/batch.yaml")["Body"].read()
    assert config == b"probabilities: all\nversion: 3\n"
    finish(api, job.id, {"output/part-00000.csv": CSV.encode(), "predictions.csv": CSV.encode()}, "predictions.csv")
    seen: list[str] = []
    assert job.wait(on_progress=lambda current: seen.append(current.status)) is job
    assert seen[-1] == "succeeded"
    assert list(job.results()) == ROWS
    assert [saved.name for saved in job.download(tmp_path / "out")] == ["predictions.csv", "manifest.json"]
    assert (tmp_path / "out/predictions.csv").read_text() == CSV
    assert [found.id for found in client.batches("digits")] == ["digits/birds"]
    assert job.errors()[0]["place"] == "line 3"


def test_loose_files_end_with_batch_yaml(client: shoal.Client, api: FakeApi, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"1")
    job = client.batch("digits", folder, job="loose")
    assert job.document["source"][0]["key"] == "batch/digits/loose/batch.yaml"
    listed = api.s3.list_objects_v2(Bucket=api.bucket, Prefix="batch/digits/loose/")["Contents"]
    assert sorted(item["Key"].rpartition("/")[2] for item in listed) == ["a.png", "batch.yaml"]


def test_what_a_path_becomes(tmp_path: Path) -> None:
    image = tmp_path / "three.png"
    image.write_bytes(b"1")
    one = plan_batch(image, "digits", "one", {})
    assert one.loose and list(one.files) == ["batch/digits/one/three.png"]
    assert one.config_key == "batch/digits/one/batch.yaml"
    prefix = plan_batch("s3://lake/day=1/", "digits", "lake", {"files": ["*.csv"]})
    assert prefix.config == b"files:\n- '*.csv'\nsource: s3://lake/day=1/\n" and not prefix.files
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "a.csv").write_text("a\n1\n")
    (tables / "b.csv").write_text("a\n1\n")
    several = plan_batch(tables, "digits", "several", {})
    assert several.loose and sorted(several.files) == [f"batch/digits/several/files/{name}.csv" for name in "ab"]
    assert plan_batch(image, "digits", None, {}).dataset.startswith("three-20")
    for path, model, job in ((tmp_path / "nothing.zip", "digits", "j"), (image, "a b", "j"), (image, "digits", "a/b")):
        with pytest.raises(shoal.BadRequest) as caught:
            plan_batch(path, model, job, {})
        assert caught.value.fix
    with pytest.raises(shoal.BadRequest, match="can't be read by a batch job"):
        plan_batch("dynamodb://table", "digits", None, {})


def test_an_unknown_model_is_told_before_anything_is_uploaded(
    client: shoal.Client, api: FakeApi, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    with pytest.raises(shoal.NotFound):
        client.batch("nobody", path)
    assert "Contents" not in api.s3.list_objects_v2(Bucket=api.bucket)


def test_a_failed_job_and_a_slow_one(client: shoal.Client, api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    job = client.batch("digits", path)
    api.batch_script = [{"status": "running"}]
    with pytest.raises(shoal.WaitTimedOut, match=r"Job digits/a-.* is still running"):
        job.wait(timeout=0.05)
    with pytest.raises(shoal.NotFound, match="has no output"):
        next(job.results())
    failure = {"stage": "Plan Batch", "error": "BadTable", "reason": "'a.csv' is empty.", "fix": "Fill it."}
    api.batch_script = [{"status": "failed", "failure": failure}]
    with pytest.raises(shoal.BatchFailed, match=r"failed at Plan Batch: 'a\.csv' is empty") as caught:
        job.wait()
    assert caught.value.fix == "Fill it."


def test_damaged_output_is_told(client: shoal.Client, api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    job = client.batch("digits", path)
    finish(api, job.id, {"output/part-00000.csv": CSV.encode()})
    job.wait()
    api.s3.put_object(Bucket=api.bucket, Key=f"batches/{job.id}/output/part-00000.csv", Body=b"x" * len(CSV))
    with pytest.raises(shoal.ServiceFailed):
        job.download(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.csv", CSV.encode()),
        ("p.csv.gz", gzip.compress(CSV[:40].encode(), mtime=0) + gzip.compress(CSV[40:].encode(), mtime=0)),
        ("p.csv.zst", b"".join(zstandard.ZstdCompressor().compress(part.encode()) for part in (CSV[:40], CSV[40:]))),
        ("p.tsv", b"id\tlabel\terror_reason\terror_fix\n1\ta, b\t\t\n2\tc\t\t\n"),
        ("p.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode()),
        ("p.json", json.dumps(ROWS).encode()),
    ],
)
def test_records_of_every_format(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    found: list[dict[str, Any]] = list(read_records(tmp_path / name))
    assert found == ROWS


def test_records_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT 1 AS id, 'a' AS label) TO '{path}' (FORMAT parquet)")
    assert list(read_records(path)) == [{"id": 1, "label": "a"}]


def test_records_are_read_as_the_manifest_says_they_are_written(
    client: shoal.Client, api: FakeApi, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    job = client.batch("digits", path)
    data = b"id;note;error_reason;error_fix\n1;'a;b';;\n"
    finish(api, job.id, {"output/part-00000.csv": data}, style={"delimiter": ";", "quote": "'"})
    assert list(job.wait().results()) == [{"id": "1", "note": "a;b", "error_reason": "", "error_fix": ""}]


def test_a_cell_may_be_longer_than_the_csv_module_likes(tmp_path: Path) -> None:
    path, limit = tmp_path / "p.csv", csv.field_size_limit()
    path.write_text(f'id,note,error_reason,error_fix\n1,"{"x," * limit}",,\n')
    (found,) = read_records(path)
    assert len(found["note"]) == 2 * limit
    assert csv.field_size_limit() == limit
