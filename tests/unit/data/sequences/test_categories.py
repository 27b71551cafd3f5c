"""Windows with categories beside numbers: what a plain loop gives, from every format, and what `predict` gives."""

import gzip
import random

import duckdb
import numpy as np
import pytest
import zstandard

from shoal_core.data.spec import category_columns
from shoal_core.errors import BadDataset, BadTable
from tests.unit.data.builders import Case, jsonl_of
from tests.unit.data.sequences.test_series import SEQUENCE, csv_of, encode, number, rows_of

INPUTS = {"sequence": SEQUENCE, "target": "label"}
ROWS = rows_of(25, 30)


def reference(rows, window=4):
    """(numbers, codes, target) of every window, series by series, from plain dictionaries."""
    codes = {None: 0, "a": 1, "b": 2}
    found = []
    for shop in {row["shop"] for row in rows}:
        own = sorted((row for row in rows if row["shop"] == shop), key=lambda row: row["day"])
        for start in range(len(own) - window + 1):
            part = own[start : start + window]
            numbers = np.array([[number(row[name]) for name in ("sold", "rain", "price")] for row in part], np.float32)
            kinds = np.array([[codes[row["kind"]]] for row in part], np.int64)
            found.append((numbers.tobytes(), kinds.tobytes(), int(part[-1]["label"] == "up")))
    return sorted(found)


def samples(found):
    triples = zip(found["sequence"], found["categories"], found["target"].tolist(), strict=True)
    return sorted((numbers.tobytes(), codes.tobytes(), target) for numbers, codes, target in triples)


def parquet_of(rows, folder) -> bytes:
    lines, path = folder / "rows.jsonl", folder / "rows.parquet"
    lines.write_bytes(jsonl_of(rows))
    with duckdb.connect() as database:
        database.read_json(str(lines)).write_parquet(str(path), row_group_size=2048)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz", "jsonl.zst", "json", "several"])
def test_every_format_gives_the_windows_of_a_plain_loop(kind, tmp_path):
    rows = [dict(row) for row in ROWS]
    for row in rows[::17]:
        row["kind"] = None
    random.Random(1).shuffle(rows)
    files = {
        "csv": lambda: {"t.csv": csv_of(rows)},
        "jsonl": lambda: {"t.jsonl": jsonl_of(rows)},
        "parquet": lambda: {"t.parquet": parquet_of(rows, tmp_path)},
        "csv.gz": lambda: {"t.csv.gz": gzip.compress(csv_of(rows))},
        "jsonl.zst": lambda: {"t.jsonl.zst": zstandard.compress(jsonl_of(rows))},
        "json": lambda: {"t.json": b"[" + jsonl_of(rows).strip().replace(b"\n", b",") + b"]"},
        "several": lambda: {
            "a.csv": csv_of(rows[:99]),
            "b/c.jsonl": jsonl_of(rows[99:300]),
            "b/d.parquet": parquet_of(rows[300:], tmp_path),
        },
    }
    case = Case(files[kind](), **INPUTS)
    plan = case.plan()
    assert plan.spec.tensor_shapes() == {"sequence": (4, 3), "categories": (4, 1)}
    assert {column.name: column.role for column in plan.columns}["kind"] == "category"
    found, drops = encode(case)
    assert samples(found) == reference(rows) and not drops


def test_predict_gives_the_same_windows():
    case = Case({"t.csv": csv_of(ROWS)}, **INPUTS)
    found, _ = encode(case)
    own = sorted((row for row in ROWS if row["shop"] == "shop7"), key=lambda row: row["day"])
    encoded = case.plan().spec.encode_windows([{"rows": own[start : start + 4]} for start in range(27)])
    known = {(a.tobytes(), b.tobytes()) for a, b in zip(found["sequence"], found["categories"], strict=True)}
    assert {
        (a.tobytes(), b.tobytes()) for a, b in zip(encoded["sequence"], encoded["categories"], strict=True)
    } <= known
    strange = [{**row, "kind": "never seen"} for row in own[:4]]
    assert not case.plan().spec.encode_windows([{"rows": strange}])["categories"].any()
    with pytest.raises(BadTable, match="Instance 1, row 4, column 'kind'"):
        case.plan().spec.encode_windows([{"rows": [*own[:3], {"kind": ["a"]}]}])


