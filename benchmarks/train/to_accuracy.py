"""From the start of a process to 99 % of the official test images: `python -m benchmarks.train.to_accuracy KIND …`.

`KIND FOLDER BEGAN TARGET PASSES SEED`: KIND is shoal or pytorch, FOLDER a place whose validation split are MNIST's test
images, BEGAN the start in seconds since 1970, TARGET a share, PASSES how often an epoch looks at the test images. Both
train the same network with one thread, the same batches, learning rate, schedule and shifts, and stop at the target.
Prints JSON: seconds, the accuracy then, epochs, seconds of processor time.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data.driving import Place

DATASET = "mnist"


def overrides(epochs: int, passes: int, seed: int = 0) -> dict[str, Any]:
    """What both sides train by: the product's own choices, with one worker and so many looks at the test images."""
    return {
        "seed": seed,
        "workers": 1,
        "rounds": epochs * passes,
        "training": {"epochs": epochs, "patience": 0, "warmup_rounds": passes / 2},
    }


def shoal(place: Place, target: float, passes: int, seed: int) -> dict[str, float]:
    """The product's rounds in this process."""
    from benchmarks.quality.training import request_run, train
    from shoal_core.training.rounds import read_settings
    from shoal_core.training.states import RoundRecord

    found: dict[str, float] = {}

    def after_round(record: RoundRecord) -> bool:
        found.update(accuracy=record.validation["accuracy"], epochs=record.round / passes)
        return found["accuracy"] >= target

    run_id = request_run(place, overrides(_epochs(place), passes, seed))
    train(place, run_id, after_round=after_round)
    assert read_settings(place.artifacts, run_id).threads == 1
    return found


def pytorch(place: Place, target: float, passes: int, seed: int) -> dict[str, float]:
    """The loop that one writes by hand."""
    import numpy as np
    import torch

    from benchmarks.quality.references.images import network, shifted

    told = json.loads((place.root / "asked.json").read_text())
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with np.load(place.root / "train.npz") as train, np.load(place.root / "validation.npz") as test:
        pixels, targets = torch.from_numpy(train["image"]).float(), torch.from_numpy(train["target"]).long()
        seen, truth = torch.from_numpy(test["image"]).float(), torch.from_numpy(test["target"])
    mean, deviation = pixels.mean(), pixels.std()
    pixels, seen = (pixels - mean) / deviation, (seen - mean) / deviation
    module = network(told["network"], tuple(pixels.shape[1:]), 10)
    optimizer = torch.optim.Adam(module.parameters(), lr=told["learning_rate"])
    size, epochs = told["batch_size"], told["epochs"]
    reach = round(told["augment"].get("shift", 0.0) * pixels.shape[2])
    total = epochs * math.ceil(len(pixels) / size)
    look, warm = math.ceil(total / (epochs * passes)), math.ceil(total / (epochs * passes)) * passes // 2
    right = step = 0
    for step, rows in zip(range(total), _endless(len(pixels), size), strict=False):
        rate = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        optimizer.param_groups[0]["lr"] = told["learning_rate"] * rate
        batch = shifted(pixels[rows], reach) if reach else pixels[rows]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(batch), targets[rows]).backward()
        optimizer.step()
        if (step + 1) % look == 0:
            with torch.no_grad():
                parts = zip(seen.split(256), truth.split(256), strict=True)
                right = sum(int((module(part).argmax(1) == labels).sum()) for part, labels in parts)
            if right / len(truth) >= target:
                break
    return {"accuracy": right / len(truth), "epochs": (step + 1) * size / len(pixels)}


def _endless(samples: int, size: int) -> Iterator[Any]:
    """Rows of batches, shuffled in every epoch."""
    import torch

    while True:
        yield from torch.randperm(samples).split(size)


def _epochs(place: Place) -> int:
    return int(json.loads((place.root / "asked.json").read_text())["epochs"])


def main(kind: str, folder: str, began: str, target: str, passes: str, seed: str) -> None:
    side = {"shoal": shoal, "pytorch": pytorch}[kind]
    found = side(Place(Path(folder), DATASET), float(target), int(passes), int(seed))
    print(json.dumps({"seconds": time.time() - float(began), "cpu_seconds": time.process_time(), **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
