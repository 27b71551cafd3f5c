import datetime

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.tables import engine as engines
from shoal_core.data.tables.cells import NO_INSTANT
from shoal_core.data.tables.dates import parse_dates
from shoal_core.data.tables.engine import Engine
from shoal_core.data.tables.frames import ParsedFrame
from shoal_core.data.tables.parsing import parse_numbers

SQL = {
    "VARCHAR": st.text(max_size=6) | st.sampled_from(["x", "y", "a longer text than twelve bytes"]),
    "BIGINT": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
    "DOUBLE": st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.5]),
    "BOOLEAN": st.booleans(),
    "INTEGER[]": st.lists(st.integers(0, 3), max_size=2),
}


def parquet(folder, kind, values):
    path = folder / "t.parquet"
    with duckdb.connect() as database:
        database.execute(f"CREATE TABLE t (a {kind})")
        database.executemany("INSERT INTO t VALUES (?)", [[value] for value in values])
        database.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    return path


def read(kind, values, first=0, last=None):
    with Engine() as engine:
        path = parquet(engine.folder, kind, values)
        return engine.read_parquet(path, first, len(values) if last is None else last, 100)


@pytest.mark.parametrize("kind", SQL)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_columns_are_what_python_takes_their_values_for(kind, data):
    values = data.draw(st.lists(st.none() | SQL[kind], min_size=1, max_size=8))
    values = values * data.draw(st.sampled_from([1, 5]))
    frame, plain = read(kind, values), ParsedFrame({"a": values}, np.arange(len(values), dtype=np.int64))
    found, known = frame.cells("a"), plain.cells("a")
    rows = range(len(values))
    assert [repr(found.raw(row)) for row in rows] == [repr(known.raw(row)) for row in rows]
    if kind.endswith("[]"):
        return  # lists may be repeated
    one, other = frame.distinct("a"), plain.distinct("a")
    assert list(map(repr, one.values)) == list(map(repr, other.values))
    assert (one.counts.tolist(), one.firsts.tolist()) == (other.counts.tolist(), other.firsts.tolist())
    np.testing.assert_array_equal(parse_numbers(found.values)[0], parse_numbers(list(known.values))[0])


def test_a_range_of_rows_and_their_lines():
    frame = read("VARCHAR", [*"abcabcabc"], 2, 6)
    assert [frame.cells("a").raw(row) for row in range(4)] == [*"cabc"]
    assert frame.lines.tolist() == [103, 104, 105, 106]
    assert frame.cells("other").codes.tolist() == [-1] * 4


def test_instants_are_those_of_their_texts():
    moment = datetime.datetime(2026, 1, 31, 12, 30, 15, 123456)
    for kind, value in (("TIMESTAMP", moment), ("DATE", moment.date()), ("TIMESTAMP", datetime.datetime(1, 1, 1))):
        cells = read(kind, [value, None, value]).cells("a")
        assert cells.codes.tolist() == [0, -1, 0]
        found, wrong = parse_dates(cells.values)
        assert not wrong
        assert found.tolist() == parse_dates(list(cells.values))[0].tolist() != [int(NO_INSTANT)]


def test_texts_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(engines, "_hash", lambda column: f"hash(length({column}))")
    values = ["x", "y", None, "zz"] * 8
    cells = read("VARCHAR", values).cells("a")
    assert [cells.raw(row) for row in range(len(values))] == values


def test_the_database_sees_its_folder_alone(tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("a\n1\n")
    with Engine() as engine:
        folder = engine.folder
        with pytest.raises(duckdb.Error, match=r"(?i)permission"):
            engine.database.execute("SELECT * FROM read_csv(?)", [str(other)])
        with pytest.raises(duckdb.Error):
            engine.database.execute("SET enable_external_access = true")
    assert not folder.exists()
