"""Samples of the compared networks as uploads, so that the product's own workers and a `DataLoader` read the same."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.data.driving import Place, make_shards, upload
from benchmarks.data.inputs import write_images
from benchmarks.quality.training import request_run
from benchmarks.train.networks import CLASSES, COLUMNS, NETS, NUMBERS, SIDE, STEPS

SAMPLES = 4_096
SHIFT = 0.04
"""What images are moved by, as a share of their side: a pixel, as `augment: auto` has it."""
_SPLIT = "split: {validation: 0.02, test: 0.02}\n"


def place_for(name: str, folder: Path, samples: int = SAMPLES, workers: int = 1) -> Place:
    """A committed dataset version of what a network sees: random, as how long a step takes doesn't depend on it.

    Args:
        name: The network.
        folder: Where to make it, or find it made.
        samples: How many.
        workers: At least so many shards of at least 64 samples.
    """
    net = NETS[name]
    place = Place(folder / net.sees, net.sees)
    if not place.artifacts.exists(place.keys.manifest):
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        labels = draw.integers(0, CLASSES, samples).astype(np.uint8)
        if net.sees == "image":
            source, settings = folder / "images.zip", 'near_duplicates: "off"\n'
            write_images(source, draw.integers(0, 256, (samples, SIDE, SIDE)).astype(np.uint8), labels)
        elif net.sees == "numbers":
            source, settings = folder / "numbers.csv", "target: label\n"
            _write_rows(source, draw.normal(size=(samples, NUMBERS)), labels)
        else:
            # Ids of one window each: as many rows as the window has.
            source = folder / "sequence.csv"
            settings = f"target: label\nsequence: {{time: time, id: id, window: {STEPS}, horizon: 0}}\n"
            rows = draw.normal(size=(samples * STEPS, COLUMNS))
            _write_rows(source, rows, np.repeat(labels, STEPS), STEPS)
        upload(place, source, f"{settings}{_SPLIT}workers: {workers}\n")
        make_shards(place)
    return place


def run_for(name: str, place: Place, rounds: int, more: dict[str, object] | None = None) -> str:
    """The request of a run that trains a network as it is compared: one worker, one epoch a round, Adam, batch 64."""
    net = NETS[name]
    overrides = {
        "recipe": net.recipe,
        "network": {**net.config},
        "workers": 1,
        "rounds": rounds,
        "training": {"epochs": rounds, "batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3, "patience": 0},
        "augment": {"shift": SHIFT} if net.sees == "image" else "none",
        **(more or {}),
    }
    return request_run(place, overrides)


def _write_rows(path: Path, rows: np.ndarray, labels: np.ndarray, window: int = 0) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        ids = ["id", "time"] if window else []
        writer.writerow([*ids, *(f"x{column}" for column in range(rows.shape[1])), "label"])
        for number, (row, label) in enumerate(zip(rows.tolist(), labels.tolist(), strict=True)):
            place = [f"w{number // window}", number % window] if window else []
            writer.writerow([*place, *(f"{value:.5f}" for value in row), f"c{label}"])
