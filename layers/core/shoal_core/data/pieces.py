"""Pieces: one work item's encoded samples per split, ordered by split position, with their hashes.

Tensors of a piece: the spec's, `target`, `feature_hash` and `row_hash` uint8 [N,16], `position` int64 [N]. Samples with
equal features are neighbours, and a range of positions is a range of rows, so commit reads every byte once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.report import Drops
from shoal_core.data.shards import Tensors
from shoal_core.data.splits import HASH_BYTES, split_indices
from shoal_core.errors import BadInput

FEATURE_HASH = "feature_hash"
ROW_HASH = "row_hash"
POSITION = "position"
PLACE = "place"
"""Where a sample stood in its source (a member's name, a line): text, kept beside the piece, not in it."""


class PieceFile(BaseModel):
    """One split's part of a piece: its key, samples, bytes and sha256 (hex)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    samples: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str


class PieceIndex(BaseModel):
    """`pieces/piece-00000.json`: one work item's outcome, written after its tensors.

    Statistics are made at commit, from what is left after dedupe over the whole set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    item: int = Field(ge=0)
    samples: int = Field(ge=0)
    files: dict[Split, PieceFile] = {}
    class_counts: dict[Split, dict[str, int]] = {}
    drops: Drops = Drops()

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> PieceIndex:
        """Read a piece's index. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The piece's index can't be read: {error}.", "Upload the data again.") from error


def split_piece(tensors: Tensors, split: SplitConfig) -> dict[Split, Tensors]:
    """Divide encoded samples by split and order each part by (position, row hash, order of appearance)."""
    positions = tensors[POSITION]
    order = np.lexsort((*hash_words(tensors[ROW_HASH])[::-1], positions))
    sides = split_indices(positions[order], split)
    parts: dict[Split, Tensors] = {}
    for index, name in enumerate(SPLITS):
        chosen = order[sides == index]
        if chosen.size:
            parts[name] = {key: array[chosen] for key, array in tensors.items()}
    return parts


def hash_array(hashes: Sequence[bytes]) -> NDArray[np.uint8]:
    """Content hashes as one array: uint8 [N,16]."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), HASH_BYTES)


def hash_words(hashes: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """uint8 [N,16] hashes as two big-endian words of 64 bits, which sort as the hashes do."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
