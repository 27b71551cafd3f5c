"""Batch jobs in the real cloud: a table with bad rows, an archive of images, workers that die, jobs that can't work."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import shoal
from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import DIGITS, PENGUINS
from tests.e2e.test_data_faults import Killer
from tests.integration.local.conftest import wait_until

SETTINGS = b"rounds: 1\ntraining: {epochs: 1}\n"


@pytest.fixture(scope="module")
def served(cloud: LocalCloud, few_digits: bytes) -> Iterator[LocalCloud]:
    """The cloud with a model of images and one of rows."""
    cloud.put("datasets/batch-digits/dataset.yaml", SETTINGS)
    cloud.put("datasets/batch-digits/digits.zip", few_digits)
    cloud.put("datasets/batch-birds/dataset.yaml", SETTINGS + b"target: species\n")
    cloud.put("datasets/batch-birds/penguins.csv", PENGUINS)
    for name in ("batch-digits", "batch-birds"):
        cloud.succeeded(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_HOME", str(cloud.home))
        yield cloud


def birds() -> bytes:
    """The penguins with a column of our own and without the target; three rows are bad."""
    rows = list(csv.reader(io.StringIO(PENGUINS.decode())))
    target = rows[0].index("species")
    table = [["id", *row[:target], *row[target + 1 :]] for row in rows[:1]]
    table += [[f"b{number}", *row[:target], *row[target + 1 :]] for number, row in enumerate(rows[1:])]
    mass = table[0].index("body_mass_g")
    table[100][mass] = "heavy"
    table[200] = table[200][:3]
    table[300][0] = 'b299, "the last"'
    table[300][mass] = "four"
    text = io.StringIO()
    csv.writer(text).writerows(table)
    return text.getvalue().encode()


def test_a_table_keeps_its_order_and_its_bad_rows(served: LocalCloud) -> None:
    served.put("batch/batch-birds/table/batch.yaml", b"piece_records: 100\n")
    served.put("batch/batch-birds/table/birds.csv", birds())
    wait_until(lambda: any(job.id == "batch-birds/table" for job in shoal.batches("batch-birds")))
    job = shoal.connect().batch_job("batch-birds/table").wait(240)
    rows = list(job.results())
    sent = list(csv.DictReader(io.StringIO(birds().decode())))
    assert [row["id"] for row in rows] == [row["id"] for row in sent]
    assert (job.records, job.error_count, job.document["pieces_total"]) == (len(sent), 3, 4)
    assert {row["id"]: row["error"] for row in rows if row["error"]} == {
        "b99": "bad_value",
        "b199": "ragged_row",
        'b299, "the last"': "bad_value",
    }
    assert {row["label"] for row in rows if not row["error"]} <= {"Adelie", "Chinstrap", "Gentoo"}
    assert [item["place"] for item in job.errors()] == ["line 101", "line 201", "line 301"]
    answer = served.http("GET", "/batches/batch-birds/table").body
    assert answer["cost_usd"] > 0 and answer["output"]["predictions"] == "batches/batch-birds/table/predictions.csv"


def photos() -> bytes:
    """A hundred digits, and a file that isn't one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(DIGITS)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(name for name in source.namelist() if name.endswith(".png"))[:100]:
            target.writestr(zipfile.ZipInfo(name), source.read(name))
        target.writestr(zipfile.ZipInfo("0/not-a-digit.png"), b"no image")
    return buffer.getvalue()


