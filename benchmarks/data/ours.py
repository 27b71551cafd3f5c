"""Shoal as a contender: raw data to shards without a cloud, and shards to batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import duckdb  # noqa: F401 - loaded before the clock starts, as in a function that is warm
import numpy as np
from PIL import Image

from benchmarks.data.contender import Task, main
from benchmarks.data.driving import Place, make_shards, upload
from shoal._splits import Split
from shoal_core.data.shards import Tensors
from shoal_core.training.batches import BatchStream, load_shard

# Peers look for no near duplicates, so neither do we; `…-default` does all that Shoal does when nothing is said.
COMPARABLE = 'near_duplicates: "off"\n'
SETTINGS = {
    "images": "",
    "flights": "target: arr_delay\n",
    "many-flights": "target: delay\n",
    "reviews": "target: label\ncolumns: {source: {type: ignore}}\ntext: {length: 512}\n",
}
BATCH = 256
RANDOM = 5_000


def to_shards(task: Task, dataset: str, more: str) -> None:
    """Plan, write, assign, pack, commit."""
    Image.init()
    place = Place(task.out, dataset)
    upload(place, task.source, SETTINGS[dataset] + more)
    with task.processes() as run, task.clock():
        stages = make_shards(place, run)
    samples = place.manifest().samples
    task.measured.update(samples=sum(samples.values()), stages=stages.seconds)


def trained(task: Task) -> None:
    """One epoch of the training split, as a training worker takes it."""
    place = Place(task.source, "images")
    shards = place.manifest().train
    artifacts = place.artifacts
    stream = BatchStream(shards, lambda shard: load_shard(artifacts, shard), batch_size=BATCH, seed=0, worker=0)
    consume(task, stream.batches(0, math.ceil(stream.samples / BATCH)))


def loaded(task: Task) -> Split:
    """What `shoal.load` gives once the shards have been fetched: files in its cache, named by their sha256."""
    place = Place(task.source, "images")
    manifest = place.manifest()
    for shard in manifest.train:
        (task.out / f"{shard.sha256}.safetensors").hardlink_to(place.artifacts.root / shard.key)
    return Split(None, manifest.model_dump(mode="json"), "train", task.out)


def shuffled(task: Task) -> None:
    """One epoch by the SDK."""
    consume(task, loaded(task).batches(BATCH, shuffle=True))


def random_access(task: Task) -> None:
    """Single samples by number, by the SDK."""
    split = loaded(task)
    labels = 0
    places = np.random.default_rng(0).integers(0, len(split), RANDOM).tolist()
    with task.clock():
        for place in places:
            labels += int(split[place]["target"])
    task.measured.update(samples=RANDOM, labels=labels)


def consume(task: Task, batches: Iterable[Tensors]) -> None:
    """Take every batch of an epoch."""
    samples, labels = 0, 0
    with task.clock():
        for batch in batches:
            samples += len(batch["image"])
            labels += int(batch["target"].sum())
    task.measured.update(samples=samples, labels=labels)


JOBS = {
    **{name: functools.partial(to_shards, dataset=name, more=COMPARABLE) for name in SETTINGS},
    **{f"{name}-default": functools.partial(to_shards, dataset=name, more="") for name in SETTINGS},
    "trained": trained,
    "shuffled": shuffled,
    "random": random_access,
}

if __name__ == "__main__":
    main(JOBS)
