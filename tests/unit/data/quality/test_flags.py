import numpy as np

from shoal_core.data.quality.flags import find_flags
from shoal_core.data.report import ColumnReport
from shoal_core.data.spec import CategoryColumn, NumberColumn, PreprocessingSpec, TableInput, TargetSpec


def flags(numbers, target, categories=None, task="classification", columns=()):
    spec = PreprocessingSpec(
        kind="table",
        table=TableInput(
            numbers=tuple(NumberColumn(name=f"n{index}") for index in range(len(numbers))),
            categories=(CategoryColumn(name="c", categories=("a", "b")),) if categories is not None else (),
        ),
        target=TargetSpec(task=task, column="y", classes=("0", "1") if task == "classification" else ()),
    )
    tensors = {"numbers": np.array(numbers, np.float32).T, "target": np.array(target)}
    if categories is not None:
        tensors["categories"] = np.array(categories)[:, None]
    return [(flag.column, flag.kind) for flag in find_flags(spec, columns, tensors)]


Y = [0, 1] * 20
NOISE = np.random.default_rng(0).normal(size=40).tolist()


def test_a_column_that_equals_the_target_leaks_however_it_is_coded():
    assert flags([[5 if y else 9 for y in Y], NOISE], Y) == [("n0", "leaking")]
    assert flags([NOISE], Y, categories=[2 - y for y in Y]) == [("c", "leaking")]
    assert flags([NOISE], [value * 1.0 for value in NOISE], task="regression") == [("n0", "leaking")]


def test_a_column_that_nearly_equals_the_target_doesnt():
    assert flags([[1 - Y[0], *Y[1:]], NOISE], Y) == []


def test_equal_columns_are_told_once():
    double = [-2 * value for value in NOISE]
    gaps = [np.nan if index == 3 else value for index, value in enumerate(NOISE)]
    assert flags([NOISE, double, gaps, gaps], Y) == [("n1", "duplicate"), ("n3", "duplicate")]


def test_few_samples_say_nothing():
    assert flags([Y[:10]], Y[:10]) == []


def test_a_constant_column_is_told_by_planning():
    column = ColumnReport(name="k", role="dropped", type="number", missing=0, distinct=1)
    kept = column.model_copy(update={"name": "gaps", "missing": 3})
    assert flags([NOISE], Y, columns=(kept, column)) == [("k", "constant")]


def test_columns_of_different_values_have_nothing_in_common():
    other = np.random.default_rng(1).normal(size=40).tolist()
    assert flags([NOISE, other], [value * 1.0 for value in range(40)], task="regression") == []


def test_a_monotone_copy_of_a_regression_target_leaks():
    assert flags([np.exp(NOISE).tolist()], NOISE, task="regression") == [("n0", "leaking")]
