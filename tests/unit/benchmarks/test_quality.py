"""How models are judged: what is measured once is found again, and references see the very samples."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.driving import in_this_process
from benchmarks.data.inputs import write_images
from benchmarks.quality import cells, measuring
from benchmarks.quality.__main__ import rows_of
from benchmarks.quality.cells import Cell, measured, origins
from benchmarks.quality.handing import hand_over
from benchmarks.quality.measuring import Effort, committed, trained
from benchmarks.quality.sets import SETS, RealSet, _first_files, _first_rows
from benchmarks.train import workers

EFFORT = Effort(quick=False, run=in_this_process)
WORDS = ("good", "bad", "long", "short", "film", "plot", "actor", "scene", "light", "sound")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cells, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(workers, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(measuring, "CACHE", tmp_path / "cache")
    return tmp_path


def opinions(folder: Path, rows: int = 120) -> RealSet:
    """Texts whose first word tells the class."""
    draw = np.random.default_rng(0)
    path = folder / "opinions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            label = number % 2
            words = [WORDS[label], *draw.choice(WORDS[2:], 6), f"w{number}"]
            writer.writerow([" ".join(words), f"c{label}"])
    settings = "target: label\ntraining: {epochs: 3}\nrounds: 2\n"
    return RealSet("opinions", "opinions", lambda: path, settings, "accuracy", "texts", "nothing")


def test_a_cell_is_measured_once_and_found_again(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell("shoal", "digits", 1, 4)
    first = measured(cell, lambda: {"score": 0.5})
    assert measured(cell, lambda: pytest.fail("measured again")) == first
    assert first["commit"] and first["machine"] and first["at"]
    assert measured(cell, lambda: {"score": 0.75}, again=True)["score"] == 0.75
    assert [path.name for path in (folders / "cells").iterdir()] == ["digits-shoal-seed-1-workers-4.json"]
    assert capsys.readouterr().out.count("found") == 1


def test_the_result_says_where_each_cell_comes_from() -> None:
    base = {"what": "shoal", "data": "digits", "workers": None, "quick": False, "machine": "M", "at": "D"}
    found = [base | {"seed": 0, "commit": "a"}, base | {"seed": 1, "commit": "b"}, base | {"seed": 2, "commit": "a"}]
    assert origins(found) == [
        "commit a, D, M: digits-shoal-seed-0, digits-shoal-seed-2",
        "commit b, D, M: digits-shoal-seed-1",
    ]


def test_floors_are_of_the_median_and_references_are_a_measure() -> None:
    (row,) = rows_of(SETS["digits"], [0.98, 0.99, 0.986], [0.97, 0.97, 0.97])
    assert (row.ours, row.goal, row.met, row.peer) == (98.6, ">= 98.5", True, 97.0)
    _, share = rows_of(SETS["prices"], [0.97, 0.97, 0.97], [0.98, 0.98, 0.98])
    assert (share.goal, share.met) == (">= 0.98", True)
    _, above = rows_of(SETS["reviews"], [0.86, 0.86, 0.86], [0.86, 0.86, 0.86])
    assert (above.goal, above.met) == ("> 1", False)


def test_an_interrupted_run_goes_on_and_a_finished_one_leaves_nothing(folders: Path) -> None:
    data = opinions(folders)
    with pytest.raises(KeyboardInterrupt), committed(data, 0, EFFORT) as place:
        manifest = place.artifacts.root / place.keys.manifest
        written = manifest.stat().st_mtime_ns
        raise KeyboardInterrupt
    with committed(data, 0, EFFORT) as place:
        assert manifest.stat().st_mtime_ns == written
        found = trained(data, place, EFFORT, {})
    assert not place.root.exists()
    assert found["score"] > 0.5 and found["settings"]["recipe"] == "fasttext" and found["rounds"] == 2


def test_references_get_the_texts_of_the_very_samples(folders: Path, tmp_path: Path) -> None:
    data = opinions(folders)
    with committed(data, 0, EFFORT) as place:
        hand_over(place, data.source(), tmp_path, {"seed": 0})
        samples = place.manifest().samples
    for split, count in samples.items():
        texts = json.loads((tmp_path / f"{split}.json").read_text())
        with np.load(tmp_path / f"{split}.npz") as arrays:
            assert len(texts) == count == len(arrays["target"])
            for text, label in zip(texts, arrays["target"], strict=True):
                assert text.split()[0] == WORDS[label]
    assert json.loads((tmp_path / "asked.json").read_text()) == {"seed": 0}


def test_accuracy_with_more_workers_stands_beside_that_with_one(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workers.SETS, "opinions", opinions(folders, 800))
    monkeypatch.setattr(workers, "WORKERS", (1, 2))
    rows, found = workers.workers_rows(EFFORT, {"opinions": [0]}, ", tried")
    assert rows[0].name.endswith(", tried: W = 2 beside W = 1")
    assert [cell["settings"]["workers"] for cell in found] == [1, 2]
    beside, lost = rows
    assert beside.peer == pytest.approx(100 * found[0]["score"])
    assert lost.ours == pytest.approx(beside.peer - beside.ours) and lost.goal == "<= 0.5"


def test_a_part_of_a_set_has_its_classes(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.zip", tmp_path / "part.zip"
    labels = np.repeat(np.arange(10, dtype=np.uint8), 600)
    write_images(whole, np.zeros((len(labels), 4, 4), np.uint8), labels)
    _first_files(whole, part)
    names = zipfile.ZipFile(part).namelist()
    assert len(names) == 1500 and {name[0] for name in names} == set("0123456789")
    table, some = tmp_path / "whole.csv", tmp_path / "some.csv"
    table.write_text("a,b\n" + "".join(f'{row},"x, y"\n' for row in range(4500)))
    _first_rows(table, some)
    assert some.read_text().splitlines()[:3] == ["a,b", '0,"x, y"', '3,"x, y"']
    assert len(some.read_text().splitlines()) == 1501
