import csv
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal_core.data.tables import blocks, rows
from shoal_core.data.tables.blocks import read_blocks
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.reading import TableReader
from shoal_core.data.tables.rows import read_rows
from tests.support.plain_rows import frame_of_text

FORM = TableFormat(kind="csv", columns=("a", "b"))
ODD = "ab1,\"\n\r é\0;'"


def reference(data, form):
    """What the row reader says: good rows, bad rows, and where each ends."""
    good, bad = [], []
    for row in read_rows(io.BytesIO(data), "t", form):
        (bad if row.code else good).append(row)
    return good, bad


def read_all(data, form, size, by_python=False):
    """The same, block by block, by our reader of plain runs or by Python's."""
    good, bad, cuts, stop = [], [], [], 0
    for block in read_blocks(io.BytesIO(data), "t", form, block_bytes=size, step=1):
        assert block.start == stop
        stop = block.stop
        if by_python and block.text is not None:
            frame = frame_of_text(block.text, form, block.lines, block.bad)
        else:
            frame = TableReader().frame(block, form)
        cells = [frame.cells(name) for name in form.columns]
        for row, line in enumerate(frame.lines.tolist()):
            good.append((line, tuple(column.raw(row) or "" for column in cells)))
        bad += frame.bad
        cuts += block.cuts
    return good, bad, cuts


def assert_equal(data, form, size, by_python=False):
    good, bad = reference(data, form)
    found, found_bad, cuts = read_all(data, form, size, by_python)
    assert found == [(row.line, tuple(row.values.values())) for row in good]
    told = [(row.line, row.last_line, row.stop, row.code, row.reason, row.fix) for row in found_bad]
    assert told == [(row.line, row.last_line, row.stop, row.code, row.reason, row.fix) for row in bad]
    ends = {row.stop: row.last_line for row in (*good, *bad)}
    assert all(ends.get(stop, line) == line for stop, line in cuts)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=ODD, max_size=60), st.integers(1, 40))
@example('1,"x"y\n2,3\n', 100)
@example('"1\n2",3\n""x,4\n5,6', 12)
@example("1,2\r\n3\r,4\n5,6\n", 100)
@example('"","""x"""\n', 100)
def test_any_text_in_blocks_of_any_size_is_read_as_row_by_row(text, size):
    for by_python in (False, True):
        assert_equal(b"a,b\n" + text.encode(), FORM, size, by_python)


CELL = st.text(alphabet='ab1,;"\n é', max_size=6)
LINE = st.lists(CELL, min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=20), st.integers(1, 60), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"))
def test_well_formed_tables_with_ragged_rows(lines, size, end, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerows([["a", "b"], *lines])
    form = FORM.model_copy(update={"delimiter": delimiter})
    assert_equal(file.getvalue().encode(), form, size)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text(alphabet=ODD, max_size=30), max_size=6),
    st.lists(LINE, max_size=20),
    st.integers(20, 200),
)
def test_odd_lines_after_well_formed_ones(odd, lines, size):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["a", "b"], *lines])
    assert_equal((file.getvalue() + "\n".join(odd)).encode(), FORM, size)


def test_windows_text_in_blocks():
    form = FORM.model_copy(update={"encoding": "cp1252"})
    assert_equal("a,b\né,“x”\n\x81,2\n".encode("cp1252", "replace"), form, 10)
    assert_equal(b"a,b\n\x93x\x94,\x81\n", form, 100)


def test_bytes_that_are_not_utf_8_are_told():
    with pytest.raises(UnicodeDecodeError):
        list(read_blocks(io.BytesIO(b"a,b\n\xff,1\n"), "t", FORM))
    with pytest.raises(UnicodeDecodeError):
        list(read_blocks(io.BytesIO(b"a,b\n\xff,1,3\n1,2\n"), "t", FORM))


def test_cells_as_long_as_the_row_reader_takes():
    for length in (rows.MAX_CELL - 10, rows.MAX_CELL, rows.MAX_CELL + 1):
        assert_equal(b"a,b\n1,2\n" + b"x" * length + b",3\n4,5\n", FORM, 1 << 20)


def test_an_open_quote_costs_its_rows_and_no_more():
    data = b'a,b\n1,"open\n' + b"2,x\n" * 40_000 + b"3,y\n"
    assert_equal(data, FORM, 1 << 16)


def test_bad_rows_keep_their_bytes():
    for text in (b"a,b\n1\n2,3\n", b'a,b\n1\n2,x"y\n'):
        (block, *_) = read_blocks(io.BytesIO(text), "t", FORM)
        assert block.bad[0].raw == b"1\n"


def test_a_byte_order_mark_and_blank_lines():
    data = b"\xef\xbb\xbfa,b\n\n1,2\r\n\r\n3,4"
    assert_equal(data, FORM, 1 << 16)
    (block,) = read_blocks(io.BytesIO(data), "t", FORM)
    assert block.text == b"1,2\r\n3,4\n" and block.stop == len(data) and block.last_line == 5
    np.testing.assert_array_equal(block.lines, [3, 5])


def test_the_plain_run_is_where_the_speed_is(monkeypatch):
    """Rows of a plain table never go through the row reader, but for the end of the file."""
    taken = []
    monkeypatch.setattr(blocks, "read_rows", lambda *arguments: taken.append(arguments[3]) or iter(()))
    data = b"a,b\n" + b'1,"x ""y"""\n' * 1000
    assert sum(block.count for block in read_blocks(io.BytesIO(data), "t", FORM, block_bytes=4096)) == 1000
    assert taken == [len(data)]
