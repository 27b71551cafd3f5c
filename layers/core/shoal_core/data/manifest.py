"""The manifest: the index of a committed dataset version, written last. A reader starts here."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


class NumberSummary(Frozen):
    """Statistics of one number column, image channel or regression target, over the training split.

    `count` values are present and `missing` aren't; `std` is the population's (divided by `count`). With no value
    present, mean, std, minimum and maximum are 0. `quantiles` are at `QUANTILES`, from fixed logarithmic bins (within
    0.4 % of the value); `histogram` counts values in 20 bins of equal width from minimum to maximum.
    """

    count: int = Field(ge=0)
    missing: int = Field(ge=0, default=0)
    mean: float
    std: float
    minimum: float
    maximum: float
    quantiles: tuple[float, ...] = ()
    mode: float | None = None
    histogram: tuple[int, ...] = ()


class CategorySummary(Frozen):
    """Statistics of one category column over the training split.

    `cardinality` is the number of codes, len(categories) + 1: code 0 stands for missing and unknown values.
    `counts[code]` is how often a code occurs.
    """

    cardinality: int = Field(ge=1)
    counts: tuple[int, ...]


class DatasetStatistics(Frozen):
    """Statistics over the training split only.

    `channels` (images) has one entry per channel, in pixel units 0..255; `numbers` (tables and sequences, by the names
    of `number_names`), `categories` and `texts` (tokens per text) are by column name; `target` is set for regression,
    `classes` (label -> samples) for classification and multilabel. `fills` is the value that a missing number becomes,
    `bounds` are the (low, high) that numbers are clipped to, where they are. The mappings are in no special order: the
    spec has the order.
    """

    samples: int = Field(ge=0)
    channels: tuple[NumberSummary, ...] = ()
    numbers: dict[str, NumberSummary] = Field(default={})
    categories: dict[str, CategorySummary] = Field(default={})
    texts: dict[str, NumberSummary] = Field(default={})
    fills: dict[str, float] = Field(default={})
    bounds: dict[str, tuple[float, float]] = Field(default={})
    target: NumberSummary | None = None
    classes: dict[str, int] = Field(default={})


class ShardFile(Frozen):
    """One shard: its key in the artifacts bucket, samples, bytes and sha256 (hex)."""

    key: str
    samples: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str


class Manifest(Frozen):
    """`manifest.json`: a dataset version's shards by split, the spec they were encoded with, and their statistics."""

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    spec: PreprocessingSpec
    config: DatasetConfig
    inferred: tuple[str, ...] = ()
    train: tuple[ShardFile, ...]
    validation: tuple[ShardFile, ...] = ()
    test: tuple[ShardFile, ...] = ()
    statistics: DatasetStatistics
    class_counts: dict[Split, dict[str, int]] = Field(default={})

    def shards(self, split: Split) -> tuple[ShardFile, ...]:
        """The shards of one split, in order."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    @property
    def samples(self) -> dict[Split, int]:
        """Samples per split."""
        return {split: sum(shard.samples for shard in self.shards(split)) for split in SPLITS}

    @property
    def digest(self) -> str:
        """sha256 (hex) of the manifest's canonical bytes: equal for equal data and settings."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """The canonical bytes of `manifest.json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read `manifest.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The manifest can't be read: {error}.", "Upload the data again.") from error
