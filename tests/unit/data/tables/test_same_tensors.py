"""One table in every format, and as predict's rows: the same tensors, hashes and splits."""

import csv
import datetime
import gzip
import io
import json

import duckdb
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.report import DropTally
from shoal_core.data.requests import read_request
from shoal_core.data.samples import encode_item
from tests.unit.data.builders import KEYS, Case

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "said", "nothing")


def rows_of(count, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        when = datetime.datetime(2026, 1, 1) + datetime.timedelta(minutes=int(random.integers(500_000)))
        rows.append(
            {
                "size": None if index % 7 == 3 else float(np.round(random.normal(), 4)),
                "count": int(random.integers(-5, 1000)),
                "colour": None if index % 11 == 5 else ["red", "gr, een", 'b"l\nue', "žluť"][int(random.integers(4))],
                "user": f"u{int(random.integers(5000))}",
                "flag": bool(random.integers(2)),
                "day": when.date().isoformat(),
                "at": when.isoformat(),
                "note": " ".join(random.choice(WORDS, int(random.integers(4, 12)))),
                "kind": ["p", "q", "r"][index % 3],
            }
        )
    return rows


def csv_bytes(rows, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def jsonl_bytes(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TYPES = (
    "size DOUBLE, count BIGINT, colour VARCHAR, user VARCHAR, flag BOOLEAN, day DATE, at TIMESTAMP, note VARCHAR, "
    "kind VARCHAR"
)


def parquet_bytes(rows, path, types=TYPES, group=2048):
    with duckdb.connect() as database:
        names = ", ".join(f'"{part.split()[0]}" {part.split(maxsplit=1)[1]}' for part in types.split(", "))
        database.execute(f"CREATE TABLE t ({names})")
        marks = ", ".join("?" * len(rows[0]))
        statement = f"INSERT INTO t VALUES ({marks})"  # noqa: S608 - question marks only
        database.executemany(statement, [[*row.values()] for row in rows])
        database.table("t").write_parquet(str(path), row_group_size=group)
    return path.read_bytes()


def encoded(files, **config):
    """All work items of an upload, one after the other, with what was dropped."""
    case = Case(files, **config)
    plan = case.plan()
    drops = DropTally()
    request = read_request(case.artifacts, KEYS)
    parts = [encode_item(case.uploads, case.artifacts, request, plan, item, drops) for item in range(len(plan.items))]
    known = [part for part in parts if part is not None]
    return plan, {name: np.concatenate([part[name] for part in known]) for name in known[0]}, drops.total()


SETTINGS = {"target": "kind", "text": {"length": 8}, "columns": {"user": {"buckets": 64}}}
FORMATS = {
    "t.csv": csv_bytes,
    "t.tsv": lambda rows: csv_bytes(rows, "\t"),
    "semicolons.csv": lambda rows: csv_bytes(rows, ";"),
    "mark.csv": lambda rows: b"\xef\xbb\xbf" + csv_bytes(rows),
    "wide.csv": lambda rows: csv_bytes(rows).decode().encode("utf-16"),
    "t.csv.gz": lambda rows: gzip.compress(csv_bytes(rows)),
    "two.csv.gz": lambda rows: gzip.compress(csv_bytes(rows)[:999]) + gzip.compress(csv_bytes(rows)[999:]),
    "t.csv.zst": lambda rows: zstandard.compress(csv_bytes(rows)),
    "t.jsonl": jsonl_bytes,
    "t.ndjson.gz": lambda rows: gzip.compress(jsonl_bytes(rows)),
    "t.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "t.json.zst": lambda rows: zstandard.compress(json.dumps(rows).encode()),
    "t.parquet": None,
}
ROWS = rows_of(400)


@pytest.fixture(scope="module")
def reference():
    return encoded({"t.csv": csv_bytes(ROWS)}, **SETTINGS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same(name, reference, tmp_path):
    make = FORMATS[name]
    data = parquet_bytes(ROWS, tmp_path / "t.parquet") if make is None else make(ROWS)
    plan, tensors, drops = encoded({name: data}, **SETTINGS)
    expected_plan, expected, _ = reference
    assert plan.spec == expected_plan.spec
    assert [(c.name, c.role, c.type, c.missing, c.distinct) for c in plan.columns] == [
        (c.name, c.role, c.type, c.missing, c.distinct) for c in expected_plan.columns
    ]
    assert not drops.counts
    for key, array in expected.items():
        if key != "place":
            np.testing.assert_array_equal(tensors[key], array, err_msg=key)


def test_the_roles_of_the_table(reference):
    plan, tensors, _ = reference
    table = plan.spec.table
    assert [column.name for column in table.numbers] == ["size", "count"]
    assert [column.name for column in table.dates] == ["day", "at"]
    assert [column.name for column in table.categories] == ["colour", "user", "flag"]
    assert [column.name for column in table.texts] == ["note"]
    assert tensors["numbers"].shape == (400, len(table.number_names)) and tensors["tokens"].shape == (400, 8)


def test_predict_sees_what_training_saw(reference):
    plan, tensors, _ = reference
    texts = list(csv.DictReader(io.StringIO(csv_bytes(ROWS).decode())))
    for rows in (ROWS, texts):
        found = plan.spec.encode_rows([{name: row[name] for name in row} for row in rows])
        for key, array in found.items():
            np.testing.assert_array_equal(array, tensors[key], err_msg=key)


VALUES = st.fixed_dictionaries(
    {
        "size": st.none() | st.floats(-1e9, 1e9, allow_subnormal=False),
        "count": st.integers(-(2**53), 2**53),
        "colour": st.none() | st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=5),
        "flag": st.none() | st.booleans(),
        "day": st.none() | st.dates(datetime.date(1, 1, 2)).map(str),
        "at": st.none() | st.datetimes(datetime.datetime(1, 1, 2)).map(lambda value: value.isoformat()),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=12))
def test_any_values_in_any_format(tmp_path_factory, rows):
    plan, _, _ = encoded({"t.csv": csv_bytes(ROWS)}, **SETTINGS)
    full = [{**dict.fromkeys(ROWS[0]), **row, "kind": "p"} for row in rows]
    expected = plan.spec.encode_rows([{name: value for name, value in row.items() if name != "kind"} for row in full])
    files = {
        "t.csv": csv_bytes(full),
        "t.jsonl": jsonl_bytes(full),
        "t.json": json.dumps(full).encode(),
        "t.parquet": parquet_bytes(full, tmp_path_factory.mktemp("p") / "t.parquet"),
    }
    hashes = []
    for name, data in files.items():
        tensors = encode_with(plan, name, data)
        for key, array in expected.items():
            np.testing.assert_array_equal(tensors[key], array, err_msg=f"{name} {key}")
        hashes.append(tensors["feature_hash"].tobytes())
    assert len(set(hashes)) == 1


def encode_with(plan, name, data):
    """Encode a whole file by the spec of another plan."""
    from shoal_core.data.plan import RowGroupSlice, TableFile, TableSlice
    from shoal_core.data.tables.encoding import encode_table
    from shoal_core.data.tables.packed import plain_chunks
    from shoal_core.data.tables.scanning import plain_form, sniff_source

    case = Case({name: data})
    source = read_request(case.artifacts, KEYS).files[0]
    form = sniff_source(case.uploads, source, name)
    item = RowGroupSlice(first=0, last=1, row=0)
    if form.kind != "parquet":
        block = None
        if not form.divisible:
            data = b"".join(plain_chunks(io.BytesIO(data), name, form))
            case.artifacts.write(KEYS.block(0), data)
            block, form = 0, plain_form(form)
        item = TableSlice(block=block, start=0, stop=len(data), line=0)
    changed = {"source": source, "table": form, "formats": (form,), "tables": (TableFile(name=name, form=0),)}
    found = encode_table(case.uploads, case.artifacts, plan.model_copy(update=changed), item, DropTally())
    assert found is not None
    return found
