"""A small run by a scheme, and its rounds."""

from __future__ import annotations

from typing import Any

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.keys import RunKeys
from shoal_core.training.merging import merge_round
from shoal_core.training.rounds import (
    read_settings,
    train_shard,
)
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.starting import start_training
from shoal_core.training.states import RoundState, last_round
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION, blobs, commit, drawings, image_spec, lines, table_spec

RUN = "tiny-v1"
KEYS = RunKeys(RUN)


def begun(
    scheme: str | None = "synchronous", workers: int = 4, kind: str = "table", rounds: int | None = 4, **training: Any
) -> tuple[MemoryStore, TrainingSettings]:
    """A run on 256 training samples in 4 shards, started and not trained."""
    store = MemoryStore()
    make, spec = (drawings, image_spec()) if kind == "images" else (blobs, table_spec())
    if kind == "numbers":
        make, spec = lines, table_spec(classes=0)
    splits = {"train": make(256), "validation": make(60, seed=1), "test": make(60, seed=2)}
    config = DatasetConfig(
        recipe="resnet" if kind == "images" else "mlp",
        network={"channels": [4], "blocks": 1} if kind == "images" else {"hidden": [8]},
        workers=workers,
        rounds=rounds,
        augment="none",
        training=TrainingConfig.model_validate({"scheme": scheme, "epochs": 1, "patience": 0, **training}),
    )
    commit(store, spec, splits, config=config)
    start_training(store, RUN, DATASET, VERSION)
    return store, read_settings(store, RUN)


def one_round(store: MemoryStore, round_: int, workers: int, wanted: int | None = None) -> RoundState:
    for worker in range(workers):
        train_shard(store, RUN, round_, worker)
    return merge_round(store, RUN, round_, {}, lambda: wanted)


def to_the_end(store: MemoryStore) -> dict[str, bytes]:
    """All rounds that are left; the objects of the run."""
    settings, done = read_settings(store, RUN), last_round(store, RUN)
    for round_ in range(done + 1, settings.rounds + 1):
        one_round(store, round_, settings.workers)
    return {key: data for key, data in store.objects.items() if key.startswith(KEYS.prefix)}
