"""Shards of decoded images to training batches: one epoch shuffled, and single samples in a random order.

`SOURCE` is what the peer's own writer made in the same run. Every batch ends as one array or tensor of pixels and one
of labels, in this process; files lie in the page cache, as they do for Shoal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.data.contender import Task, main
from benchmarks.data.peers.mosaic import streaming

BATCH = 256
RANDOM = 5_000


def consume(task: Task, batches: Iterable[Any]) -> None:
    """Take every batch of an epoch; the number of samples and the sum of labels show that all of it was there."""
    samples, labels = 0, 0
    with task.clock():
        for batch in batches:
            samples += len(batch["image"])
            labels += int(batch["label"].sum())
    task.measured.update(samples=samples, labels=labels)


def look_up(task: Task, data: Any) -> None:
    """Single samples by index."""
    places = np.random.default_rng(0).integers(0, len(data), RANDOM).tolist()
    labels = 0
    with task.clock():
        for place in places:
            labels += int(data[place]["label"])
    task.measured.update(samples=RANDOM, labels=labels)


def litdata_set(task: Task, shuffle: bool) -> Any:
    import litdata

    os.environ.setdefault("DATA_OPTIMIZER_CACHE_FOLDER", str(task.out))
    return litdata.StreamingDataset(str(task.source), shuffle=shuffle, seed=0)


def litdata_shuffled(task: Task) -> None:
    import litdata

    consume(task, litdata.StreamingDataLoader(litdata_set(task, True), batch_size=BATCH, num_workers=0))


def litdata_random(task: Task) -> None:
    look_up(task, litdata_set(task, False))


def mds_set(task: Task, shuffle: bool) -> Any:
    return streaming().StreamingDataset(local=str(task.source), shuffle=shuffle, shuffle_seed=0, batch_size=BATCH)


def mds_shuffled(task: Task) -> None:
    from torch.utils.data import DataLoader

    consume(task, DataLoader(mds_set(task, True), batch_size=BATCH))


def mds_random(task: Task) -> None:
    look_up(task, mds_set(task, False))


def webdataset_shuffled(task: Task) -> None:
    import webdataset

    tars = sorted(str(path) for path in task.source.glob("*.tar"))
    samples = (
        webdataset.WebDataset(tars, shardshuffle=len(tars), seed=0, empty_check=False)
        .shuffle(10_000)
        .decode()
        .to_tuple("npy", "cls")
        .batched(BATCH)
    )
    consume(task, ({"image": image, "label": label} for image, label in samples))


JOBS = {
    "litdata-shuffled": litdata_shuffled,
    "litdata-random": litdata_random,
    "mds-shuffled": mds_shuffled,
    "mds-random": mds_random,
    "webdataset-shuffled": webdataset_shuffled,
}

if __name__ == "__main__":
    main(JOBS)
