import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.tables.formats import MAX_LINE_BYTES, sniff_table
from shoal_core.data.tables.rows import read_header, read_rows
from shoal_core.errors import BadTable


def opened(data: bytes, name: str = "t.csv"):
    stream = io.BytesIO(data)
    form = sniff_table(stream, name)
    try:
        return stream, read_header(stream, name, form)
    except UnicodeDecodeError:
        form = form.model_copy(update={"encoding": "cp1252"})
        return stream, read_header(stream, name, form)


def rows_of(data: bytes, name: str = "t.csv"):
    stream, form = opened(data, name)
    return list(read_rows(stream, name, form))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "~", "\x01", "\x1f", ":"])
def test_delimiters(delimiter):
    data = f'a{delimiter}b c\n1{delimiter}"x,;{delimiter}y"\n'.encode()
    assert [row.values for row in rows_of(data)] == [{"a": "1", "b c": f"x,;{delimiter}y"}]


def test_spaces_delimit_only_when_nothing_else_does():
    assert opened(b"a b c\n1 2 3\n4 5 6\n")[1].delimiter == " "
    assert opened(b"a,b c d\n1,x y z\n")[1].delimiter == ","
    assert opened(b"only\none cell\nand more of it\n")[1].delimiter == ","


def test_single_quotes():
    assert [row.values for row in rows_of(b"'a','b'\n'1','it''s, so'\n")] == [{"a": "1", "b": "it's, so"}]


def test_quotes_line_breaks_blank_lines_and_a_byte_order_mark():
    data = b'\xef\xbb\xbfa,b\r\n"1\n\n2","say ""hi"""\r\n\r\n3,4'
    found = rows_of(data)
    assert [row.values for row in found] == [{"a": "1\n\n2", "b": 'say "hi"'}, {"a": "3", "b": "4"}]
    assert [(row.line, row.last_line) for row in found] == [(2, 4), (6, 6)]
    assert found[-1].stop == len(data)


def test_old_line_breaks():
    assert [row.values["b"] for row in rows_of(b"a,b\r1,2\r3,4\r")] == ["2", "4"]


def test_windows_text():
    assert rows_of("größe,b\n1,é\n".encode("cp1252"))[0].values == {"größe": "1", "b": "é"}


def test_ragged_rows_are_told_with_their_line():
    found = rows_of(b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert [(row.line, row.code) for row in found] == [(2, ""), (3, "ragged_row"), (4, "ragged_row"), (5, "")]
    assert "1 cells, the header has 2" in found[1].reason


def test_an_open_quote_costs_its_rows_and_no_more():
    data = b'a,b\n1,"open\n' + b"2,x\n" * 40_000 + b"3,y\n"
    found = rows_of(data)
    assert found[0].code == "long_cell" and "a quote is never closed" in found[0].reason
    assert found[-1].values == {"a": "3", "b": "y"}


def test_a_long_text_isnt_called_broken_quoting():
    long, fitting, broken = rows_of(b'a,b\n1,"' + b"x" * 131_073 + b'"\n1,"' + b"x" * 131_072 + b'"\n1,x\ry\n')
    assert (long.code, fitting.code, broken.code) == ("long_cell", "", "broken_quoting")
    assert "more than 131,072 characters" in long.reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b"a\0b", "isn't text"),
        (b"\xff\xfea\x00\x00\xdc,\x00", "isn't the UTF-16 text"),
        (b"1,2\n3,4\n", "no header row"),
        (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", "no header row"),
        (b"a,b,a\n1,2,3\n", "two columns named 'a'"),
        (b",a,b\n0,1,2\n", "column 1 of the header has no name"),
    ],
)
def test_a_bad_header(data, words):
    with pytest.raises(BadTable, match=words) as caught:
        rows_of(data)
    assert "t.csv" in caught.value.reason and caught.value.fix


def test_a_line_without_end():
    with pytest.raises(BadTable, match="line 2 has more than"):
        rows_of(b"a,b\n" + b"x" * (MAX_LINE_BYTES + 2))


def test_json_lines():
    data = b'{"a": 1}\n\n[1]\n{"a": \n{"a": null, "b": "\\ud800"}\n3\n' + b"[" * 100_000
    assert [(row.line, row.code) for row in rows_of(data, "t.jsonl")] == [
        (1, ""),
        (3, "not_an_object"),
        (4, "bad_json"),
        (5, ""),
        (6, "not_an_object"),
        (7, "bad_json"),
    ]


CELL = st.text(alphabet='ab1,;"\n \r|é', max_size=8)


@settings(max_examples=60)
@given(st.lists(st.tuples(CELL, CELL), max_size=12), st.data())
def test_cut_anywhere_between_rows_the_rows_are_the_same(cells, draw):
    quoted = ['"' + cell.replace('"', '""') + '"' for pair in cells for cell in pair]
    lines = ["a,b", *(f"{left},{right}" for left, right in zip(quoted[::2], quoted[1::2], strict=True))]
    data = "\n".join(lines).encode() + b"\n"
    stream, form = opened(data)
    whole = list(read_rows(stream, "t", form))
    assert [tuple(row.values.values()) for row in whole] == cells
    cut = draw.draw(st.sampled_from([0, *(row.stop for row in whole)]))
    line = next((row.last_line for row in whole if row.stop == cut), 0)
    head = list(read_rows(stream, "t", form, 0, cut)) if cut else []
    assert head + list(read_rows(stream, "t", form, cut, None, line)) == whole
