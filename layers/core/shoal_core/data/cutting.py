"""Cutting a set into work items that are even in bytes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from shoal_core.errors import TooLarge

ITEM_BYTES = 32 * 1024**2
ENCODED_BYTES = 64 * 1024**2
# Items of a large set grow up to here; a function encodes that much within its memory and time (docs/scale.md).
MAX_ITEM_BYTES = 128 * 1024**2
MAX_ENCODED_BYTES = 128 * 1024**2
# What both clouds take: Step Functions runs 10,000 children of a Distributed Map, but a worker of the embedded cloud's
# interpreter, moto's, hangs near 990 items. And packers read from every piece: what they do grows with the square.
MAX_ITEMS = 900
MIN_ITEM_SAMPLES = 32
# Tables of text are read once from end to end while they are planned, by one function in its 15 minutes; Parquet isn't.
MAX_SCANNED_BYTES = 32 * 1024**3


def count_items(samples: int, source_bytes: int, sample_bytes: int, workers: int | None) -> int:
    """How many work items a set is cut into.

    About 32 MB of source and 64 MB of encoded samples each; at least `max(4, 2 * workers)` when that leaves 32 samples
    in each; at most 900, which then grow up to 128 MB of either.

    Args:
        samples: Samples of the set.
        source_bytes: Bytes to read.
        sample_bytes: Bytes of one encoded sample.
        workers: The number of workers asked for.

    Raises:
        TooLarge: 900 items of the largest size can't hold the set.
    """
    for size, most, what, fix in (
        (source_bytes, MAX_ITEM_BYTES, "of data", "Upload it as several datasets, or a sample of it."),
        (
            samples * sample_bytes,
            MAX_ENCODED_BYTES,
            "once it is encoded",
            "Use a smaller image_size, or fewer columns.",
        ),
    ):
        if size > MAX_ITEMS * most:
            raise TooLarge(
                f"The set has {size / 1024**3:,.1f} GiB {what}: more than the {MAX_ITEMS * most / 1024**3:,.0f} GiB "
                f"that {MAX_ITEMS} work items hold.",
                fix,
            )
    by_bytes = max(math.ceil(source_bytes / ITEM_BYTES), math.ceil(samples * sample_bytes / ENCODED_BYTES))
    by_workers = min(max(4, 2 * (workers or 0)), samples // MIN_ITEM_SAMPLES)
    return min(MAX_ITEMS, max(1, by_bytes, by_workers))


def check_scanned(size: int) -> None:
    """Refuse tables of text that one function can't read to their end in its time. Raises `TooLarge`.

    Args:
        size: Bytes of the set's CSV and JSON files as they are stored.
    """
    if size > MAX_SCANNED_BYTES:
        raise TooLarge(
            f"The set has {size / 1024**3:,.1f} GiB of CSV or JSON: more than the {MAX_SCANNED_BYTES / 1024**3:,.0f} "
            "GiB that are read once while the set is planned.",
            "Write them as Parquet, or upload them as several datasets.",
        )


def cut_evenly(weights: Sequence[int], pieces: int) -> list[tuple[int, int]]:
    """Ranges (start, stop) of neighbours with about equal sums of weights; none is empty, at most `pieces` of them."""
    sums = list(itertools.accumulate(weights))
    if not sums:
        return []
    total = sums[-1]
    bounds = [0]
    for piece in range(1, pieces):
        bounds.append(max(bounds[-1], min(len(sums), bisect.bisect_left(sums, total * piece / pieces) + 1)))
    bounds.append(len(sums))
    return [(start, stop) for start, stop in itertools.pairwise(bounds) if stop > start]
