"""The real data that models are judged on, each with its floor and its reference."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.data import inputs
from benchmarks.quality.backbone import NAME, VERSION, cutouts

DIGITS = inputs.ROOT / "examples" / "digits" / "digits.zip"
# Files are numbered with the official test images last: the newest 10,000 of 70,000 are those.
_OFFICIAL = 'split: {time: "*/{time}.png", validation: 0.05, test: 0.14285714}\n'
_QUICK_FILES, _QUICK_ROWS = 1_500, 1_500


@dataclass(frozen=True)
class RealSet:
    """One data set.

    Attributes:
        name: Of the data set and of its cells.
        title: In rows.
        source: Gives the upload.
        settings: `dataset.yaml`, without the seed.
        metric: What is compared, of the test split: a field of the evaluation's metrics.
        reference: The module below `references` that is trained on the same samples.
        beside: What that is, in words.
        floor: What the metric must be, in per cent; None where the reference is the measure.
        backbone: Whether it needs the pretrained network.
        within: How far below the reference's score ours may lie, as a share of it; None where that isn't asked.
    """

    name: str
    title: str
    source: Callable[[], Path]
    settings: str
    metric: Literal["accuracy", "r2"]
    reference: str
    beside: str
    floor: float | None = None
    within: float | None = None
    backbone: bool = False


def _cutouts_settings() -> str:
    """The example's own, with the version of the backbone."""
    text = (inputs.ROOT / "examples" / "cutouts" / "dataset.yaml").read_text()
    return text.replace(f"backbone: {NAME}", f"backbone: {NAME}@{VERSION}")


def _digits() -> Path:
    return DIGITS


def _diamonds() -> Path:
    return inputs.kept("diamonds.csv", lambda path: inputs.write_table(path, "ggplot2/diamonds"))


def _churn() -> Path:
    return inputs.kept("churn.csv", lambda path: inputs.write_table(path, "modeldata/wa_churn"))


SETS = {
    one.name: one
    for one in (
        RealSet("digits", "digits", _digits, "", "accuracy", "digits", "scikit-learn's SVC", floor=98.5),
        RealSet(
            "reviews",
            "movie reviews",
            inputs.reviews,
            "target: label\ncolumns: {source: {type: ignore}}\n",
            "accuracy",
            "texts",
            "TF-IDF and logistic regression",
            within=0.0,
        ),
        RealSet(
            "cutouts",
            "photo cutouts, EfficientNet-Lite0",
            cutouts,
            _cutouts_settings(),
            "accuracy",
            "features",
            "logistic regression on its features",
            floor=87.0,
            backbone=True,
        ),
        RealSet("churn", "table (churn)", _churn, "target: churn\n", "accuracy", "tables", "LightGBM", within=0.02),
        RealSet(
            "cuts",
            "table (cuts of diamonds)",
            _diamonds,
            "target: cut\n",
            "accuracy",
            "tables",
            "LightGBM",
            within=0.02,
        ),
        RealSet(
            "prices",
            "regression (prices of diamonds)",
            _diamonds,
            "target: price\n",
            "r2",
            "tables",
            "LightGBM",
            within=0.02,
        ),
        RealSet(
            "fashion", "Fashion-MNIST", inputs.fashion, _OFFICIAL, "accuracy", "images", "PyTorch, the same", floor=92.0
        ),
        RealSet("mnist", "MNIST", inputs.images, _OFFICIAL, "accuracy", "images", "PyTorch, the same", floor=99.2),
    )
}


def shortened(source: Path) -> Path:
    """A part of an upload that only shows that everything runs."""
    name = f"quick-{source.name}"
    if source.suffix == ".zip":
        return inputs.kept(name, lambda path: _first_files(source, path))
    return inputs.kept(name, lambda path: _first_rows(source, path))


def _first_files(source: Path, target: Path) -> None:
    """Every so many a file, so that all classes are there."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as part:
        names = whole.namelist()
        for name in names[:: max(1, len(names) // _QUICK_FILES)]:
            part.writestr(zipfile.ZipInfo(name), whole.read(name))


def _first_rows(source: Path, target: Path) -> None:
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    every = max(1, len(rows) // _QUICK_ROWS)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([rows[0], *rows[1::every]])
    target.write_text(text.getvalue(), encoding="utf-8")
