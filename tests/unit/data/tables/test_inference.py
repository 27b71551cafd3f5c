import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.data.tables.inference import infer_table
from shoal_core.data.tables.profiling import TableProfile
from shoal_core.errors import BadConfig, BadDataset


def profile(rows, target=None, texts=()):
    found = TableProfile(texts=frozenset(texts), target=target)
    found.add_rows(rows)
    return found


def infer(rows, target=None, task=None, **config):
    texts = [name for name, column in config.get("columns", {}).items() if column.get("type") == "text"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    known = target if target in names else None
    asked = DatasetConfig.model_validate({"target": target, "task": task, **config})
    return infer_table(profile(rows, known, texts), "t.csv", asked)


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
        ({**BASE, "y": [[1]] * 30}, "y", None, BadDataset, "one label '1'", "other labels"),
        ({**BASE, "y": [{"k": 1}] * 30}, "y", None, BadDataset, "lists", "target"),
        ({**BASE, "y": [[1], [2]] * 15}, "y", "classification", BadDataset, "lists", "target"),
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


def roles(found):
    return {column.name: column.role for column in found.columns}


def test_columns_that_give_the_target_away():
    y = ["p", "q", "r"] * 10
    found = infer(merged(**BASE, again=y, code=[{"p": 1, "q": 2, "r": 3}[value] for value in y], y=y), target="y")
    assert roles(found)["again"] == "dropped" and roles(found)["code"] == "number"
    assert "equals the target" in next(column.reason for column in found.columns if column.name == "again")
    # `c` goes a, b, c with every p, q, r: it determines the target just as well.
    assert [warning.split("'")[1] for warning in found.warnings] == ["c", "code"]
    assert all("determines the target 'y'" in warning for warning in found.warnings)


def test_two_equal_columns_are_told():
    found = infer(merged(**BASE, twin=BASE["x"], y=["p", "q"] * 15))
    assert "Column 'twin' equals column 'x' in every row; one is enough." in found.warnings
    assert roles(found)["twin"] == "number"


def test_dates_become_what_varies():
    days = [f"2026-{1 + n % 12:02d}-{1 + n % 28:02d}" for n in range(30)]
    hours = [f"2026-05-05T{n % 24:02d}:30:00Z" for n in range(30)]
    found = infer(merged(day=days, hour=hours, y=["p", "q"] * 15)).spec.table
    assert {column.name: column.features for column in found.dates} == {
        "day": ("elapsed", "weekday", "day", "month"),
        "hour": ("elapsed", "hour"),
    }
    assert found.number_names[:3] == ("day.elapsed", "day.weekday_sin", "day.weekday_cos")


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (["31/1/2026", "1/2/2026", "5/6/2026"], "day"),
        (["1/31/2026", "2/1/2026", "5/6/2026"], "month"),
        (["31.01.2026", "01.02.2026", "05.06.2026"], "day"),
    ],
)
def test_slashed_dates_when_the_column_tells_the_order(values, order):
    (column,) = infer(merged(when=values * 10, y=["p", "q"] * 15)).spec.table.dates
    assert column.order == order


@pytest.mark.parametrize("values", [["1/2/2026", "3/4/2026", "5/6/2026"], ["31/1/2026", "1/31/2026", "5/6/2026"]])
def test_ambiguous_dates_are_categories_with_a_warning(values):
    found = infer(merged(when=values * 10, y=["p", "q"] * 15))
    assert roles(found)["when"] == "category" and "day first or month first" in found.warnings[0]
    with pytest.raises(BadConfig, match="day first or month first"):
        infer(merged(when=values * 10, y=["p", "q"] * 15), columns={"when": {"type": "date"}})


def test_numbers_can_be_dates_when_asked():
    rows = merged(at=[1_700_000_000_000 + n * 3_600_000 for n in range(30)], y=["p", "q"] * 15)
    (column,) = infer(rows, columns={"at": {"type": "date"}}).spec.table.dates
    assert column.unit == "ms" and "hour" in column.features
    assert roles(infer(rows))["at"] == "number"


def test_free_texts_are_texts_and_names_are_dropped():
    notes = [f"this is note number {n} about some thing" for n in range(30)]
    found = infer(merged(note=notes, name=[f"person {n}" for n in range(30)], y=["p", "q"] * 15))
    assert roles(found) == {"note": "text", "name": "dropped", "y": "target"}
    (column,) = found.spec.table.texts
    assert {"this", "note", "about"} <= set(column.vocabulary)
    few = ["one of only three long answers", "another of only three long answers", "the last of the three answers"]
    assert roles(infer(merged(c=few * 10, y=["p", "q"] * 15)))["c"] == "category"
    assert roles(infer(merged(c=few * 10, y=["p", "q"] * 15), columns={"c": {"type": "text"}}))["c"] == "text"


def test_many_values_beyond_the_vocabulary_are_hashed():
    values = [f"user {n % 2500}" for n in range(7500)]
    found = infer(merged(user=values, y=["p", "q"] * 3750))
    (column,) = found.spec.table.categories
    assert len(column.categories) == 1000 and column.buckets == 1000
    assert "hashed buckets" in found.warnings[0]
    (column,) = infer(merged(user=values, y=["p", "q"] * 3750), columns={"user": {"buckets": 16}}).spec.table.categories
    assert column.buckets == 16


def test_settings_go_over_what_is_inferred():
    rows = merged(**BASE, code=[n % 7 for n in range(30)], id=list(range(30)), y=["p", "q"] * 15)
    columns = {"code": {"type": "category"}, "x": {"type": "ignore"}, "id": {"type": "number"}}
    found = infer(rows, columns=columns)
    assert roles(found) == {"x": "dropped", "c": "category", "code": "category", "id": "number", "y": "target"}
    assert {column.name: column.kind for column in found.spec.table.categories}["code"] == "number"


def test_several_labels_by_a_separator():
    rows = merged(x=BASE["x"], y=["a;b", "b", "c; a"] * 10)
    target = infer(rows, task="multilabel").spec.target
    assert (target.task, target.classes, target.separator) == ("multilabel", ("a", "b", "c"), ";")
    assert infer(rows, task="multilabel", separator="; ").spec.target.classes == ("a", "a;b", "b", "c")
    assert infer(rows).spec.target.task == "classification"
