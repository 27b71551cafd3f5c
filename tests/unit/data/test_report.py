import pytest

from shoal_core.data.report import MAX_EXAMPLES, DropTally, Report, describe_drops
from shoal_core.errors import BadInput


def test_examples_are_bounded_and_counts_exact():
    tally, more = DropTally(), DropTally()
    for line in range(2000):
        tally.add("t.csv", f"line {line}", "ragged_row", "x" * 1000, "Quote cells.")
    more.add("t.csv", "line 9", "bad_json", "It isn't JSON.")
    more.ignored = 2
    tally.extend(more.total())
    found = tally.total()
    assert found.counts == {"bad_json": 1, "ragged_row": 2000} and found.total == 2001 and found.ignored == 2
    assert len(found.examples) == MAX_EXAMPLES
    assert len(found.examples[0].reason) == 300


def test_a_line_for_people():
    tally = DropTally()
    tally.add("t.csv", "line 3", "bad_json", "It isn't JSON.")
    assert describe_drops(tally.total()) == "1 bad json (for example line 3: It isn't JSON)"


def test_a_broken_report():
    with pytest.raises(BadInput):
        Report.decode(b"[]")
