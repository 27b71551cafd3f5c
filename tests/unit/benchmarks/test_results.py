from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import Row, machine, machine_line, median_row, percentile, save, table


@pytest.mark.parametrize(
    ("ours", "goal", "met"),
    [
        (59.9, "< 60", True),
        (60.0, "< 60", False),
        (60.0, "<= 60", True),
        (0.97, ">= 0.97", True),
        (0.969, ">= 0.97", False),
        (0.97, "> 0.97", False),
        (1.0, "", None),
    ],
)
def test_a_goal_is_met_or_not(ours: float, goal: str, met: bool | None) -> None:
    assert Row("a", "s", ours, goal=goal).met is met


def test_a_goal_that_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'fast'.*'< 60'"):
        Row("a", "s", 1.0, goal="fast")


def test_the_ratio_is_ours_over_the_peer() -> None:
    assert Row("a", "ms", 3.0, 2.0).ratio == 1.5
    assert Row("a", "ms", 3.0).ratio is None


def test_a_row_of_samples_holds_their_medians() -> None:
    row = median_row("a", "s", [3.0, 1.0, 2.0], [4.0, 6.0], "< 5")
    assert (row.ours, row.peer, row.samples, row.met) == (2.0, 5.0, (3.0, 1.0, 2.0), True)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_percentiles_are_of_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_the_percentile_of_one_sample_is_that_sample() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_the_table_is_aligned_and_shows_the_spread() -> None:
    text = table(
        [Row("plain", "", 0.98, goal=">= 0.97"), median_row("with a longer name", "ms", [1.5, 300.0, 1.0], [1.0])]
    )
    header, first, second = text.splitlines()
    assert header.index("UNIT") == second.index("ms")
    assert header.index("OURS") + len("OURS") == first.index("0.9800") + len("0.9800")
    assert "yes" in first
    assert second.endswith("3  1.00 .. 300")


def test_a_goal_that_is_missed_stands_out() -> None:
    assert " NO" in table([Row("a", "s", 70, goal="< 60")])


def test_saved_rows_have_the_fields_that_readers_expect(tmp_path: Path) -> None:
    path = save("speed", "python -m benchmarks.speed", [Row("a", "s", 2.0, 1.0, "< 60"), Row("b", "", 1.0)], tmp_path)
    document = json.loads(path.read_text())
    assert path == tmp_path / "speed.json"
    assert document["command"] == "python -m benchmarks.speed"
    assert document["rows"] == [
        {"name": "a", "unit": "s", "ours": 2.0, "peer": 1.0, "ratio": 2.0, "goal": "< 60", "met": True},
        {"name": "b", "unit": "", "ours": 1.0, "peer": None, "ratio": None, "goal": None, "met": None},
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["speed.json"]


def test_a_number_that_json_lacks_leaves_the_last_results_alone(tmp_path: Path) -> None:
    save("speed", "", [Row("a", "s", 1.0)], tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        save("speed", "", [Row("a", "s", float("nan"))], tmp_path)
    assert json.loads((tmp_path / "speed.json").read_text())["rows"][0]["ours"] == 1.0


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two rows"):
        save("speed", "", [Row("a", "s", 1.0), Row("a", "s", 2.0)], tmp_path)


def test_the_machine_line_tells_what_numbers_depend_on() -> None:
    found = machine()
    line = machine_line(found)
    assert found["cores"] >= 1
    for key in ("cpu", "python", "onnxruntime"):
        assert str(found[key]) in line
