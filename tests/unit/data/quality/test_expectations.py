import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.cleaning_config import Expectation
from shoal_core.data.config import DatasetConfig
from shoal_core.data.quality import matching
from shoal_core.data.quality.expectations import CheckTally, clauses_of, merge_checks
from shoal_core.data.quality.findings import MAX_BROKEN_ROWS
from shoal_core.data.quality.items import ItemFindings, ItemQuality
from shoal_core.data.quality.outcomes import broken_expectations, judge_expectations
from shoal_core.data.report import Drops
from shoal_core.data.tables.cells import Cells, TypedValues
from shoal_core.errors import BadConfig
from shoal_core.keys import DatasetKeys
from tests.support.stores import MemoryStore

KEYS = DatasetKeys("set", "v1")
ROWS = [
    {"age": "31", "code": "a-1", "colour": "red"},
    {"age": "-4", "code": "a-2", "colour": "blue"},
    {"age": "", "code": "b", "colour": "green"},
    {"age": "old", "code": "a-1", "colour": "NA"},
    {"age": "130", "code": "a-1", "colour": "1.0"},
]


def columns_of(rows):
    return {name: [row.get(name) for row in rows] for name in ("age", "code", "colour")}


def judge(rows, expect, cuts=(), samples=100, class_counts=None):
    """The reports of rows that are cut into work items at `cuts`, each item checked in batches of two rows."""
    config = DatasetConfig.model_validate({"expect": expect})
    store = MemoryStore()
    findings = []
    edges = [0, *cuts, len(rows)]
    for item, (start, stop) in enumerate(itertools.pairwise(edges)):
        quality = ItemQuality(KEYS, item, config)
        for first in range(start, stop, 2):
            batch = rows[first : min(first + 2, stop)]
            places = [f"line {first + offset + 2}" for offset in range(len(batch))]
            if quality.drops.checks is not None:
                quality.drops.checks.add("t.csv", columns_of(batch), places)
        findings.append(quality.write(store, Drops()))
    findings = [ItemFindings.model_validate_json(part.model_dump_json()) for part in findings]
    return judge_expectations(store, config.expect, findings, samples, class_counts or {})


def told(report):
    return [(row.place, row.value) for row in report.examples]


def test_a_range_names_the_rows_outside_it():
    low, high = judge(ROWS, [{"column": "age", "min": 0, "max": 120}])
    assert (low.checked, low.broken, told(low)) == (4, 2, [("line 3", "-4"), ("line 5", "old")])
    assert (high.broken, told(high)) == (2, [("line 5", "old"), ("line 6", "130")])
    assert (low.what, high.what) == ("age: at least 0", "age: at most 120")


def test_values_may_be_written_in_any_way():
    (report,) = judge(ROWS, [{"column": "colour", "values": ["red", "blue", 1]}])
    assert (report.checked, told(report)) == (4, [("line 4", "green")])
    assert report.what == "colour: one of red, blue, 1"


def test_a_pattern_is_of_the_whole_text():
    (report,) = judge(ROWS, [{"column": "code", "pattern": "[a-z]-[0-9]"}])
    assert told(report) == [("line 4", "b")]


def test_missing_values_break_max_missing_alone():
    ages, held = judge(ROWS, [{"column": "age", "max_missing": 0.1}, {"column": "age", "max_missing": 0.2}])
    assert (ages.held, ages.measured, ages.broken, told(ages)) == (False, 0.2, 1, [("line 4", "")])
    assert held.held and not held.examples


def test_a_column_that_a_file_lacks_is_missing():
    (report,) = judge(ROWS, [{"column": "height", "max_missing": 0.5}])
    assert (report.broken, report.checked) == (5, 5)


def test_unique_is_settled_over_all_items():
    (report,) = judge(ROWS, [{"column": "code", "unique": True}], cuts=(1, 4))
    assert (report.checked, report.broken) == (5, 2)
    assert told(report) == [("line 5", "a-1"), ("line 6", "a-1")]
    assert report.examples[0].file == "t.csv"


def test_the_set_as_a_whole():
    classes, samples = judge(
        ROWS, [{"min_per_class": 10}, {"min_samples": 50}], samples=42, class_counts={"cat": 40, "dog": 2}
    )
    assert (classes.held, classes.broken, classes.measured, told(classes)) == (False, 1, 2, [("dog", "2 samples")])
    assert (samples.held, samples.measured) == (False, 42)
    error = broken_expectations((classes, samples), "pets.zip")
    assert error.reason == (
        "'pets.zip' breaks 2 expectations of dataset.yaml: at least 10 samples per class (1 of 2 classes broke it; "
        "dog: '2 samples'); at least 50 samples (there are 42)."
    )


