"""Tables of one file or many, cut anywhere, give the same dataset."""

import gzip
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.plan import Plan, RowGroupSlice, TableParts, TableSlice
from shoal_core.data.tables import blocks, profiling, scanning
from shoal_core.data.tables.frames import frame_of_rows
from shoal_core.data.tables.places import FILE_STEP, describe_place
from shoal_core.data.tables.profiling import TableProfile
from shoal_core.data.tables.rows import TableRow
from shoal_core.errors import BadConfig, BadTable
from tests.unit.data.builders import KEYS, Case, csv_of, csv_rows, jsonl_of
from tests.unit.data.tables.test_same_tensors import csv_bytes, encoded, parquet_bytes, rows_of

ROWS = csv_rows(600)


def same(one, other, but=("place",)):
    assert one.keys() == other.keys()
    for name, array in one.items():
        if name not in but:
            np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_several_files_are_one_dataset():
    _, whole, _ = encoded({"t.csv": csv_of(ROWS)})
    parts = {"a.csv": csv_of(ROWS[:200]), "b.csv": csv_of(ROWS[200:390], ";"), "c.jsonl": jsonl_of(ROWS[390:])}
    plan, found, _ = encoded(parts)
    same(whole, found)
    assert [file.name for file in plan.tables] == ["a.csv", "b.csv", "c.jsonl"] and len(plan.formats) == 3
    assert Plan.decode(plan.encode()) == plan
    assert describe_place(plan, int(found["place"][0])) == "'a.csv', line 2"
    assert describe_place(plan, int(found["place"][200])) == "'b.csv', line 2"
    assert found["place"][-1] == 2 * FILE_STEP + 210


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_keys_of_a_partitioned_prefix_are_columns(kind, tmp_path):
    rows = rows_of(240)
    files = {"lake/_SUCCESS": b"", "lake/year=2026/.part.crc": b"x"}
    for number in range(4):
        name = f"lake/year={2024 + number // 2}/where=a%20{number % 2}/part-0.{kind}"
        part = rows[number * 60 : number * 60 + 60]
        files[name] = csv_bytes(part) if kind == "csv" else parquet_bytes(part, tmp_path / f"{number}.parquet")
    plan, found, _ = encoded(files, target="kind")
    assert plan.source_name == "lake (4 files)"
    roles = {column.name: (column.role, column.type, column.distinct) for column in plan.columns}
    assert roles["year"] == ("number", "number", 2) and roles["where"] == ("category", "category", 2)
    index = plan.spec.table.number_names.index("year")
    assert found["numbers"][:, index].tolist() == [2024.0] * 120 + [2025.0] * 120


def test_columns_that_a_file_lacks_are_told_and_missing():
    less = [{name: value for name, value in row.items() if name != "colour"} for row in ROWS[300:]]
    plan, found, _ = encoded({"a.csv": csv_of(ROWS[:300]), "b.csv": csv_of(less)})
    assert "'b.csv' has no column 'colour'; they count as missing in its rows." in plan.warnings
    assert (found["categories"][300:] == 0).all() and (found["categories"][:300] != 0).any()


@pytest.mark.parametrize("name", ["t.csv.gz", "t.json", "wide.csv"])
def test_what_cannot_be_cut_is_written_as_blocks(name, monkeypatch):
    monkeypatch.setattr(scanning, "PART_BYTES", 4000)
    monkeypatch.setattr(scanning.read_blocks, "__defaults__", (*scanning.read_blocks.__defaults__[:-2], 1500, 100))
    data = {
        "t.csv.gz": gzip.compress(csv_of(ROWS)),
        "t.json": json.dumps(ROWS).encode(),
        "wide.csv": csv_of(ROWS).decode().encode("utf-16"),
    }[name]
    case = Case({name: data})
    plan = case.plan()
    blocks = list(case.artifacts.keys(f"{KEYS.prefix}blocks/"))
    assert len(blocks) > 2 and all(len(case.artifacts.read(key)) < 7000 for key in blocks)
    parts = [part for item in plan.items for part in (item.parts if isinstance(item, TableParts) else (item,))]
    assert {part.block for part in parts} == set(range(len(blocks)))
    _, whole, _ = encoded({"t.csv": csv_of(ROWS)})
    _, found, _ = encoded({name: data})
    same(whole, found)
    # JSON has no lines that a user would count.
    assert describe_place(plan, int(found["place"][0])) == ("row 1" if name == "t.json" else "line 2")


