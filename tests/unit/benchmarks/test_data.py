"""How the data path is measured: processes, memory, ratios, the store over a folder."""

from __future__ import annotations

import pytest

from benchmarks.data.comparisons import fastest, goal_row, memory_rows, rate_rows
from benchmarks.data.document import BEGIN, END, render, replace
from benchmarks.data.folder_store import FolderStore
from benchmarks.data.measure import Contender, Measurement, interleaved, run
from shoal_core.errors import NotFound

GREEDY = Contender("greedy", "tests.unit.benchmarks.greedy", "take", ours=True)


def measured(*seconds: float, samples: int = 100, peak: float = 1.0) -> list[Measurement]:
    return [Measurement(each, peak, {"samples": samples}) for each in seconds]


def test_a_contender_tells_its_clock_and_the_system_tells_the_memory_of_all_its_processes(tmp_path):
    found = run(GREEDY, tmp_path, 1)
    assert found.told == {"samples": 7, "cores": 1}
    assert found.seconds > 0
    assert found.peak_mb > 300
    assert (tmp_path / "made").exists()


def test_a_failing_contender_says_why(tmp_path):
    broken = Contender("broken", "tests.unit.benchmarks.greedy", "fail", ours=True, source=tmp_path / "data")
    with pytest.raises(RuntimeError, match=f"broken failed: (?s:.*)no {tmp_path}/data"):
        run(broken, tmp_path, 1)


def test_contenders_take_turns_into_empty_folders(tmp_path):
    (tmp_path / "take-1").mkdir()
    (tmp_path / "take-1" / "left-over").touch()
    once = Contender("once", "tests.unit.benchmarks.greedy", "take", ours=True, most_repeats=1)
    found = interleaved([GREEDY, once], 1, 2, tmp_path)
    assert {name: len(runs) for name, runs in found.items()} == {"greedy": 2, "once": 1}
    assert [path.name for path in (tmp_path / "take-1").iterdir()] == ["made"]


def test_ratios_are_taken_repetition_by_repetition():
    # The machine halved its speed after the first repetition: no ratio changes.
    found = {"shoal": measured(1.0, 2.0, 2.0), "slow": measured(4.0, 8.0, 8.0), "quick": measured(2.0, 4.0, 4.0)}
    assert fastest(found, ["slow", "quick"]) == "quick"
    row = goal_row("images", found, "quick", ">= 1.5")
    assert (row.ours, row.samples, row.met) == (2.0, (2.0, 2.0, 2.0), True)
    assert goal_row("images", found, "slow", ">= 5").met is False


def test_a_peer_with_fewer_repetitions_is_held_against_as_many_of_ours():
    found = {"shoal": measured(1.0, 9.0), "once": measured(2.0)}
    assert goal_row("images", found, "once", ">= 1").samples == (2.0,)


def test_rates_stand_beside_each_other():
    found = {"shoal": measured(1.0, 2.0, 4.0), "peer": measured(5.0, 5.0)}
    (row,) = rate_rows("images", "images/s", found)
    assert (row.name, row.ours, row.peer, row.ratio) == ("images: beside peer", 50.0, 20.0, 2.5)


def test_memory_has_a_goal_of_its_own():
    found = {"shoal": measured(1.0, peak=600.0), "peer": measured(1.0, peak=300.0)}
    own, beside = memory_rows("flights", found, 512)
    assert (own.ours, own.met) == (600.0, False)
    assert beside.ratio == 2.0


def test_a_folder_is_an_object_store(tmp_path):
    store = FolderStore(tmp_path)
    assert store.write_new("a/b.json", b"first")
    assert not store.write_new("a/b.json", b"second")
    assert store.read("a/b.json") == b"first"
    store.write("a/b.json", b"third")
    store.write("a/a.bin", b"0123")
    assert store.read_range("a/a.bin", 1, 3) == b"12"
    with store.open("a/a.bin") as file:
        file.seek(2)
        assert file.read() == b"23"
    assert list(store.keys("a/")) == ["a/a.bin", "a/b.json"]
    assert not store.exists("a")
    with pytest.raises(NotFound, match="'nothing' doesn't exist"):
        store.read("nothing")
    assert not store.in_bucket("other").exists("a/a.bin")


def test_a_document_gets_the_numbers_between_its_marks():
    row = {"name": "a", "unit": "s", "ours": 1234.5, "peer": None, "ratio": None, "goal": ">= 1", "met": False}
    machine = {"cpu": "C", "cores": 2, "memory_gb": 4, "system": "S", "python": "3", "onnxruntime": "1"}
    table = render({"command": "run", "machine": machine, "rows": [row]}, "2026-11-21")
    assert table.splitlines()[-1] == "| a | s | 1,234 |  |  | >= 1 | **no** |"
    for name in ("data", "serve"):
        begin, end = BEGIN.format(name=name), END.format(name=name)
        assert replace(f"x\n{begin}\nold\n{end}\ny", "new", name) == f"x\n{begin}\nnew\n{end}\ny"
        with pytest.raises(ValueError, match="lacks the marks"):
            replace("x", "new", name)
