import pytest

from shoal_core.data.quality import uniqueness
from shoal_core.data.quality.uniqueness import RANGES, ValueHashes, find_repeats
from tests.support.stores import MemoryStore


def repeats(items):
    """Repeats of work items' rows, each (file, place, value)."""
    store = MemoryStore()
    files = []
    for item, rows in enumerate(items):
        hashes = ValueHashes()
        for row, (file, place, value) in enumerate(rows):
            hashes.add(file, [place], [(0, value)], row)
        files.append(hashes.write(store, f"item-{item}", 0))
    return find_repeats(store, files)


def test_a_repeat_is_named_by_its_own_file_and_place():
    count, rows = repeats([[("a.csv", "line 2", "x"), ("b.csv", "line 2", "x")], [("b.csv", "line 3", "x")]])
    assert count == 2
    assert [(row.file, row.place, row.value) for row in rows] == [("b.csv", "line 2", "x"), ("b.csv", "line 3", "x")]


def test_hashes_are_told_apart_by_all_their_bits(monkeypatch):
    monkeypatch.setattr(uniqueness, "_digest", lambda value: bytes(15) + value)
    assert repeats([[("t", "line 2", "a"), ("t", "line 3", "b")]])[0] == 0
    monkeypatch.setattr(uniqueness, "_digest", lambda value: value + bytes(15))
    assert repeats([[("t", "line 2", "a"), ("t", "line 3", "b")]])[0] == 0


def test_every_range_is_looked_at(monkeypatch):
    monkeypatch.setattr(uniqueness, "_digest", lambda value: bytes([int(value) * 16]) + bytes(15))
    rows = [("t", f"line {number + 2}", str(number % RANGES)) for number in range(2 * RANGES)]
    assert repeats([rows])[0] == RANGES


@pytest.mark.parametrize("value", ["", "\x00\x1f", "ä" * 100, "\ud800"])
def test_odd_values_are_shown_as_far_as_there_is_room(value):
    count, (row,) = repeats([[("t", "line 2", value), ("t", "line 3", value)]])
    assert count == 1 and row.place == "line 3" and len(row.value) <= 60


def test_nothing_repeats_nothing():
    assert repeats([]) == (0, ()) and repeats([[]]) == (0, ())