def test_parquet_is_cut_by_row_groups(tmp_path):
    rows = rows_of(5000)
    data = parquet_bytes(rows, tmp_path / "t.parquet", group=2048)
    plan, found, _ = encoded({"t.parquet": data}, target="kind")
    assert [(item.first, item.last, item.row) for item in plan.items if isinstance(item, RowGroupSlice)] == [
        (0, 1, 0),
        (1, 2, 2048),
        (2, 3, 4096),
    ]
    assert found["place"].tolist() == list(range(1, 5001)) and describe_place(plan, 7) == "row 7"
    _, whole, _ = encoded({"t.csv": csv_bytes(rows)}, target="kind")
    same(whole, found)
    for cut in (data[:-9], data[: len(data) // 2] + data[-2000:], b"PAR1" + data[-3000:]):
        with pytest.raises(BadTable, match=r"t\.parquet"):
            Case({"t.parquet": cut}).plan()


def messy(rows):
    lines = csv_of(rows).decode().splitlines()
    lines[10] += ",extra"
    lines[20] = "oops," + lines[20].split(",", 1)[1]
    lines[30] = lines[30].rsplit(",", 1)[0] + ","
    lines[40] = 'x"y' + lines[40]
    lines[50] = "1_0," + lines[50].split(",", 1)[1]
    lines[60] = ""
    lines[70] = '"1.5' + "\n" + '",' + lines[70].split(",", 1)[1]
    return "\n".join(lines).encode()


def test_plain_runs_drop_what_the_row_reader_drops_and_say_the_same(monkeypatch):
    data = messy(ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_plain_block", lambda *arguments: None)
        _, plain, expected = encoded({"t.csv": data})
    _, fast, drops = encoded({"t.csv": data})
    same(plain, fast, but=())
    assert drops == expected
    assert drops.counts == {"bad_value": 3, "missing_target": 1, "ragged_row": 1}
    assert [(drop.place, drop.code) for drop in drops.examples] == [
        ("line 11", "ragged_row"),
        ("line 21", "bad_value"),
        ("line 31", "missing_target"),
        ("line 41", "bad_value"),
        ("line 51", "bad_value"),
    ]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 599), max_size=6))
def test_cut_anywhere_the_samples_are_the_same(cuts):
    data = messy(ROWS)
    case = Case({"t.csv": data})
    plan = case.plan()
    from shoal_core.data.report import DropTally
    from shoal_core.data.tables.encoding import encode_table
    from shoal_core.data.tables.rows import read_rows

    with case.uploads.open(plan.source.key) as stream:
        rows = list(read_rows(stream, "t", plan.table))
    ends = sorted({(0, 0), *((rows[cut % len(rows)].stop, rows[cut % len(rows)].last_line) for cut in cuts)})
    ends.append((len(data), 0))
    drops, whole = DropTally(), DropTally()
    parts = [
        encode_table(case.uploads, case.artifacts, plan, TableSlice(start=start, stop=stop, line=line), drops)
        for (start, line), (stop, _) in itertools.pairwise(ends)
        if stop > start
    ]
    found = [part for part in parts if part is not None]
    joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    item = TableSlice(start=0, stop=len(data), line=0)
    expected = encode_table(case.uploads, case.artifacts, plan, item, whole)
    same(expected, joined, but=())
    assert drops.total() == whole.total()


