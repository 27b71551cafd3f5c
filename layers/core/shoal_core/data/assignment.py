"""The assignment: which samples each final shard takes. `assignment.json` is written once, after its tables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.pieces import Layout
from shoal_core.data.quality.findings import NearDuplicatesReport
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen


class ShardRange(Frozen):
    """One final shard: its split, its number there, and its ranges [low, high) of positions, rising."""

    split: Split
    index: int = Field(ge=0)
    ranges: tuple[tuple[int, int], ...]


class Move(Frozen):
    """Samples that a guard moved: the hash of their features or group (hex), and where to."""

    unit: str
    split: Split


class Assignment(Frozen):
    """`assignment.json`.

    `layout` is None, and there are no shards, when no sample is left. `cuts` are the first time of validation and of
    test (None: later than all). `examples` is how many left-out samples each shard shows.
    """

    schema_version: Literal[1] = 1
    samples: int = Field(ge=0)
    layout: Layout | None = None
    shards: tuple[ShardRange, ...] = ()
    moves: tuple[Move, ...] = ()
    cuts: tuple[float | None, float | None] | None = None
    near_duplicates: NearDuplicatesReport | None = None
    examples: int = Field(ge=0, default=0)
    warnings: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> Assignment:
        """Read `assignment.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The assignment can't be read: {error}.", "Upload the data again.") from error
