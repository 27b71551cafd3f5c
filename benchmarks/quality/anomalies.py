"""How well anomalies are found in the handwritten digits: `.venv/bin/python -m benchmarks.quality.anomalies`.

Each digit is normal in turn; every 18th of the others is an anomaly. Ours is trained by the product's own functions
with what it chooses; beside it stands what principal components of the same normal training samples can't rebuild (one
of the oldest detectors: J. E. Jackson and G. S. Mudholkar, 1979), and the plain distance from their mean. Ten runs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config_types import Split
from shoal_core.data.shards import decode_shard
from tests.support import real_data
from tests.unit.training.anomaly_runs import Finished, finished

TASK = "task: anomaly\n"
COMPONENTS = (4, 8, 16)
EVERY = 18


def files(normal: str) -> Mapping[str, bytes]:
    """All images of one digit, and a share of the others, in folders by digit."""
    with zipfile.ZipFile(real_data.DIGITS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        mine = [name for name in names if name.split("/")[-2] == normal]
        others = [name for name in names if name not in mine][::EVERY]
        return {"/".join(name.split("/")[-2:]): archive.read(name) for name in (*mine, *others)}


def area(scores: NDArray[np.float64], known: NDArray[np.int64]) -> float:
    """ROC-AUC by its definition: how often an anomaly scores above a normal sample."""
    higher = scores[known == 1][:, None] - scores[known == 0]
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def samples(run: Finished, split: Split) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The images of a split, flat, and which of them are anomalies."""
    shards = [decode_shard(run.artifacts.read(file.key)) for file in run.manifest.shards(split)]
    images = np.concatenate([shard["image"] for shard in shards])
    return images.reshape(len(images), -1).astype(np.float64), np.concatenate([shard["target"] for shard in shards])


def references(run: Finished) -> dict[str, float]:
    """Areas of the simple detectors on the same test samples."""
    seen, known = samples(run, "train")
    normal = seen[known == 0]
    asked, truth = samples(run, "test")
    centred = asked - normal.mean(0)
    axes = np.linalg.svd(normal - normal.mean(0), full_matrices=False)[2]
    found = {"distance from the mean": area((centred**2).sum(1), truth)}
    for count in COMPONENTS:
        missed = centred - centred @ axes[:count].T @ axes[:count]
        found[f"{count} principal components"] = area((missed**2).sum(1), truth)
    return found


def main() -> None:
    """Print the mean areas over the ten digits."""
    areas: dict[str, list[float]] = {}
    for digit in range(10):
        run = finished({"digits.zip": real_data.zipped(files(str(digit)))}, f"anomaly: {{normal: {digit}}}\n{TASK}")
        ours = run.evaluation.metrics.model_dump()["roc_auc"]
        for name, value in {"autoencoder": ours, **references(run)}.items():
            areas.setdefault(name, []).append(value)
    for name, values in areas.items():
        print(f"{name:30} {np.mean(values):.4f}")


if __name__ == "__main__":
    main()
