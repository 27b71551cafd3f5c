"""Rows of the way to 99 % of MNIST's test images, from the start of a process: ours beside a plain PyTorch script."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data.driving import Place, make_shards, upload
from benchmarks.data.inputs import images
from benchmarks.quality.handing import hand_over
from benchmarks.quality.measuring import resolved
from benchmarks.quality.sets import shortened
from benchmarks.results import Row, median_row
from benchmarks.train.to_accuracy import DATASET

TARGET, QUICK_TARGET = 0.99, 0.2
PASSES = 2
SEEDS = 5
"""Repetitions: an epoch more or less is a matter of the first weights and the order of samples."""
# The official test images are the newest; all others are trained on, and there is nothing beside them.
_SETTINGS = 'split: {time: "*/{time}.png", validation: 0.14285714, test: 0}\nnear_duplicates: "off"\n'


def racing_rows(scratch: Path, *, quick: bool = False) -> list[Row]:
    """Seconds to the target; each repetition is a fresh process of either side, in turns, with a seed of its own."""
    place, target = _committed(scratch, quick), QUICK_TARGET if quick else TARGET
    found: dict[str, list[dict[str, float]]] = {"shoal": [], "pytorch": []}
    for seed in range(1 if quick else SEEDS):
        for kind, told in found.items():
            shutil.rmtree(place.artifacts.root / "runs", ignore_errors=True)
            told.append(_raced(kind, place, target, seed))
            print(f"  {kind}: {told[-1]}", file=sys.stderr, flush=True)
    ours, theirs = found.values()
    title = f"MNIST to {target:.0%} of the test images, one worker"
    rows = [
        median_row(f"{title}: {what}", unit, [each[key] for each in ours], [each[key] for each in theirs])
        for what, unit, key in (
            ("time", "s", "seconds"),
            ("processor", "s cpu", "cpu_seconds"),
            ("epochs", "", "epochs"),
            ("accuracy then", "", "accuracy"),
        )
    ]
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(ours, theirs, strict=True)]
    reached = all(each["accuracy"] >= target for each in (*ours, *theirs))
    rows.append(Row(f"{title}: ratio", "", statistics.median(ratios), None, "<= 1" if reached else "", tuple(ratios)))
    rows.append(Row(f"{title}: reached by all", "", float(reached), None, ">= 1"))
    return rows


def _committed(scratch: Path, quick: bool) -> Place:
    place = Place(scratch / "race", DATASET)
    upload(place, shortened(images()) if quick else images(), _SETTINGS)
    make_shards(place)
    settings = resolved(place)
    shown: dict[str, Any] = settings.model_dump(
        mode="json", include={"epochs", "learning_rate", "batch_size", "augment"}
    )
    hand_over(place, images(), place.root, {**shown, "network": settings.recipe_config})
    return place


def _raced(kind: str, place: Place, target: float, seed: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.train.to_accuracy", kind, str(place.root)]
    asked = [repr(time.time()), str(target), str(PASSES), str(seed)]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