def test_shards_statistics_and_report_know_the_categories():
    case = Case({"t.csv": csv_of(ROWS)}, **INPUTS)
    manifest = case.run()
    train = case.tensors(manifest, "train")
    assert train["categories"].dtype == np.int64 and train["categories"].shape[1:] == (4, 1)
    counts = np.bincount(train["categories"].ravel(), minlength=3)
    assert manifest.statistics.categories["kind"].counts == tuple(counts.tolist())
    assert manifest.statistics.categories["kind"].cardinality == 3
    (kind,) = [column for column in case.report.distributions if column.name == "kind"]
    assert kind.kind == "category" and {entry.value for entry in kind.top} == {"a", "b"}


def test_a_vocabulary_that_grows_changes_no_hash():
    few = encode(Case({"t.csv": csv_of(ROWS)}, **INPUTS))[0]
    more = [
        {**ROWS[0], "shop": f"new{shop}", "day": f"2027-01-{day:02d}", "kind": "A"}
        for shop in range(2)
        for day in range(1, 9)
    ]
    grown = encode(Case({"t.csv": csv_of([*ROWS, *more])}, **INPUTS))[0]
    assert set(map(bytes, few["row_hash"])) <= set(map(bytes, grown["row_hash"]))
    assert set(map(bytes, few["feature_hash"])) <= set(map(bytes, grown["feature_hash"]))


def test_windows_of_categories_alone():
    rows = [
        {
            "who": f"u{user}",
            "at": at,
            "event": random.Random(user * 100 + at).choice(["view", "cart", "buy"]),
            "label": "xy"[user % 2],
        }
        for user in range(24)
        for at in range(12)
    ]
    case = Case({"t.csv": csv_of(rows)}, sequence={"time": "at", "id": "who", "window": 5}, target="label")
    manifest = case.run()
    assert manifest.spec.tensor_shapes() == {"categories": (5, 1)} and not manifest.statistics.numbers
    assert set(case.tensors(manifest, "train")) == {"categories", "target"}
    user = [row for row in rows if row["who"] == "u3"]
    codes = {"buy": 1, "cart": 2, "view": 3}
    encoded = manifest.spec.encode_windows([{"rows": user}])
    assert list(encoded) == ["categories"] and encoded["categories"][0, :, 0].tolist() == [
        codes[row["event"]] for row in user[-5:]
    ]


def test_the_past_of_a_class_is_an_input_when_it_lies_ahead():
    case = Case({"t.csv": csv_of(ROWS)}, sequence=SEQUENCE | {"horizon": 1}, target="label")
    assert [column.name for column in category_columns(case.plan().spec)] == ["kind", "label"]
    found, _ = encode(case)
    # With one row ahead, the next window's last label is this window's target.
    assert found["categories"].shape[2] == 2 and set(np.unique(found["categories"][..., 1])) == {1, 2}


def test_the_settings_say_what_a_column_is():
    rows = [{**row, "store": index % 7} for index, row in enumerate(ROWS)]
    columns = {"store": {"type": "category"}, "kind": {"type": "ignore"}}
    spec = Case({"t.csv": csv_of(rows)}, columns=columns, **INPUTS).plan().spec
    assert [column.name for column in category_columns(spec)] == ["store"] and "kind" in spec.sequence.ignored
    hashed = Case({"t.csv": csv_of(rows)}, columns={"kind": {"buckets": 9}}, **INPUTS).plan().spec
    assert category_columns(hashed)[0].cardinality == 1 + 2 + 9
    texts = [{**row, "note": f"a note about shop {index} and nothing else"} for index, row in enumerate(ROWS)]
    plan = Case({"t.csv": csv_of(texts)}, **INPUTS).plan()
    assert "note" in plan.spec.sequence.ignored
    assert any(column.name == "note" and "type text" in column.reason for column in plan.columns)


def test_dates_alone_are_nothing_to_look_back_on():
    rows = [{"day": day, "seen": f"2026-01-{1 + day % 28:02d}", "label": "ab"[day % 2]} for day in range(60)]
    with pytest.raises(BadDataset, match="numbers or categories"):
        Case({"t.csv": csv_of(rows)}, sequence={"time": "day"}, target="label").plan()


def test_rows_that_differ_in_a_category_alone_are_no_duplicates():
    rows = [*ROWS, {**ROWS[0], "kind": "b" if ROWS[0]["kind"] == "a" else "a"}]
    assert encode(Case({"t.csv": csv_of(rows)}, **INPUTS))[1] == {}
    assert encode(Case({"t.csv": csv_of([*ROWS, ROWS[0]])}, **INPUTS))[1] == {"duplicate_row": 1}
