"""Compute Features: what the frozen part of a backbone makes of every sample, once for all runs that share it.

A work item is a range of shards. The features of one shard are written before its index, and the index of all comes
last, so an item that is run again, or was cut off by a time-out, goes on after the last shard that is done. Rows go
through the graph in runs of one fixed number, so that a sample's features are the same whatever lies beside it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from shoal_core.data.backbones import FEATURES
from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.data.map_items import write_map_items
from shoal_core.data.packing import MAX_SHARD_BYTES
from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.errors import BadRequest
from shoal_core.keys import FeatureKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.features import FeatureIndex, FeatureShard, Transfer, feature_keys
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.scoring import batch_rows
from shoal_core.training.sessions import Session, session_of
from shoal_core.training.settings import TrainingSettings

MAX_ITEMS = 900
"""As for the other Distributed Maps: docs/scale.md."""
# What goes beside features into a head.
_BESIDE = ("target", "numbers", "categories")
_Work = list[tuple[Split, int, ShardFile]]


def plan_features(artifacts: ObjectStore, run_id: str) -> dict[str, Any]:
    """What the state machine is told: whether features have to be computed, and then the Map's items.

    Args:
        artifacts: The artifacts bucket.
        run_id: A started run.
    """
    settings = read_settings(artifacts, run_id)
    keys = feature_keys(settings)
    if keys is None or artifacts.exists(keys.index):
        return {"computes_features": False}
    work = len(_work(settings, read_manifest(artifacts, settings)))
    size = math.ceil(work / MAX_ITEMS)
    items = [{"first": first, "last": min(first + size, work)} for first in range(0, work, size)]
    return {"computes_features": True, **write_map_items(artifacts, RunKeys(run_id).feature_items, items)}


def compute_features(artifacts: ObjectStore, run_id: str, first: int, last: int) -> None:
    """Compute the features of the shards first..last (exclusive) of a run's work; those that are there stay.

    Args:
        artifacts: The artifacts bucket.
        run_id: A started run with a backbone.
        first: Number of a shard, over the splits that training reads.
        last: The one after the last.

    Raises:
        BadRequest: No such shards.
        BadDataset: A shard isn't what the manifest says.
    """
    settings = read_settings(artifacts, run_id)
    keys, transfer = _require(settings)
    work = _work(settings, read_manifest(artifacts, settings))
    if not 0 <= first < last <= len(work):
        raise BadRequest(f"Run {run_id!r} has no shards {first} to {last}.", f"Use 0 to {len(work)}.")
    todo = [entry for entry in work[first:last] if not artifacts.exists(keys.shard_index(*entry[:2]))]
    if not todo:
        return
    session = session_of(artifacts.read(RunKeys(run_id).frozen_graph), settings.threads)
    for split, index, shard in todo:
        mirrored = transfer.mirrored and split == "train"
        files = []
        for part, tensors in enumerate(_featured(session, load_shard(artifacts, shard), transfer, mirrored)):
            data = encode_shard(tensors)
            key = keys.shard(split, index, part)
            artifacts.write(key, data)
            samples = len(tensors[FEATURES])
            digest = hashlib.sha256(data).hexdigest()
            files.append(ShardFile(key=key, samples=samples, bytes=len(data), sha256=digest))
        record = FeatureShard(files=tuple(files)).model_dump(mode="json")
        artifacts.write(keys.shard_index(split, index), canonical_json(record), "application/json")


def commit_features(artifacts: ObjectStore, run_id: str) -> None:
    """Write the index of all features of a run; nothing happens when it is there.

    Raises:
        NotFound: A shard's features aren't there.
    """
    settings = read_settings(artifacts, run_id)
    keys, _ = _require(settings)
    if artifacts.exists(keys.index):
        return
    splits: dict[Split, tuple[ShardFile, ...]] = {}
    for split, index, _shard in _work(settings, read_manifest(artifacts, settings)):
        found = FeatureShard.model_validate_json(artifacts.read(keys.shard_index(split, index)))
        splits[split] = (*splits.get(split, ()), *found.files)
    artifacts.write_new(keys.index, FeatureIndex(splits=splits).encode(), "application/json")


def _require(settings: TrainingSettings) -> tuple[FeatureKeys, Transfer]:
    keys, transfer = feature_keys(settings), settings.transfer
    if keys is None or transfer is None:
        raise BadRequest(f"Run {settings.run_id!r} has no backbone.", "Nothing has to be computed for it.")
    return keys, transfer


def _work(settings: TrainingSettings, manifest: Manifest) -> _Work:
    """Every shard that rounds read, with its split and its number there."""
    splits: tuple[Split, ...] = tuple(dict.fromkeys(("train", settings.validation_split)))
    return [(split, index, shard) for split in splits for index, shard in enumerate(manifest.shards(split))]


def _featured(session: Session, tensors: Tensors, transfer: Transfer, mirrored: bool) -> Iterator[Tensors]:
    """A shard's samples as features, in parts of bounded size."""
    beside = {name: array for name, array in tensors.items() if name in _BESIDE or name in transfer.kept}
    row = 4 * math.prod(transfer.shape) + sum(array[:1].nbytes for array in beside.values())
    most = max(1, MAX_SHARD_BYTES // (row * (2 if mirrored else 1)))
    samples = len(tensors["target"])
    rows = 1 if transfer.mixes_rows else batch_rows(tensors)
    for start in range(0, samples, most):
        chosen = slice(start, min(start + most, samples))
        inputs = {name: tensors[name][chosen] for name in session.inputs}
        part = {name: array[chosen] for name, array in beside.items()}
        part[FEATURES] = _run(session, inputs, rows)
        if mirrored:
            again = {**part, FEATURES: _run(session, {**inputs, "image": inputs["image"][..., ::-1]}, rows)}
            part = {name: np.concatenate([part[name], again[name]]) for name in part}
        yield part


def _run(session: Session, inputs: Tensors, rows: int) -> np.ndarray:
    """The graph's features of some samples: a last run that is short is filled up with its last row."""
    samples = len(next(iter(inputs.values())))
    found: list[np.ndarray] = []
    for start in range(0, samples, rows):
        places = np.minimum(np.arange(start, start + rows), samples - 1)
        answer = session.run({name: np.ascontiguousarray(array[places]) for name, array in inputs.items()})[FEATURES]
        found.append(answer[: samples - start])
    return np.concatenate(found).astype(np.float32, copy=False)