def test_group_and_time_are_read_but_are_no_features():
    rows = rows_of(200)
    plan, found, _ = encoded({"t.csv": csv_bytes(rows)}, target="kind", split={"group": "user"})
    assert "user" in plan.spec.table.ignored
    assert {column.name: column.role for column in plan.columns}["user"] == "group"
    users = [row["user"] for row in rows]
    assert len({group.tobytes() for group in found["group"]}) == len(set(users))
    plan, found, _ = encoded(
        {"t.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}, target="kind", split={"time": "at"}
    )
    order = sorted(range(200), key=lambda row: rows[row]["at"])
    assert np.argsort(found["time"], kind="stable").tolist() == order and found["time"].dtype == np.float64
    assert plan.time is not None and plan.time.name == "at"
    plan, found, _ = encoded({"t.csv": csv_bytes(rows)}, target="kind", split={"time": "count"})
    assert plan.time is None and found["time"].tolist() == [float(row["count"]) for row in rows]


def test_a_row_without_its_time_is_left_out():
    rows = [{**row, "at": None if index in (3, 5) else row["at"]} for index, row in enumerate(rows_of(60))]
    _, found, drops = encoded({"t.csv": csv_bytes(rows)}, target="kind", split={"time": "at"})
    assert len(found["target"]) == 58 and drops.counts == {"bad_value": 2}
    assert "split by time" in drops.examples[0].reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"split": {"group": "nobody"}}, "split.group"),
        ({"split": {"time": "colour"}}, "neither dates nor numbers"),
        ({"columns": {"widht": {"type": "number"}}}, "no column 'widht'"),
        ({"columns": {"colour": {"type": "date"}}}, "to be date"),
        ({"columns": {"colour": {"type": "number"}}}, "holds no numbers"),
    ],
)
def test_settings_of_columns_that_do_not_fit(config, reason):
    with pytest.raises(BadConfig) as caught:
        Case({"t.csv": csv_of(ROWS)}, **config).plan()
    assert reason in caught.value.reason and caught.value.fix


def test_several_labels_a_row():
    rows = [{"x": index * 0.5, "tags": ["a", "b", "c"][: index % 3 + (index % 4 > 0)]} for index in range(40)]
    texts = [{"x": row["x"], "tags": "|".join(row["tags"]) or "none"} for row in rows]
    plan, lists, _ = encoded({"t.jsonl": jsonl_of(rows)})
    assert plan.spec.target.task == "multilabel" and plan.spec.target.classes == ("a", "b", "c")
    assert lists["target"].dtype == np.uint8 and lists["target"][1].tolist() == [1, 1, 0]
    assert lists["target"][0].tolist() == [0, 0, 0]
    plan, cells, _ = encoded({"t.csv": csv_of(texts)}, task="multilabel")
    assert plan.spec.target.separator == "|" and plan.spec.target.classes == ("a", "b", "c", "none")
    filled = np.array([bool(row["tags"]) for row in rows])
    np.testing.assert_array_equal(cells["target"][filled, :3], lists["target"][filled])


VALUE = (
    st.none()
    | st.sampled_from(["a", "b", " a", "1", "1.0", "NA", "2026-01-31", "x y z and more words"])
    | st.integers(0, 5)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"p": VALUE, "q": VALUE, "y": VALUE}), min_size=1, max_size=40), st.data())
def test_a_profile_does_not_depend_on_the_frames(rows, data):
    limit = data.draw(st.integers(2, 8))
    before = profiling.MAX_DISTINCT
    profiling.MAX_DISTINCT = limit
    try:
        whole, parts = TableProfile(("p", "q", "y"), target="y"), TableProfile(("p", "q", "y"), target="y")
        given_rows = [TableRow(0, 0, 0, row) for row in rows]
        whole.add_frame(frame_of_rows(given_rows, ("p", "q", "y")))
        while given_rows:
            size = data.draw(st.integers(1, len(given_rows)))
            parts.add_frame(frame_of_rows(given_rows[:size], ("p", "q", "y")))
            given_rows = given_rows[size:]
    finally:
        profiling.MAX_DISTINCT = before
    for name, column in whole.columns.items():
        other = parts.columns[name]
        assert (column.present, column.counts, column.exact, column.numbers) == (
            other.present,
            other.counts,
            other.exact,
            other.numbers,
        )
    assert whole.leaks.twins("y") == parts.leaks.twins("y")
    assert whole.leaks.determining() == parts.leaks.determining()
