import csv
import io

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal_core.data.tables.blocks import Block
from shoal_core.data.tables.cells import NO_INSTANT
from shoal_core.data.tables.columns import meaning_digests
from shoal_core.data.tables.dates import parse_date, parse_dates
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.parsing import parse_numbers
from shoal_core.data.tables.plain import PlainFrame
from shoal_core.data.values import parse_number
from tests.support.plain_rows import frame_of_text

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
    """The two frames of one column, by places and by Python's csv module."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([value, "x"] for value in values)
    text, lines = file.getvalue().encode(), np.arange(len(values), dtype=np.int64)
    return PlainFrame(Block(0, len(text), 0, 0, lines, text=text), FORM), frame_of_text(text, FORM, lines)


def one_by_one(values, parse, missing):
    """What a parser of single cells gives."""
    found, wrong = [], {}
    for place, value in enumerate(values):
        try:
            parsed = parse(value)
        except ValueError as error:
            wrong[place], parsed = str(error), None
        found.append(missing if parsed is None else parsed)
    return found, wrong


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBER | st.floats() | st.integers() | st.booleans() | st.none(), min_size=1, max_size=30))
@example(NUMBERS)
@example(["1", "2.5", "-0"])
@example(["1", "x", "2"])
def test_many_numbers_are_what_one_is(values):
    expected, wrong = one_by_one(values, parse_number, np.nan)
    found, told = parse_numbers(values)
    np.testing.assert_array_equal(found, np.array(expected, np.float64))
    assert not np.signbit(found[found == 0]).any()
    assert told == wrong


@settings(max_examples=150, deadline=None)
@given(st.lists(DATE, min_size=1, max_size=60), st.sampled_from([None, "day", "month"]))
@example(DATES * 16, None)
@example(["2026-01-31T12:30:00.123Z"] * 20, None)
def test_many_dates_are_what_one_is(values, order):
    expected, wrong = one_by_one(values, lambda value: parse_date(value, order), NO_INSTANT)
    found, told = parse_dates(values, order)
    assert found.tolist() == expected
    assert told == wrong


@settings(max_examples=100, deadline=None)
@given(st.lists(NUMBER | st.floats(), min_size=1, max_size=20), st.sampled_from(["s", "ms", "us", "ns"]))
@example(["0.0000005", "0.0000015", "1e30", "x", ""], "s")
def test_many_counts_since_1970_are_what_one_is(values, unit):
    expected, wrong = one_by_one(values, lambda value: parse_date(value, None, unit), NO_INSTANT)
    found, told = parse_dates(values, None, unit)
    assert found.tolist() == expected
    assert told == wrong


LONG = st.integers(7, 70).map(lambda size: "x" * size)


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBER | DATE | LONG | st.text('ab,"\n é', max_size=5), min_size=1, max_size=60))
@example(["x"] * 40 + ["y"] * 30)
@example(["x" * 32, "x" * 33, 'a"b', "", "x" * 32, 'a"b', "x" * 33])
def test_raw_values_are_the_texts(values):
    fast, plain = both(values)
    found, known = fast.cells("a"), plain.cells("a")
    rows = range(len(values))
    assert [found.raw(row) or "" for row in rows] == [known.raw(row) for row in rows]
    np.testing.assert_array_equal(meaning_digests(found).rows(), meaning_digests(known).rows())
    for some in (None, len(values) // 2):
        one, other = fast.distinct("a", some), plain.distinct("a", some)
        # An empty cell is a missing one.
        told = zip(other.values, other.counts.tolist(), other.firsts.tolist(), strict=True)
        assert list(zip(one.values, one.counts.tolist(), one.firsts.tolist(), strict=True)) == [
            each for each in told if each[0] != ""
        ]


def test_pairs_and_equal_columns():
    for frame in both(["x", "y", "x"]):
        assert frame.pairs("a", "b", None, 10) == {("x", "x"), ("y", "x")}
        assert frame.pairs("a", "b", 1, 10) == {("x", "x")}
        assert len(frame.pairs("a", "b", None, 0)) == 1
        prints = frame.fingerprints(["a", "b"])
        assert prints["a"] != prints["b"]
        assert prints == frame.fingerprints(["a", "b"])
    frame = both(["x", "x"])[0]
    assert len({id(print) for print in frame.fingerprints(["a", "b"]).values()}) == 2
    assert frame.fingerprints(["a"])["a"] == frame.fingerprints(["b"])["b"]


def test_columns_that_a_file_has_not_are_missing():
    for frame in both(["x", "y"]):
        assert frame.cells("other").codes.tolist() == [-1, -1]
