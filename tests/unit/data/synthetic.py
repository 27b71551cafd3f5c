"""Encoded samples without a source: work items of made-up tensors, for tests of what comes after encoding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from shoal_core.data import writing
from shoal_core.data.assigning import assign_samples
from shoal_core.data.committing import commit_dataset
from shoal_core.data.config import DatasetConfig, DatasetRequest
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.plan import ObjectSlice, Plan
from shoal_core.data.report import Report
from shoal_core.data.shards import Tensors, decode_shard
from shoal_core.data.spec import NumberColumn, PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.splits import split_positions
from tests.support.stores import MemoryStore
from tests.unit.data.builders import KEYS

TASKS = {
    "classification": TargetSpec(task="classification", column="y", classes=("n", "p")),
    "multilabel": TargetSpec(task="multilabel", column="y", classes=("a", "b", "c")),
    "regression": TargetSpec(task="regression", column="y"),
}


def hashes(values: np.ndarray) -> np.ndarray:
    """A hash per row of whole numbers: uint8 [N,16]; equal rows have equal ones."""
    words = np.zeros(len(values), np.uint64)
    for column in np.atleast_2d(values.T):
        words = (words ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        words ^= words >> np.uint64(29)
    other = (words * np.uint64(0xC2B2AE3D27D4EB4F)) ^ (words >> np.uint64(31))
    return np.stack([words, other], axis=1).view(np.uint8).reshape(len(values), 16)


def samples(features: Sequence[int], target: np.ndarray, seed: int = 0, **extra: Any) -> Tensors:
    """Samples of one number each, which is the feature; `extra` are `group`, `time`, `near_hash` or `row` (a salt)."""
    values = np.asarray(features, np.int64)
    label = target.astype(np.int64) if target.ndim == 1 else target.astype(np.int64) @ (1 << np.arange(target.shape[1]))
    row = extra.pop("row", np.zeros(len(values), np.int64))
    feature_hash = hashes(values[:, None])
    tensors = {
        "numbers": values[:, None].astype(np.float32),
        "target": target,
        "feature_hash": feature_hash,
        "row_hash": hashes(np.stack([values, label, np.asarray(row)], axis=1)),
        "position": split_positions(seed, feature_hash),
        "place": np.arange(2, len(values) + 2),
        **extra,
    }
    if "group" in tensors:
        tensors["group"] = hashes(np.asarray(tensors["group"])[:, None])
    return tensors


class Synthetic:
    """A set of encoded samples, cut into work items anyhow, on its way to shards."""

    def __init__(self, monkeypatch: Any, tensors: Tensors, cuts: Sequence[int] = (), **config: Any) -> None:
        count = len(tensors["position"])
        bounds = [0, *sorted(cut for cut in cuts if cut <= count), count]
        self.items = [
            {name: array[start:stop] for name, array in tensors.items()} for start, stop in itertools.pairwise(bounds)
        ]
        self.artifacts = MemoryStore()
        task = "multilabel" if tensors["target"].ndim == 2 else "classification"
        task = "regression" if tensors["target"].dtype == np.float32 else task
        self.spec = PreprocessingSpec(
            kind="table", table=TableInput(numbers=(NumberColumn(name="a"),)), target=TASKS[task]
        )
        settings = DatasetConfig.model_validate(config)
        plan = Plan(
            dataset="set",
            version="v1",
            config=settings,
            spec=self.spec,
            source_name="t.csv",
            items=tuple(ObjectSlice(first=0, last=1) for _ in self.items),
        )
        self.artifacts.write(KEYS.plan, plan.encode())
        request = DatasetRequest(dataset="set", version="v1", files=(), config=settings)
        self.artifacts.write(KEYS.request, request.model_dump_json().encode())
        self._patch = monkeypatch

    def write(self) -> None:
        """All work items."""
        for item, tensors in enumerate(self.items):
            found = dict(tensors) if len(tensors["position"]) else None
            self._patch.setattr(writing, "encode_item", lambda *_, found=found: found)
            writing.write_shard(self.artifacts, self.artifacts, "set", "v1", item)

    def run(self) -> Manifest:
        """Everything up to the manifest."""
        self.write()
        for shard in reversed(range(len(assign_samples(self.artifacts, "set", "v1").shards))):
            pack_shard(self.artifacts, "set", "v1", shard)
        return commit_dataset(self.artifacts, "set", "v1")

    @property
    def report(self) -> Report:
        return Report.decode(self.artifacts.read(KEYS.report))

    def features(self, manifest: Manifest, split: str) -> list[int]:
        """The features of one split, shard by shard."""
        shards = [decode_shard(self.artifacts.read(shard.key)) for shard in manifest.shards(split)]
        return [int(value) for shard in shards for value in shard["numbers"][:, 0]]
