import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.tables.formats import MAX_LINE_BYTES, read_header, read_rows, sniff_table
from shoal_core.data.tables.profiling import TableProfile, infer_table
from shoal_core.errors import BadConfig, BadDataset, BadTable


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter):
    data = f'a{delimiter}b c\n1{delimiter}"x,;{delimiter}y"\n'.encode()
    assert [row.values for row in rows_of(data)] == [{"a": "1", "b c": f"x,;{delimiter}y"}]


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
    assert found[0].code == "broken_quoting"
    assert found[-1].values == {"a": "3", "b": "y"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b"a\0b", "isn't text"),
        ("a,b".encode("utf-16"), "UTF-16"),
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


def profile(rows):
    found = TableProfile()
    for row in rows:
        found.add(row)
    return found


def infer(rows, target=None, task=None):
    return infer_table(profile(rows), "t.csv", target, task)


def column(name, values):
    return [{name: value} for value in values]


def merged(**columns):
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


BASE = {"x": [n * 0.5 for n in range(30)], "c": ["a", "b", "c"] * 10}


def test_column_types_and_what_is_dropped():
    found = infer(
        merged(
            **BASE,
            numberish=["7", "NA", "?", "1e3", "-2.5"] * 6,
            flag=["True", "false", "TRUE"] * 10,
            empty=["", None, "NaN"] * 10,
            same=["1"] * 30,
            name=[f"person {n}" for n in range(30)],
            id=list(range(1, 31)),
            nested=[[1]] * 30,
            y=["p", "q"] * 15,
        )
    )
    table = found.spec.table
    assert [each.name for each in table.numbers] == ["x", "numberish"]
    assert {each.name: each.categories for each in table.categories} == {
        "c": ("a", "b", "c"),
        "flag": ("false", "true"),
    }
    assert table.ignored == ("empty", "same", "name", "id", "nested")
    reasons = {each.name: each.reason for each in found.columns}
    assert "missing" in reasons["empty"] and "same value" in reasons["same"]
    assert "identifies rows" in reasons["name"] and "numbers the rows" in reasons["id"]
    assert {each.name: each.missing for each in found.columns}["numberish"] == 12


def test_few_wrong_values_leave_a_column_of_numbers():
    assert infer(merged(x=[*range(98), "oops", 99], y=[0, 1] * 50)).columns[0].type == "number"
    mixed = infer(merged(x=["1", "oops"] * 50, y=[0, 1] * 50))
    assert mixed.columns[0].type == "category"


def test_the_vocabulary_is_bounded():
    values = [f"v{n}" for n in range(1200) for _ in range(1 + (n < 500))] * 2
    found = infer(merged(c=values, y=[0, 1] * (len(values) // 2)))
    categories = found.spec.table.categories[0].categories
    assert len(categories) == 1000
    assert {f"v{n}" for n in range(500)} <= set(categories)
    assert "1,000" in found.warnings[0]


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (["Label", "a"], "Label"),
        (["y", "Class", "a"], "Class"),
        (["target", "label", "a"], "target"),
        (["b", "a"], "a"),
    ],
)
def test_the_target_is_found(names, target):
    rows = [{name: (n + place) % 3 for place, name in enumerate(names)} for n in range(30)]
    found = infer(rows)
    assert found.spec.target.column == target
    assert found.inferred == ("target", "task")


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["p", "q"] * 15, "classification", ("p", "q")),
        (["TRUE", "False"] * 15, "classification", ("false", "true")),
        ([10.0, 9, "1"] * 10, "classification", ("1", "9", "10")),
        (list(range(30)), "regression", ()),
        ([0.5, 1.5, 2.5] * 10, "regression", ()),
    ],
)
def test_the_task_is_inferred(values, task, classes):
    target = infer(merged(x=BASE["x"], y=values)).spec.target
    assert (target.task, target.classes) == (task, classes)


def test_whole_numbers_can_be_a_regression_when_asked():
    assert infer(merged(x=BASE["x"], y=[1, 2, 3] * 10), task="regression").spec.target.classes == ()


@pytest.mark.parametrize(
    ("columns", "target", "task", "error", "reason", "fix"),
    [
        (BASE, "price", None, BadDataset, "no column 'price'", "'x', 'c'"),
        (BASE, "c", "regression", BadConfig, "texts such as 'a'", "task: classification"),
        ({**BASE, "y": [0, 1] * 15}, "y", "regression", BadConfig, "only 2 classes: 0, 1", "task: classification"),
        ({**BASE, "y": ["p"] * 30}, "y", None, BadDataset, "same value 'p'", "another class"),
        ({**BASE, "y": [""] * 30}, "y", None, BadDataset, "missing", "target"),
        ({**BASE, "y": [[1]] * 30}, "y", None, BadDataset, "lists", "target"),
        ({**BASE, "y": [f"id{n}" for n in range(30)]}, None, None, BadDataset, "30 different values", "target"),
        ({"y": [0, 1] * 15}, None, None, BadDataset, "no column to learn from", "Add columns"),
        ({"k": [1] * 30, "y": [0, 1] * 15}, None, None, BadDataset, "no column to learn from", "vary"),
    ],
)
def test_a_target_that_cannot_be_learnt(columns, target, task, error, reason, fix):
    with pytest.raises(error) as caught:
        infer(merged(**columns), target, task)
    assert reason in caught.value.reason and fix in caught.value.fix


def test_no_rows():
    with pytest.raises(BadDataset, match="no rows"):
        infer([])
