import contextlib
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.packed import Window, _json_lines, plain_chunks
from shoal_core.data.tables.thrift import BINARY, DOUBLE, I32, I64, LIST, STRUCT, TRUE, CompactReader, write_struct
from shoal_core.errors import BadTable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.lists(JSON, max_size=8), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_an_array_becomes_one_line_per_item_whatever_the_chunks(items, size, indent, closed):
    text = json.dumps(items, indent=indent) if closed else "\n".join(json.dumps(item, indent=indent) for item in items)
    if not closed and items and isinstance(items[0], list):
        return
    chunks = (text[start : start + size] for start in range(0, len(text), size))
    lines = list(_json_lines(chunks, "t.json"))
    assert [json.loads(line) for line in lines] == items and all(line.count(b"\n") == 1 for line in lines)


@pytest.mark.parametrize("text", ["[1 2]", "[1,", '[{"a": 1}', '[{"a": }]', '{"a": 1} x'])
def test_json_that_breaks_off(text):
    form = TableFormat(kind="json")
    with pytest.raises(BadTable, match=r"'t.json': row \d can't be read as JSON"):
        list(plain_chunks(io.BytesIO(text.encode()), "t.json", form))


@settings(max_examples=100)
@given(st.binary(max_size=60), st.integers(1, 9), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20))))
def test_a_window_reads_as_a_file_does(data, size, reads):
    window, file = Window(data[start : start + size] for start in range(0, len(data), size)), io.BytesIO(data)
    kept = 0
    for place, count in reads:
        kept = max(kept, min(place, len(data)) // 2)
        window.keep_from(kept)
        for stream in (window, file):
            stream.seek(max(place, kept))
        assert window.read(count) == file.read(count)
        for stream in (window, file):
            stream.seek(max(place, kept))
        assert window.readline(count) == file.readline(count)
    window.seek(kept)
    file.seek(kept)
    assert window.read() == file.read()
    if kept:
        with pytest.raises(OSError, match="is gone"):
            window.seek(kept - 1)


FIELDS = st.dictionaries(
    st.integers(1, 40),
    st.tuples(st.just(I64), st.integers(-(2**62), 2**62))
    | st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1))
    | st.tuples(st.just(BINARY), st.binary(max_size=20))
    | st.tuples(st.just(DOUBLE), st.floats(allow_nan=False))
    | st.tuples(st.just(TRUE), st.just(True))
    | st.tuples(st.just(LIST), st.tuples(st.just(I64), st.lists(st.integers(-9, 9), max_size=20))),
)


@given(st.lists(FIELDS, max_size=3), FIELDS)
def test_a_struct_is_written_as_it_was_read(inner, outer):
    whole = {**outer, 41: (LIST, (STRUCT, inner))}
    assert CompactReader(write_struct(whole)).read_struct() == whole


@given(st.binary(max_size=40))
def test_bytes_that_are_no_struct_are_refused(data):
    with contextlib.suppress(ValueError, IndexError):
        CompactReader(data).read_struct()
