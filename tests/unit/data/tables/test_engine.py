import csv
import io

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal_core.data.spec import DateColumn
from shoal_core.data.tables.columns import instants_of, meaning_digests, numbers_of
from shoal_core.data.tables.engine import Engine
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.frames import frame_of_text

FORM = TableFormat(kind="csv", columns=("a", "b"))
NUMBERS = [
    *("1", "-0", "0", " 7 ", "1.", ".5", "+5", "1e5", "1E-7", "1e999", "-1e39", "3.4028235e38", "3.5e38", "1e-400"),
    *("1_000", "1__0", "_1", "1e0_1", "0x1F", "inf", "-Infinity", "nan", "NaN", "NA", "?", "true", "1d", "1,000"),
    *("١", "1\u00a0", "\t1", "1e", "--1", "$1", "9007199254740993", "123456789012345678901234567890", "0.1", "5e-324"),
]
DATES = [
    *(
        "2026-01-31",
        "2026-01-31T12:30:00Z",
        "2026-01-31 12:30",
        "2026-01-31T12:30:15.123456",
        "2026-1-31",
        "2026/01/31",
    ),
    *("2026-02-30", "2026-01-31T24:00:00", "2026-01-31T23:59:60", "0000-01-01", "0001-01-01", "9999-12-31T23:59:59Z"),
    *("2026-01-31T12:30:00+02:00", "2026-01-31T12:30:00.1234567", "2026-01-31 ", "2026-01-31T12", "1969-12-31ZZ"),
    *("1900-02-29", "2000-02-29", "2026-01-31T12:30:00.5z", "2026-01-31Z", "31/1/2026"),
]
NUMBER = (
    st.sampled_from(NUMBERS) | st.floats().map(repr) | st.integers().map(str) | st.text("0123456789.-+e_ ", max_size=8)
)
DATE = st.sampled_from(DATES) | st.datetimes().map(str) | st.dates().map(str) | st.text("0123456789-:TZ .", max_size=20)


def both(values):
    """The two frames of one column, by DuckDB and by Python."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([value, "x"] for value in values)
    text, lines = file.getvalue().encode(), np.arange(len(values), dtype=np.int64)
    engine = Engine()
    found = engine.read_csv(text, FORM, lines)
    assert found is not None
    return engine, found, frame_of_text(text, FORM, lines)


def problems(cells, wrong):
    return {row: wrong[code] for row, code in enumerate(cells.codes.tolist()) if code in wrong}


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBER, min_size=1, max_size=30))
@example(NUMBERS)
def test_numbers_are_what_python_takes_them_for(values):
    engine, fast, plain = both(values)
    with engine:
        wrong, right = {}, {}
        found, known = fast.cells("a", "number"), plain.cells("a")
        np.testing.assert_array_equal(numbers_of(found, wrong), numbers_of(known, right))
        assert problems(found, wrong) == problems(known, right)
        np.testing.assert_array_equal(meaning_digests(found), meaning_digests(known))


@settings(max_examples=60, deadline=None)
@given(st.lists(DATE, min_size=1, max_size=30))
@example(DATES)
def test_dates_are_what_python_takes_them_for(values):
    column = DateColumn(name="a", features=("elapsed",))
    engine, fast, plain = both(values)
    with engine:
        wrong, right = {}, {}
        found, known = fast.cells("a", "date"), plain.cells("a")
        np.testing.assert_array_equal(instants_of(column, found, wrong), instants_of(column, known, right))
        assert problems(found, wrong) == problems(known, right)


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBER | DATE | st.text('ab,"\n é', max_size=5), min_size=1, max_size=60))
@example(["x"] * 40 + ["y"] * 30)
def test_raw_values_are_the_texts(values):
    engine, fast, plain = both(values)
    with engine:
        found, known = fast.cells("a"), plain.cells("a")
        rows = range(len(values))
        assert [found.raw(row) or "" for row in rows] == [known.raw(row) for row in rows]
        np.testing.assert_array_equal(meaning_digests(found), meaning_digests(known))
        for some in (None, len(values) // 2):
            one, other = fast.distinct("a", some), plain.distinct("a", some)
            # An empty cell is no value for DuckDB, and a missing one for `parse_text`.
            told = zip(other.values, other.counts.tolist(), other.firsts.tolist(), strict=True)
            assert list(zip(one.values, one.counts.tolist(), one.firsts.tolist(), strict=True)) == [
                each for each in told if each[0] != ""
            ]


def test_pairs_and_equal_columns():
    engine, fast, plain = both(["x", "y", "x"])
    with engine:
        for frame in (fast, plain):
            assert frame.pairs("a", "b", None, 10) == {("x", "x"), ("y", "x")}
            assert frame.pairs("a", "b", 1, 10) == {("x", "x")}
            prints = frame.fingerprints(["a", "b"])
            assert prints["a"] != prints["b"]
        again = fast.fingerprints(["a", "b"])
        assert again == fast.fingerprints(["a", "b"])


def test_columns_that_a_file_has_not_are_missing():
    engine, fast, plain = both(["x", "y"])
    with engine:
        for frame in (fast, plain):
            assert frame.cells("other").codes.tolist() == [-1, -1]


def test_the_database_sees_its_folder_alone(tmp_path):
    import duckdb
    import pytest

    other = tmp_path / "other.csv"
    other.write_text("a\n1\n")
    with Engine() as engine:
        folder = engine.folder
        with pytest.raises(duckdb.Error, match=r"(?i)permission"):
            engine.database.execute("SELECT * FROM read_csv(?)", [str(other)])
        with pytest.raises(duckdb.Error):
            engine.database.execute("SET enable_external_access = true")
    assert not folder.exists()