def test_the_error_names_each_broken_expectation_with_count_and_rows():
    reports = judge(
        ROWS, [{"column": "age", "min": 0}, {"column": "age", "max_missing": 0}, {"column": "code", "unique": True}]
    )
    assert broken_expectations(reports, "t.csv").reason == (
        "'t.csv' breaks 3 expectations of dataset.yaml: age: at least 0 (2 of 4 rows broke it; line 3: '-4', "
        "line 5: 'old'); age: at most 0 % missing (1 of 5 are: line 4); code: every value once (2 of 5 rows broke it; "
        "line 5: 'a-1', line 6: 'a-1')."
    )
    assert broken_expectations((), "t.csv") is None


def test_unique_false_expects_nothing():
    assert clauses_of([Expectation(column="a", unique=False, min=1)])[0].rule == "min"
    assert len(clauses_of([Expectation(column="a", unique=False)])) == 0


def test_examples_are_bounded_and_counts_exact():
    rows = [{"age": "-1"}] * 500
    (report,) = judge(rows, [{"column": "age", "min": 0}], cuts=(100, 300))
    assert report.broken == 500 and len(report.examples) == MAX_BROKEN_ROWS
    assert told(report)[-1] == ("line 21", "-1")


def test_numbers_and_texts_of_the_same_meaning_are_judged_alike():
    expect = [Expectation(column="n", min=1, max=40, values=(1, 2.5, 40), pattern="[0-9.]+", unique=True)]
    numbers = Cells(np.array([0, -1, 1, 2, 3, 0], np.int32), TypedValues(np.array([1.0, 2.5, 40.0, -3.0])))
    texts = ["1", "", "2.5", "40", "-3", "1"]
    places = [f"line {row}" for row in range(6)]
    totals = []
    for column in (texts, numbers, [1, None, 2.5, 40, -3.0, 1]):
        tally = CheckTally(expect)
        tally.add("t", {"n": column}, places)
        totals.append((tally.total().model_dump(exclude={"clauses": {"__all__": {"examples"}}}), tally.hashes))
    assert totals[0][0] == totals[1][0] == totals[2][0]
    # What is at a bound is within it.
    assert [clause["broken"] for clause in totals[0][0]["clauses"]] == [1, 0, 1, 1, 0]
    tables = [hashes[4].tensors()[0]["low"].tolist() for _, hashes in totals]
    assert tables[0] == tables[1] == tables[2]


def test_instants_are_present_values():
    instants = Cells(np.array([0, -1, 1], np.int32), TypedValues(np.array([0, 86_400_000_000]).astype("M8[us]")))
    tally = CheckTally([Expectation(column="day", max_missing=0, pattern="1970.*", unique=True)])
    tally.add("t", {"day": instants}, ["row 1", "row 2", "row 3"])
    pattern, unique, missing = tally.total().clauses
    assert (pattern.checked, pattern.broken, unique.checked, missing.broken) == (2, 0, 2, 1)


def test_a_cell_too_long_for_a_pattern_breaks_it():
    (report,) = judge([{"code": "a" * 1001}], [{"column": "code", "pattern": "a+"}])
    assert report.broken == 1 and len(report.examples[0].value) == 300


def test_a_pattern_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(matching, "MATCH_SECONDS", 0.05)
    with pytest.raises(BadConfig, match=r"takes more than 0\.05 s\."):
        judge([{"code": "a" * 40 + "b"}], [{"column": "code", "pattern": "(a+)+"}])


def test_nothing_expected_of_rows_checks_none():
    assert ItemQuality(KEYS, 0, DatasetConfig.model_validate({"expect": [{"min_samples": 3}]})).drops.checks is None


CELLS = st.one_of(
    st.none(), st.sampled_from(["", "NA", "x", "-1", "7", "7.0", "1e3", "ä"]), st.integers(-5, 5), st.booleans(),
    st.floats(allow_nan=True, allow_infinity=False, width=32), st.lists(st.integers(), max_size=2),
)  # fmt: skip
EXPECT = [
    {"column": "age", "min": 0, "max": 5, "values": ["x", 7], "unique": True, "max_missing": 0.3, "pattern": "[0-9]+"},
    {"column": "code", "unique": True},
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"age": CELLS, "code": CELLS}), max_size=30), st.data())
def test_any_cut_gives_the_same_result(rows, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    assert judge(rows, EXPECT, cuts) == judge(rows, EXPECT)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.data())
def test_unique_equals_counting(values, data):
    rows = [{"code": value} for value in values]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    (report,) = judge(rows, [{"column": "code", "unique": True}], cuts)
    repeats = [(f"line {row + 2}", value) for row, value in enumerate(values) if value in values[:row]]
    assert report.broken == len(values) - len(set(values)) == len(repeats)
    assert told(report) == repeats[:MAX_BROKEN_ROWS]


def test_merging_nothing_is_nothing():
    assert merge_checks([]).clauses == ()


def test_findings_are_plain_json():
    quality = ItemQuality(KEYS, 0, DatasetConfig.model_validate({"expect": EXPECT}))
    quality.drops.checks.add("t.csv", columns_of(ROWS), [f"line {row}" for row in range(5)])
    assert json.loads(quality.write(MemoryStore(), Drops()).model_dump_json())["checks"]["rows"] == 5
