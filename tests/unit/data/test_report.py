import pytest

from shoal_core.data.report import MAX_EXAMPLES, MAX_NAMES, DropTally, Report, describe_drops, file_reports
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


def test_several_files_are_told_one_by_one():
    tally = DropTally()
    tally.encode("a.csv", 5)
    tally.encode("b.csv", 3)
    tally.add("b.csv", "line 2", "bad_json", "It isn't JSON.")
    merged = DropTally()
    for _ in range(2):
        merged.extend(tally.total())
    found = file_reports("2 files", merged.total(), {"bad_json": 2, "duplicate": 8}, 8)
    assert [(file.file, file.kept, file.dropped) for file in found] == [
        ("a.csv", 10, {}),
        ("b.csv", 6, {"bad_json": 2}),
    ]
    one = DropTally()
    one.encode("a.csv", 5)
    assert file_reports("a.csv", one.total(), {"duplicate": 1}, 4)[0].dropped == {"duplicate": 1}


def test_names_are_bounded():
    tally = DropTally()
    for number in range(MAX_NAMES + 5):
        tally.encode(f"{number}.csv", 1)
        tally.observe("size", str(number), 2)
    total = tally.total()
    assert len(total.encoded) == MAX_NAMES + 1 and total.encoded[""] == 5
    assert total.observed["size"][""] == 10


class Full:
    """A quarantine with room for one sample."""

    def __init__(self):
        self.kept, self.left_out_count = [], 0

    @property
    def full(self):
        return bool(self.kept)

    def keep(self, drop, raw):
        self.kept.append((drop.place, raw))

    def leave_out(self, count):
        self.left_out_count += count


def test_a_full_tally_only_counts():
    quarantine = Full()
    tally = DropTally(quarantine)
    for row in range(MAX_EXAMPLES + 5):
        tally.add("t.csv", f"line {row}", "bad_value", "It is bad.", raw=b"x")
    assert tally.full
    tally.count("t.csv", "bad_value", 3)
    found = tally.total()
    assert found.counts == {"bad_value": MAX_EXAMPLES + 8} and found.files == {"t.csv": found.counts}
    assert len(found.examples) == MAX_EXAMPLES
    # What is told as an example still goes by the quarantine, which decides for itself.
    assert len(quarantine.kept) == MAX_EXAMPLES and quarantine.left_out_count == 8
