"""Committed dataset versions in memory: real shards, manifest and keys, small synthetic samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import QUANTILES, DatasetStatistics, Manifest, NumberSummary, ShardFile
from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.data.spec import (
    CategoryColumn,
    DateColumn,
    ImageInput,
    NumberColumn,
    PreprocessingSpec,
    SequenceInput,
    TableInput,
    TargetSpec,
    TextColumn,
)
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


def reviews(samples: int, seed: int = 0) -> Tensors:
    """Texts of 3 to 12 tokens, of which two tell the class: `tokens` int32 [N, 12], `target` int64 [N]."""
    generator = np.random.default_rng(seed)
    target = np.arange(samples) % 3
    tokens = generator.integers(5, 20, (samples, 12))
    tokens[:, :2] = 2 + target[:, None]
    lengths = generator.integers(3, 13, samples)
    tokens = np.where(np.arange(12) < lengths[:, None], tokens, 0)
    return {"tokens": tokens.astype(np.int32), "target": target.astype(np.int64)}


def waves(samples: int, seed: int = 0) -> Tensors:
    """Windows of a rising, falling or level line beside noise: `sequence` float32 [N, 12, 2], `target` int64 [N]."""
    generator = np.random.default_rng(seed)
    target = np.arange(samples) % 3
    slope = np.array([1.0, -1.0, 0.0])[target]
    line = 100 + 10 * slope[:, None] * np.linspace(-1, 1, 12) + generator.normal(size=(samples, 12))
    sequence = np.stack([line, generator.normal(size=(samples, 12))], axis=2)
    sequence[generator.random((samples, 12, 2)) < 0.05] = np.nan
    return {"sequence": sequence.astype(np.float32), "target": target.astype(np.int64)}


def visits(samples: int, seed: int = 0) -> Tensors:
    """Windows of what happened beside a number: the event that comes most often tells the class.

    `sequence` float32 [N, 10, 1], `categories` int64 [N, 10, 2], `target` int64 [N].
    """
    generator = np.random.default_rng(seed)
    target = np.arange(samples) % 3
    events = np.where(
        generator.random((samples, 10)) < 0.6, target[:, None] + 1, generator.integers(0, 4, (samples, 10))
    )
    pages = generator.integers(0, 31, (samples, 10))
    return {
        "sequence": generator.normal(size=(samples, 10, 1)).astype(np.float32),
        "categories": np.stack([events, pages], axis=2).astype(np.int64),
        "target": target.astype(np.int64),
    }


def profiles(samples: int, seed: int = 0) -> Tensors:
    """A table of everything, with three labels that a number, a category and a token tell: `target` uint8 [N, 3]."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, (samples, 3))
    numbers = np.stack([target[:, 0] * 4 + generator.normal(size=samples), generator.normal(size=samples)], axis=1)
    numbers[generator.random(numbers.shape) < 0.05] = np.nan
    categories = 1 + target[:, 1:2] + 2 * generator.integers(0, 2, (samples, 1))
    tokens = generator.integers(3, 9, (samples, 6))
    tokens[:, 0] = np.where(target[:, 2], 2, tokens[:, 0])
    tokens[:, 4:] = 0
    return {
        "numbers": numbers.astype(np.float32),
        "categories": categories.astype(np.int64),
        "tokens": tokens.astype(np.int32),
        "target": target.astype(np.uint8),
    }


def text_spec() -> PreprocessingSpec:
    """One column of short texts."""
    column = TextColumn(name="text", length=12, vocabulary=tuple(f"word{index}" for index in range(18)))
    return PreprocessingSpec(kind="table", table=TableInput(texts=(column,)), target=target_spec(3))


def sequence_spec() -> PreprocessingSpec:
    """Windows of 12 rows of two numbers."""
    columns = (NumberColumn(name="x0"), NumberColumn(name="x1"))
    return PreprocessingSpec(
        kind="sequence", sequence=SequenceInput(time="t", window=12, numbers=columns), target=target_spec(3)
    )


def visits_spec() -> PreprocessingSpec:
    """Windows of 10 rows of a number and two categories, of which one is embedded."""
    window = SequenceInput(
        time="t",
        window=10,
        numbers=(NumberColumn(name="x0"),),
        categories=(
            CategoryColumn(name="event", categories=("buy", "cart", "view")),
            CategoryColumn(name="page", categories=tuple(f"p{index:02d}" for index in range(30))),
        ),
    )
    return PreprocessingSpec(kind="sequence", sequence=window, target=target_spec(3))


def profile_spec() -> PreprocessingSpec:
    """A number, a date, a category and a text, with three labels."""
    table = TableInput(
        numbers=(NumberColumn(name="x0"),),
        dates=(DateColumn(name="day", features=("elapsed",)),),
        categories=(CategoryColumn(name="kind", categories=("a", "b", "c", "d")),),
        texts=(TextColumn(name="text", length=6, vocabulary=tuple(f"word{index}" for index in range(8))),),
    )
    target = TargetSpec(task="multilabel", column="y", classes=("a", "b", "c"), separator=",")
    return PreprocessingSpec(kind="table", table=table, target=target)


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
    version: str = VERSION,
) -> Manifest:
    """Write shards and manifest."""
    keys = DatasetKeys(DATASET, version)
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
        version=version,
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
            name: summary(train["numbers"][:, index]) for index, name in enumerate(spec.table.number_names)
        }
    if spec.sequence:
        summaries["numbers"] = {
            name: summary(train["sequence"][..., index]) for index, name in enumerate(spec.sequence.number_names)
        }
    if spec.image:
        summaries["channels"] = (summary(train["image"]),)
    if spec.target.task == "regression":
        summaries["target"] = summary(target)
    elif spec.target.task == "multilabel":
        summaries["classes"] = dict(zip(spec.target.classes, target.sum(axis=0).tolist(), strict=True))
    else:
        summaries["classes"] = {label: int((target == code).sum()) for code, label in enumerate(spec.target.classes)}
    return DatasetStatistics(samples=len(target), **summaries)


def summary(values: np.ndarray) -> NumberSummary:
    """Mean, standard deviation, range and quantiles of the numbers that are there."""
    there = values[~np.isnan(values)].astype(np.float64)
    return NumberSummary(
        count=there.size,
        missing=values.size - there.size,
        mean=float(there.mean()),
        std=float(there.std()),
        minimum=float(there.min()),
        maximum=float(there.max()),
        quantiles=tuple(np.quantile(there, QUANTILES).tolist()),
    )
