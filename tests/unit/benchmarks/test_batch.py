"""The batch job and the loop by hand give the same answers on the same file."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.contender import Task
from benchmarks.serve.batch import JOBS, KEYS
from tests.support.real_data import FLIGHTS


def run(job: str, source: Path, out: Path) -> Task:
    out.mkdir()
    task = Task(source, out, 1)
    JOBS[job](task)
    return task


def test_images(tmp_path: Path) -> None:
    source = tmp_path / "photos.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for number in range(300):
            buffer = io.BytesIO()
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (28, 28), np.uint8)).save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), buffer.getvalue())
    ours, hand = run("images", source, tmp_path / "ours"), run("images-by-hand", source, tmp_path / "hand")
    assert ours.measured["samples"] == hand.measured["samples"] == 300
    texts = [
        (tmp_path / "ours/artifacts" / KEYS.predictions(".jsonl")).read_text(),
        (tmp_path / "hand/out.jsonl").read_text(),
    ]
    found, expected = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert [line["file"] for line in found] == [line["file"] for line in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["prediction"]["label"] == other["prediction"]["label"]
        assert abs(one["prediction"]["probability"] - other["prediction"]["probability"]) < 1e-5


def test_rows(tmp_path: Path) -> None:
    ours, hand = run("rows", FLIGHTS, tmp_path / "ours"), run("rows-by-hand", FLIGHTS, tmp_path / "hand")
    assert ours.measured["errors"] == 0
    assert ours.measured["samples"] == hand.measured["samples"]
    paths = tmp_path / "ours/artifacts" / KEYS.predictions(".csv"), tmp_path / "hand/out.csv"
    found, expected = (list(csv.DictReader(path.open(newline=""))) for path in paths)
    assert [row["label"] for row in found] == [row["label"] for row in expected]
