"""Committed dataset versions in memory: real shards, manifest and keys, small synthetic samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import DatasetStatistics, Manifest, NumberSummary, ShardFile
from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.data.spec import ImageInput, NumberColumn, PreprocessingSpec, TableInput, TargetSpec
from shoal_core.keys import DatasetKeys
from tests.support.stores import MemoryStore

DATASET, VERSION = "tiny", "v1"


def blobs(samples: int, classes: int = 3, features: int = 4, seed: int = 0) -> Tensors:
    """Gaussian blobs around one corner per class: `numbers` float32 [N, F], `target` int64 [N]."""
    generator = np.random.default_rng(seed)
    target = np.arange(samples) % classes
    centres = np.random.default_rng(99).normal(size=(classes, features)) * 3
    numbers = centres[target] + generator.normal(size=(samples, features))
    return {"numbers": numbers.astype(np.float32), "target": target.astype(np.int64)}


def lines(samples: int, features: int = 4, seed: int = 0) -> Tensors:
    """A noisy linear target far from 0: `numbers` float32 [N, F], `target` float32 [N]."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(samples, features))
    target = 1000 + numbers @ np.arange(1, features + 1) * 20 + generator.normal(size=samples)
    return {"numbers": numbers.astype(np.float32), "target": target.astype(np.float32)}


def drawings(samples: int, side: int = 8, seed: int = 0) -> Tensors:
    """Noisy pictures of a horizontal bar, a vertical bar or a frame: `image` uint8 [N, 1, S, S], `target` int64 [N]."""
    generator = np.random.default_rng(seed)
    target = np.arange(samples) % 3
    images = generator.integers(0, 60, (samples, 1, side, side))
    for image, kind, place in zip(images, target, generator.integers(1, side - 1, samples), strict=True):
        if kind == 0:
            image[0, place] += 150
        elif kind == 1:
            image[0, :, place] += 150
        else:
            image[0, [0, -1]] += 150
    return {"image": images.astype(np.uint8), "target": target.astype(np.int64)}


def table_spec(features: int = 4, classes: int = 3) -> PreprocessingSpec:
    """A table of numbers; `classes` = 0 means regression."""
    return PreprocessingSpec(
        kind="table",
        table=TableInput(numbers=tuple(NumberColumn(name=f"x{index}") for index in range(features))),
        target=target_spec(classes),
    )


def image_spec(side: int = 8, classes: int = 3) -> PreprocessingSpec:
    """Grey square images."""
    return PreprocessingSpec(
        kind="image", image=ImageInput(height=side, width=side, channels=1), target=target_spec(classes)
    )


def target_spec(classes: int) -> TargetSpec:
    """Classes a, b, c ... or a number."""
    if not classes:
        return TargetSpec(task="regression", column="y")
    return TargetSpec(task="classification", column="y", classes=tuple("abcdefghijklmnopqrstuvwxyz"[:classes]))


def commit(
    store: MemoryStore,
    spec: PreprocessingSpec,
    splits: Mapping[str, Tensors],
    shard_samples: int = 64,
    config: DatasetConfig | None = None,
) -> Manifest:
    """Write shards and manifest."""
    keys = DatasetKeys(DATASET, VERSION)
    files: dict[str, tuple[ShardFile, ...]] = {}
    for split, tensors in splits.items():
        entries = []
        for index, start in enumerate(range(0, len(tensors["target"]), shard_samples)):
            part = {name: array[start : start + shard_samples] for name, array in tensors.items()}
            data = encode_shard(part)
            store.write(keys.shard(split, index), data)
            entries.append(
                ShardFile(
                    key=keys.shard(split, index),
                    samples=len(part["target"]),
                    bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                )
            )
        files[split] = tuple(entries)
    manifest = Manifest(
        dataset=DATASET,
        version=VERSION,
        spec=spec,
        config=config or DatasetConfig(),
        train=files.get("train", ()),
        validation=files.get("validation", ()),
        test=files.get("test", ()),
        statistics=statistics(spec, splits["train"]) if "train" in splits else DatasetStatistics(samples=0),
    )
    store.write(keys.manifest, manifest.encode())
    return manifest


def statistics(spec: PreprocessingSpec, train: Tensors) -> DatasetStatistics:
    """Of the training split."""
    target = train["target"]
    summaries: dict[str, object] = {}
    if spec.table:
        summaries["numbers"] = {
            column.name: summary(train["numbers"][:, index]) for index, column in enumerate(spec.table.numbers)
        }
    if spec.image:
        summaries["channels"] = (summary(train["image"]),)
    if spec.target.task == "regression":
        summaries["target"] = summary(target)
    else:
        summaries["classes"] = {label: int((target == code).sum()) for code, label in enumerate(spec.target.classes)}
    return DatasetStatistics(samples=len(target), **summaries)


def summary(values: np.ndarray) -> NumberSummary:
    """Mean, standard deviation and range."""
    values = values.astype(np.float64)
    return NumberSummary(
        count=values.size,
        mean=float(values.mean()),
        std=float(values.std()),
        minimum=float(values.min()),
        maximum=float(values.max()),
    )
