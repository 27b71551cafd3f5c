"""Runs started by hand on the tiny networks, so that rounds are tested without the graphs package."""

from __future__ import annotations

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.manifest import Manifest
from shoal_core.keys import RunKeys
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.rounds import train_shard
from shoal_core.training.settings import TrainingSettings, resolve_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, lines, table_spec
from tests.unit.training.networks import forward_graph, initial_tensors, linear_step, softmax_step

RUN = "tiny-v1"
FEATURES, CLASSES = 4, 3


def classification_run(
    workers: int = 2, rounds: int = 3, learning_rate: float = 0.1, seed: int = 0, **changes: object
) -> tuple[MemoryStore, TrainingSettings, Manifest]:
    """Softmax regression on blobs: 256 training samples in 4 shards."""
    store = MemoryStore()
    config = DatasetConfig(
        workers=workers,
        rounds=rounds,
        seed=seed,
        training=TrainingConfig(optimizer="sgd", learning_rate=learning_rate, batch_size=24, epochs=2),
    )
    splits = {"train": blobs(256), "validation": blobs(60, seed=1), "test": blobs(90, seed=2)}
    manifest = commit(store, table_spec(FEATURES, CLASSES), splits, config=config)
    settings = start_by_hand(store, manifest, softmax_step(FEATURES, CLASSES), "logits", CLASSES, changes)
    return store, settings, manifest


def regression_run(workers: int = 2, rounds: int = 3) -> tuple[MemoryStore, TrainingSettings, Manifest]:
    """Linear regression: 256 training samples in 4 shards."""
    store = MemoryStore()
    config = DatasetConfig(
        workers=workers,
        rounds=rounds,
        training=TrainingConfig(optimizer="sgd", learning_rate=0.1, batch_size=24, epochs=5),
    )
    splits = {"train": lines(256), "validation": lines(60, seed=1), "test": lines(90, seed=2)}
    manifest = commit(store, table_spec(FEATURES, 0), splits, config=config)
    target = manifest.statistics.target
    assert target is not None
    step = linear_step(FEATURES, target.mean, target.std)
    return store, start_by_hand(store, manifest, step, "prediction", 1, {}), manifest


def start_by_hand(
    store: MemoryStore, manifest: Manifest, step: bytes, output: str, outputs: int, changes: dict[str, object]
) -> TrainingSettings:
    """What start_training does, with a network of the tests."""
    settings, _ = resolve_settings(manifest.config, manifest, RUN)
    settings = settings.model_copy(update=changes)
    keys = RunKeys(RUN)
    parameters, state = initial_tensors(FEATURES, outputs)
    store.write(keys.step_graph, step)
    store.write(keys.forward_graph, forward_graph(FEATURES, outputs, output))
    store.write(keys.checkpoint(0), Checkpoint(RUN, 0, 0, parameters, state).encode())
    store.write(keys.settings, settings.encode())
    return settings


def train_all(store: MemoryStore, settings: TrainingSettings, round_: int, backwards: bool = False) -> None:
    """All workers of a round."""
    workers = range(settings.workers)
    for worker in reversed(workers) if backwards else workers:
        train_shard(store, settings.run_id, round_, worker)