def test_an_archive_by_the_command_line(served: LocalCloud, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    path.write_bytes(photos())
    told = served.shoal("batch", "batch-digits", str(path), "--name", "photos", "--output", str(tmp_path / "out"))
    assert "100 of 101 records answered by version 1" in told.stdout
    assert "0/not-a-digit.png" in told.stdout and "Fix: " in told.stdout
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    with zipfile.ZipFile(path) as archive:
        assert [line["file"] for line in lines] == archive.namelist()
    assert sum("prediction" in line for line in lines) == 100
    shown = json.loads(served.shoal("batch", "show", "batch-digits/photos", "--json").stdout)
    assert (shown["status"], shown["records"], shown["errors"]) == ("succeeded", 101, 1)
    assert "batch-digits/photos" in served.shoal("batch", "list", "--model", "batch-digits").stdout
    assert "bad_image" in served.shoal("batch", "errors", "batch-digits/photos").stdout


def start(cloud: LocalCloud, job: str, data: bytes) -> shoal.BatchJob:
    cloud.put(f"batch/batch-digits/{job}/batch.yaml", b"piece_records: 30\n")
    cloud.put(f"batch/batch-digits/{job}/photos.zip", data)
    wait_until(lambda: any(found.id == f"batch-digits/{job}" for found in shoal.batches("batch-digits")))
    return shoal.connect().batch_job(f"batch-digits/{job}")


@pytest.fixture(scope="module")
def undisturbed(served: LocalCloud) -> dict[str, Any]:
    return start(served, "undisturbed", photos()).wait(240).manifest()


@pytest.mark.parametrize("function", ["plan-batch", "predict-batch", "commit-batch"])
def test_a_killed_worker_changes_no_byte(function: str, served: LocalCloud, undisturbed: dict[str, Any]) -> None:
    killer = Killer(served, function)
    killer.start()
    job = start(served, f"killed-{function}", photos())
    manifest = job.wait(240).manifest()
    killer.stop()
    assert killer.killed
    assert manifest["digest"] == undisturbed["digest"]
    assert manifest["parts"] == undisturbed["parts"] and len(manifest["parts"]) > 3


def test_two_jobs_at_once_and_events_that_come_twice_make_the_same(
    served: LocalCloud, undisturbed: dict[str, Any]
) -> None:
    jobs = [start(served, name, photos()) for name in ("one", "two")]
    s3 = served.client("s3").head_object(Bucket=served.status["bucket"], Key="batch/batch-digits/one/photos.zip")
    event = json.loads((Path(__file__).parents[2] / "events/ingest_upload.json").read_text())
    stored = event["Records"][0]["s3"]["object"]
    stored.update(key="batch/batch-digits/one/photos.zip", versionId=s3["VersionId"], size=s3["ContentLength"])
    answer = served.client("lambda").invoke(FunctionName="shoal-ingest-upload", Payload=json.dumps(event).encode())
    assert json.loads(answer["Payload"].read())["outcomes"][0]["run_id"] == "batch-digits/one"
    assert {job.wait(240).manifest()["digest"] for job in jobs} == {undisturbed["digest"]}
    assert "batch-digits/one-2" not in [job.id for job in shoal.batches("batch-digits")]


def test_a_prefix_is_read_where_it_is(served: LocalCloud, undisturbed: dict[str, Any]) -> None:
    bucket = served.status["bucket"]
    job = shoal.batch("batch-digits", f"s3://{bucket}/batch/batch-digits/undisturbed/", job="prefix", files=["*.zip"])
    assert job.wait(240).records == undisturbed["records"]


def broken_parquet(folder: Path) -> bytes:
    """The footer is whole, the rows aren't."""
    path = folder / "birds.parquet"
    (folder / "birds.csv").write_bytes(PENGUINS)
    with duckdb.connect() as database:
        database.read_csv(str(folder / "birds.csv")).write_parquet(str(path))
    data = path.read_bytes()
    return data[:4] + bytes(1000) + data[1004:]


@pytest.mark.parametrize(
    ("model", "name", "data", "stage", "reason"),
    [
        ("nobody", "t.csv", b"a\n1\n", "Plan Batch", "Model 'nobody' doesn't exist."),
        ("batch-birds", "t.csv", b"a,b\n1,2\n", "Plan Batch", "'t.csv' has none of the columns that the model reads"),
        ("batch-digits", "t.csv", b"a,b\n1,2\n", "Plan Batch", "'t.csv' is a table, and the model takes images."),
        ("batch-birds", "t.parquet", None, "Predict Batch", "Row group 0 of 't.parquet' can't be read"),
    ],
)
def test_a_job_that_can_not_work_says_why(
    model: str, name: str, data: bytes | None, stage: str, reason: str, served: LocalCloud, tmp_path: Path
) -> None:
    job = f"wrong-{name.partition('.')[2]}"
    served.put(f"batch/{model}/{job}/{name}", broken_parquet(tmp_path) if data is None else data)
    wait_until(lambda: any(found.id == f"{model}/{job}" for found in shoal.batches(model)))
    with pytest.raises(shoal.BatchFailed, match=re.escape(reason)) as caught:
        shoal.connect().batch_job(f"{model}/{job}").wait(240)
    assert caught.value.fix
    shown = served.shoal("batch", "show", f"{model}/{job}")
    assert f"failed at {stage}" in shown.stdout and "Fix: " in shown.stdout
