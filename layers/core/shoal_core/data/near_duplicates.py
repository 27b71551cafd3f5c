"""Near-duplicates of a whole set: found once, when samples are assigned, from the hashes that encoders supply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.deduping import number_features
from shoal_core.data.near import near_groups
from shoal_core.data.pieces import FEATURE_HASH, POSITION, Layout
from shoal_core.data.places import PlaceReader
from shoal_core.data.plan import Plan
from shoal_core.data.quality.findings import NearDuplicate, NearDuplicatesReport
from shoal_core.data.reading import KeyTable, PieceReader

MAX_NEAR_SAMPLES = 2_000_000
MAX_NEAR_BYTES = 256 * 1024**2
"""Keys and hashes of a set are held in memory at once: about 70 bytes and those of the hashes, per sample."""
MAX_NEAR_EXAMPLES = 100


@dataclass(frozen=True)
class NearFound:
    """What was found.

    Attributes:
        drops: bool [N], the samples that nearly equal an earlier one.
        features: uint8 [M,16], their hashes.
        report: Their number, and the first few.
    """

    drops: NDArray[np.bool_]
    features: NDArray[np.uint8]
    report: NearDuplicatesReport


def near_wanted(plan: Plan, layout: Layout, samples: int, warnings: list[str]) -> bool:
    """Whether near-duplicates are looked for; a set too large for that is told."""
    if plan.config.near_duplicates == "off" or not layout.near:
        return False
    if samples <= MAX_NEAR_SAMPLES and samples * layout.near * 8 <= MAX_NEAR_BYTES:
        return True
    most = min(MAX_NEAR_SAMPLES, MAX_NEAR_BYTES // (layout.near * 8))
    warnings.append(
        f"Near-duplicates weren't looked for: {samples:,} samples are more than the {most:,} that are compared at once."
    )
    return False


def find_near_duplicates(plan: Plan, reader: PieceReader, table: KeyTable) -> NearFound:
    """Find samples that nearly equal an earlier one of an ordered table without exact duplicates."""
    offsets = np.concatenate([[0], np.cumsum(reader.marks[:, -1], dtype=np.int64)])
    hashes = np.concatenate([reader.read_near(item) for item in reader.items])[offsets[table.item] + table.row]
    group = near_groups(hashes)
    feature, _ = number_features(table[POSITION], table[FEATURE_HASH])
    _, first, place = np.unique(group, return_index=True, return_inverse=True)
    twin = first[place.reshape(-1)]
    # Rows with equal features are one sample here: they stay or go together.
    drops = feature != feature[twin]
    gone = np.flatnonzero(drops)
    places = PlaceReader(reader, plan)
    examples = tuple(
        NearDuplicate(place=places.of(table, index), twin=places.of(table, int(twin[index])))
        for index in gone[:MAX_NEAR_EXAMPLES].tolist()
    )
    features: NDArray[Any] = np.unique(table[FEATURE_HASH][gone], axis=0) if len(gone) else np.empty((0, 16), np.uint8)
    dropped = plan.config.near_duplicates == "drop" and bool(len(gone))
    return NearFound(drops, features, NearDuplicatesReport(samples=len(gone), dropped=dropped, examples=examples))
