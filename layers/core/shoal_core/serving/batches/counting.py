"""Where a job is cut into pieces."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from shoal_core.data.cutting import MAX_ITEM_BYTES, MAX_ITEMS, cut_evenly
from shoal_core.errors import BadDataset, TooLarge
from shoal_core.serving.batches.request import BatchRequest

PIECE_BYTES = 16 * 1024**2
_MOST_BYTES = MAX_ITEMS * MAX_ITEM_BYTES


def cut_pieces(
    request: BatchRequest, sources: Sequence[int], weights: Sequence[int], records: int, most: int
) -> list[tuple[int, int]]:
    """Ranges (start, stop) of neighbours that make a piece: of one source each, about even in bytes.

    A piece has about `PIECE_BYTES` and at most `most` records (or what the settings say), unless that made more pieces
    than the Map takes: then they grow.

    Args:
        request: The job.
        sources: The number of the file that each entry lies in.
        weights: Bytes of each entry.
        records: Records of all entries.
        most: Records of a piece.

    Raises:
        BadDataset: There is no entry.
        TooLarge: Too many bytes or files for one job.
    """
    if not weights:
        raise BadDataset(f"Job {request.job!r} holds no records.", "Upload files with content.")
    size = sum(weights)
    if size > _MOST_BYTES:
        raise TooLarge(
            f"The job has {size / 1024**3:,.1f} GiB of data: more than the {_MOST_BYTES / 1024**3:,.0f} GiB that "
            f"{MAX_ITEMS} pieces hold.",
            "Upload it as several jobs.",
        )
    borders = [place for place, (one, two) in enumerate(itertools.pairwise(sources), 1) if one != two]
    if len(borders) >= MAX_ITEMS:
        raise TooLarge(
            f"The job has {len(borders) + 1:,} tables, archives and runs of loose files between them.",
            f"Upload at most {MAX_ITEMS} as one job.",
        )
    wanted = max(math.ceil(size / PIECE_BYTES), math.ceil(records / (request.config.piece_records or most)))
    # Each border may cut a piece in two.
    cuts = cut_evenly(weights, max(1, min(MAX_ITEMS - len(borders), wanted)))
    bounds = sorted({0, *borders, len(weights), *itertools.chain.from_iterable(cuts)})
    return list(itertools.pairwise(bounds))
