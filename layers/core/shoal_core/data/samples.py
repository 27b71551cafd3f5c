"""Encoding one work item: raw images or rows in, tensors with content hashes out."""

from __future__ import annotations

from shoal_core.data.config import DatasetRequest
from shoal_core.data.images.encoding import encode_images
from shoal_core.data.pieces import FEATURE_HASH, POSITION
from shoal_core.data.plan import Plan, RowGroupSlice, SequenceSlice, TableParts, TableSlice
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList
from shoal_core.data.sequences.encoding import encode_series
from shoal_core.data.shards import Tensors
from shoal_core.data.splits import split_positions
from shoal_core.data.tables.encoding import encode_table
from shoal_core.data.texts.encoding import encode_text_files
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
        The spec's tensors, `target`, `feature_hash`, `row_hash` uint8 [N,16], `position` int64 [N] and `place` [N]
        (names, or the numbers of `tables.places`), in the order of the source. Tables that are split by a column have
        its `group` or `time`, too: see `tables.encoding`.
    """
    piece = plan.items[item]
    if isinstance(piece, TableSlice | RowGroupSlice | TableParts):
        encoded = encode_table(uploads, artifacts, plan, piece, drops)
    elif isinstance(piece, SequenceSlice):
        encoded = encode_series(uploads, artifacts, plan, item, drops)
    elif plan.spec.kind == "table":
        encoded = encode_text_files(uploads, artifacts, FileList(artifacts, request), plan, item, drops)
    else:
        encoded = encode_images(uploads, artifacts, FileList(artifacts, request), plan, item, drops)
    if encoded is not None:
        encoded[POSITION] = split_positions(plan.config.seed, encoded[FEATURE_HASH])
    return encoded
