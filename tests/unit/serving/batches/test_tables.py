"""Tables through a model: every row in its place, whatever the table is written as and wherever it is cut."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.plan import TableSlice
from shoal_core.data.spec import TargetSpec
from shoal_core.errors import BadDataset, BadTable, NotFound
from shoal_core.serving.batches.columns import AnswerColumns
from shoal_core.serving.batches.plan import read_plan
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ServedModel, session_of
from tests.unit.serving.batches.jobs import KEYS, MODELS, Job, served
from tests.unit.serving.pipelines.models import picky_model

COLUMNS = ["id", "x0", "x1", "x2", "x3"]


def rows(count: int, seed: int = 0) -> list[list[str]]:
    numbers = np.random.default_rng(seed).normal(size=(count, 4)).tolist()
    return [[f"r{index}", *map(repr, row)] for index, row in enumerate(numbers)]


def table(lines: list[list[str]], **style: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, **style).writerows([COLUMNS, *lines])
    return buffer.getvalue().encode()


def answered(model: str, row: list[str]) -> dict[str, Any]:
    """What the predict function answers for a row alone."""
    instance = dict(zip(COLUMNS[1:], row[1:], strict=True))
    return dict(predict(served(model), json.dumps(instance).encode(), "application/json")["predictions"][0])


def test_rows_keep_their_order_cells_and_get_the_answers_of_the_predict_function() -> None:
    sent = rows(300)
    job = Job("blobs", {"data.csv": table(sent)}, piece_records=40)
    manifest = job.run()
    found = job.rows()
    assert len(manifest.parts) > 5
    assert [[row[column] for column in COLUMNS] for row in found] == sent
    assert list(found[0]) == [*COLUMNS, "label", "probability", "error", "error_reason", "error_fix"]
    for row, line in zip(found, sent, strict=True):
        expected = answered("blobs", line)
        assert row["label"] == expected["label"]
        assert float(row["probability"]) == pytest.approx(expected["probability"], abs=1e-6)
    assert (manifest.records, manifest.errors, manifest.model.version) == (300, 0, 1)


def test_bad_rows_are_error_records_in_their_place() -> None:
    sent = rows(50)
    sent[5] = ["r5", "abc", "1", "2", "3"]
    sent[9] = ["r9", "1"]
    sent[30] = ["r30", "1", "2", "3", "4", "5"]
    job = Job("blobs", {"data.csv": table(sent)}, piece_records=10)
    manifest = job.run()
    found = job.rows()
    assert [row["id"] for row in found] == [f"r{index}" for index in range(50)]
    assert {row["id"]: row["error"] for row in found if row["error"]} == {
        "r5": "bad_value",
        "r9": "ragged_row",
        "r30": "ragged_row",
    }
    assert all((row["label"] == "") == bool(row["error"]) for row in found)
    assert found[5]["error_reason"] == "Line 7, column 'x0': 'abc': it isn't a number."
    assert manifest.codes == {"bad_value": 1, "ragged_row": 2}
    assert [(entry["place"], entry["raw"].split(",")[0]) for entry in job.errors()] == [
        ("line 7", "r5"),
        ("line 11", "r9"),
        ("line 32", "r30"),
    ]
    assert [entry.place for entry in manifest.shown] == ["line 7", "line 11", "line 32"]


CELLS = st.one_of(
    st.floats(-100, 100).map(repr),
    st.sampled_from(["", "NA", "abc", 'say "hi"', "a,b", "two\nlines", "carriage\r\nreturn", "ä ö", "1e3", "1_000"]),
)


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(st.lists(CELLS, min_size=4, max_size=6), min_size=1, max_size=60),
    quote_all=st.booleans(),
    odd=st.lists(st.sampled_from(['lone" quote,1,2,3,4', "", "x", '"open,1,2,3,4']), max_size=2),
    pieces=st.integers(1, 20),
)
def test_the_same_bytes_wherever_it_is_cut(
    lines: list[list[str]], quote_all: bool, odd: list[str], pieces: int
) -> None:
    data = table(lines, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    data += "\r\n".join(odd).encode()
    whole, cut = Job("blobs", {"data.csv": data}), Job("blobs", {"data.csv": data}, piece_records=pieces)
    one, many = whole.run(), cut.run()
    assert cut.output() == whole.output()
    assert (many.records, many.errors, many.codes) == (one.records, one.errors, one.codes)
    assert cut.errors() == whole.errors()
    reader = csv.reader(io.StringIO(whole.output().decode(), newline=""))
    assert {len(row) for row in reader if row} == {len(COLUMNS) + 5}


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.fixed_dictionaries({"x0": st.floats(-9, 9), "note": st.text(max_size=5)}),
            st.sampled_from([[1], 3, None, {"x0": "no"}, {"prediction": 1, "error": 2}]),
        ),
        min_size=1,
        max_size=40,
    ),
    pieces=st.integers(1, 10),
    form=st.sampled_from(["jsonl", "json"]),
)
def test_json_keeps_every_field(values: list[Any], pieces: int, form: str) -> None:
    lines = [json.dumps(value) for value in values]
    data = ("\n".join(lines) + "\n" if form == "jsonl" else f"[{','.join(lines)}]").encode()
    whole, cut = Job("lines", {f"d.{form}": data}), Job("lines", {f"d.{form}": data}, piece_records=pieces)
    whole.run()
    manifest = cut.run()
    assert cut.output() == whole.output()
    found = cut.lines() if form == "jsonl" else json.loads(cut.output())
    assert manifest.records == len(found) == len(values)
    for value, record in zip(values, found, strict=True):
        if isinstance(value, dict):
            assert {name: record[name] for name in value} == value
            ours = "shoal_prediction" if "prediction" in value else "prediction"
            assert (ours in record) is (value.get("x0") != "no")
        else:
            assert record["error"]["code"] == "not_an_object" and json.loads(record["raw"]) == value


@pytest.mark.parametrize(
    ("name", "pack", "unpack"),
    [
        ("data.csv.gz", gzip.compress, gzip.decompress),
        ("data.tsv", bytes, bytes),
        (
            "data.csv.zst",
            zstandard.ZstdCompressor().compress,
            lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
        ),
        ("data.csv", lambda data: b"\xff\xfe" + data.decode().encode("utf-16-le"), bytes),
    ],
)
def test_a_packed_table_comes_back_packed(name: str, pack: Any, unpack: Any) -> None:
    delimiter = "\t" if name.endswith("tsv") else ","
    data = table(rows(120), delimiter=delimiter)
    job, plain = Job("blobs", {name: pack(data)}, piece_records=30), Job("blobs", {"data.csv": data})
    manifest = job.run()
    assert manifest.predictions is not None and len(manifest.parts) > 2
    assert manifest.predictions.key == f"predictions{name.removeprefix('data')}"
    plain.run()
    assert unpack(job.output()) == plain.output()
    head = unpack(job.artifacts.read(KEYS.prefix + manifest.parts[-1].key)).partition(b"\n")[0]
    assert head == plain.output().partition(b"\n")[0]


def parquet(tmp_path: Path, query: str) -> bytes:
    path = tmp_path / "data.parquet"
    with duckdb.connect() as database:
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return path.read_bytes()


def test_parquet_keeps_its_types_and_its_parts_are_one_file(tmp_path: Path) -> None:
    query = (
        "SELECT i::SMALLINT AS id, i::DECIMAL(10,2) AS price, (i / 7)::FLOAT AS x0, [i, 2] AS list, "
        "CASE WHEN i % 500 = 3 THEN 'abc' ELSE i::VARCHAR END AS x1, 'truth' AS label FROM range(5000) r(i)"
    )
    data = parquet(tmp_path, query)
    job = Job("blobs", {"data.parquet": data}, piece_records=1000, probabilities="all")
    manifest = job.run()
    assert len(manifest.parts) == 3 and manifest.codes == {"bad_value": 10}
    for name, content in (("whole", job.output()), ("one", Job("blobs", {"data.parquet": data}).run() and b"")):
        if content:
            (tmp_path / f"{name}.parquet").write_bytes(content)
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet(?)", [str(tmp_path / "whole.parquet")])
        types = {column[0]: str(column[1]) for column in found.description or []}
        lines = found.fetchall()
        sent = database.execute("SELECT * FROM read_parquet(?)", [str(tmp_path / "data.parquet")]).fetchall()
    assert [line[:6] for line in lines] == sent
    assert types["id"] == "SMALLINT" and types["price"] == "DECIMAL(10,2)" and types["list"] == "BIGINT[]"
    assert list(types)[6:] == [
        "predicted_label",
        "probability",
        "probability_a",
        "probability_b",
        "probability_c",
        "error",
        "error_reason",
        "error_fix",
    ]
    assert [line[0] for line in lines if line[-3]] == list(range(3, 5000, 500))
    # In the first piece alone the answers are the same as in the whole.
    assert all(abs(sum(line[8:11]) - 1) < 1e-5 for line in lines if line[-3] is None)


def test_several_tables_are_one_job_with_a_part_each() -> None:
    files = {f"day={day}/part.csv": table(rows(30, day)) for day in (1, 2)}
    files["_SUCCESS"] = b""
    job = Job("blobs", files)
    manifest = job.run()
    assert [part.input for part in manifest.parts] == ["day=1/part.csv", "day=2/part.csv"]
    assert manifest.predictions is None and manifest.records == 60


def test_windows_are_answered_one_json_object_each() -> None:
    windows = [{"rows": [{"x0": row, "x1": 2 * row} for row in range(4 if index == 3 else 12)]} for index in range(20)]
    data = b"".join(json.dumps(window).encode() + b"\n" for window in windows)
    job = Job("waves", {"windows.jsonl": data}, piece_records=6)
    assert job.run().codes == {"bad_window": 1}
    found = job.lines()
    assert found[3]["error"]["reason"] == "Line 4 has 4 rows, and the model looks at 12."
    assert [line["rows"] for line in found] == [window["rows"] for window in windows]


@pytest.mark.parametrize(
    ("model", "files", "error", "reason"),
    [
        ("blobs", {"d.csv": b"a,b\n1,2\n"}, BadTable, "none of the columns that the model reads"),
        ("blobs", {"d.csv": b""}, BadDataset, "holds no data"),
        ("blobs", {"d.csv": b"\0\1\2"}, BadTable, "isn't text"),
        ("blobs", {"d.parquet": b"PAR1 no PAR1"}, BadTable, "isn't a Parquet file"),
        ("blobs", {"a/photo.png": b"x"}, BadDataset, "isn't a table, and the model takes rows"),
        ("drawings", {"d.csv": b"x0\n1\n"}, BadDataset, "is a table, and the model takes images"),
        ("waves", {"d.csv": b"x0,x1\n1,2\n"}, BadTable, "takes windows of 12 rows"),
    ],
)
def test_a_job_that_can_not_work_says_why(model: str, files: dict[str, bytes], error: type, reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        Job(model, files).plan()
    assert caught.value.fix


def test_an_unknown_model_or_version_is_told() -> None:
    job = Job("blobs", {"d.csv": table(rows(3))}, version=7)
    with pytest.raises(NotFound, match="has no version 7"):
        job.plan()


def test_a_lacking_column_is_a_warning_and_counts_as_missing() -> None:
    job = Job("blobs", {"d.csv": b"x0\n1\n"})
    (warning,) = job.run().warnings
    assert "'x1', 'x2', 'x3'" in warning


def test_a_large_table_is_cut_into_pieces_of_about_16_mb() -> None:
    line = b"r" * 1000 + b",1,2,3,4\n"
    job = Job("blobs", {"data.csv": b"id,x0,x1,x2,x3\n" + line * 40_000})
    assert job.plan() == 3
    plan = read_plan(job.artifacts, KEYS)
    sizes = [piece.stop - piece.start for piece in plan.pieces if isinstance(piece, TableSlice)]
    assert max(sizes) - min(sizes) < 100_000 and sum(sizes) == len(job.uploads.objects["batch/model/job/data.csv"])


def test_a_row_that_the_model_itself_refuses_is_an_error_record(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ServedModel("lines", 1, MODELS["lines"][0], session_of(picky_model(), 1769), 0)
    sent = [[f"r{index}", str(index % 4), "0", "0", "0"] for index in range(300)]
    sent[7][1] = sent[299][1] = "9"
    job = Job("lines", {"data.csv": table(sent)})
    monkeypatch.setattr(job, "version", lambda name, version: model)
    manifest = job.run()
    assert (manifest.records, manifest.codes) == (300, {"not_answered": 2})
    found = job.rows()
    assert [row["id"] for row in found if row["error"]] == ["r7", "r299"]
    assert "can't answer" in found[7]["error_reason"] and found[7]["error_fix"]
    assert [row["value"] for row in found[:7]] == ["10.0", "11.0", "12.0", "13.0", "10.0", "11.0", "12.0"]


def test_a_column_that_differs_in_the_size_of_its_letters_is_taken(tmp_path: Path) -> None:
    source, target = tmp_path / "data.parquet", tmp_path / "found.parquet"
    query = "SELECT 1.0 AS x0, 2.0 AS x1, 3.0 AS x2, 4.0 AS x3, 'mine' AS \"Label\", 'mine' AS \"PROBABILITY_A\""
    duckdb.connect().execute(f"COPY ({query}) TO '{source}' (FORMAT parquet)")
    job = Job("blobs", {"data.parquet": source.read_bytes()}, probabilities="all")
    job.run()
    target.write_bytes(job.output())
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(target)])
    names = [column[0] for column in found.description or []]
    assert names[4:8] == ["Label", "PROBABILITY_A", "predicted_label", "probability"]


def test_classes_that_differ_in_the_size_of_their_letters_have_columns_of_their_own() -> None:
    target = TargetSpec(task="classification", classes=("a", "A"))
    columns = AnswerColumns(target, True, ())
    assert columns.names[:4] == ("label", "probability", "probability_a", "predicted_probability_A")


def test_the_manifest_says_how_csv_is_written() -> None:
    quoted = b"'id';'x0';'x1';'x2';'x3'\n" + b"'a;b';'1';'2';'3';'4'\n" * 3
    job = Job("blobs", {"data.csv": quoted})
    manifest = job.run()
    assert manifest.predictions is not None
    assert [(file.delimiter, file.quote) for file in (*manifest.parts, manifest.predictions)] == [(";", "'")] * 2
    source = io.StringIO(job.output().decode(), newline="")
    assert [row["id"] for row in csv.DictReader(source, delimiter=";", quotechar="'")] == ["a;b"] * 3
    assert Job("lines", {"d.jsonl": b'{"x0": 1}\n'}).run().parts[0].quote == ""


def test_numbers_that_json_lacks_come_out_as_null() -> None:
    job = Job("lines", {"d.jsonl": b'{"x0": NaN, "note": [Infinity, {"a": -Infinity}]}\n'})
    job.run()
    (record,) = (json.loads(line, parse_constant=pytest.fail) for line in job.output().splitlines())
    assert (record["x0"], record["note"]) == (None, [None, {"a": None}])
    assert "prediction" in record
