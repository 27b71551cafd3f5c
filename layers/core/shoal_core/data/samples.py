"""Encoding one work item: raw images or rows in, tensors with content hashes out."""

from __future__ import annotations

import numpy as np

from shoal_core.data.config import DatasetRequest
from shoal_core.data.images.encoding import encode_images
from shoal_core.data.pieces import FEATURE_HASH, POSITION
from shoal_core.data.plan import Plan, TableSlice
from shoal_core.data.report import DropTally
from shoal_core.data.shards import Tensors
from shoal_core.data.splits import split_position
from shoal_core.data.tables.encoding import encode_table
from shoal_core.store import ObjectStore


def encode_item(
    uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, plan: Plan, item: int, drops: DropTally
) -> Tensors | None:
    """Encode one work item; None when no sample is left.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where planning left what belongs to the item (labels, blocks).
        request: The dataset version's request.
        plan: Its plan.
        item: Number of the work item.
        drops: Takes what is left out.

    Returns:
        The spec's tensors, `target`, `feature_hash`, `row_hash` uint8 [N,16], `position` int64 [N] and `place` (texts)
        [N], in the order of the source.
    """
    piece = plan.items[item]
    if isinstance(piece, TableSlice):
        encoded = encode_table(uploads, plan, piece, drops)
    else:
        encoded = encode_images(uploads, request, plan, piece, drops)
    if encoded is not None:
        hashes = [row.tobytes() for row in encoded[FEATURE_HASH]]
        encoded[POSITION] = np.array([split_position(plan.config.seed, digest) for digest in hashes], np.int64)
    return encoded
