"""`write_shard`: encode one work item and write its piece, its index last. Running it again changes nothing."""

from __future__ import annotations

import numpy as np

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.pieces import (
    PLACE,
    POSITION,
    ROW_HASH,
    TIME,
    PieceFile,
    PieceIndex,
    encode_piece,
    layout_of,
    marks_of,
    order_rows,
    sketch_rows,
)
from shoal_core.data.plan import Plan
from shoal_core.data.quality.items import ItemQuality
from shoal_core.data.requests import read_request
from shoal_core.data.samples import encode_item
from shoal_core.data.shards import Tensors, tensor_offsets
from shoal_core.data.sides import SideRule
from shoal_core.data.statistics import count_classes
from shoal_core.errors import NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore


def write_shard(uploads: ObjectStore, artifacts: ObjectStore, dataset: str, version: str, item: int) -> PieceIndex:
    """Encode one work item of a planned dataset version.

    Memory is bounded by the work item. The bytes written depend on the upload and the plan alone, so a killed or
    repeated call ends in the same objects.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where the plan is and the pieces go.
        dataset: Name of the dataset.
        version: Its version.
        item: Number of the work item, from 0.

    Raises:
        NotFound: No such plan or work item.
        BadInput: The source as a whole can't be read any further.
    """
    keys = DatasetKeys(dataset, version)
    if artifacts.exists(keys.piece_index(item)):
        return PieceIndex.decode(artifacts.read(keys.piece_index(item)))
    plan = Plan.decode(artifacts.read(keys.plan))
    if not 0 <= item < len(plan.items):
        raise NotFound(f"Dataset {dataset!r} version {version!r} has no work item {item}.")
    request = read_request(artifacts, keys)
    quality = ItemQuality(keys, item, plan.config)
    tensors = encode_item(uploads, artifacts, request, plan, item, quality.drops)
    index = PieceIndex(item=item, samples=0)
    if tensors is not None and len(tensors[POSITION]):
        index = _write_piece(artifacts, keys, plan, item, tensors)
    findings = quality.write(artifacts, plan.drops)
    index = index.model_copy(update={"drops": quality.drops.total(), "findings": findings})
    artifacts.write(keys.piece_index(item), index.encode(), "application/json")
    return index


def _write_piece(artifacts: ObjectStore, keys: DatasetKeys, plan: Plan, item: int, tensors: Tensors) -> PieceIndex:
    """Write the tensors of at least one sample; the index, still without what was left out."""
    if TIME in tensors:
        tensors[TIME] = tensors[TIME].astype(np.float64)
    layout = layout_of(tensors)
    order = order_rows(tensors[POSITION], tensors[ROW_HASH])
    if tensors[PLACE].dtype.kind not in "iu":
        names = canonical_json(tensors[PLACE][order].tolist())
        artifacts.write(keys.places(item), names, "application/json")
    data = encode_piece(tensors, layout, order)
    key = keys.piece(item)
    artifacts.write(key, data)
    return PieceIndex(
        item=item,
        samples=len(order),
        file=PieceFile(key=key, bytes=len(data), starts=tensor_offsets(data)),
        layout=layout,
        marks=marks_of(tensors[POSITION][order]),
        sketch=sketch_rows(tensors[ROW_HASH], tensors.get(TIME)),
        class_counts=_class_counts(plan, tensors),
    )


def _class_counts(plan: Plan, tensors: Tensors) -> dict[Split, dict[str, int]]:
    classes = plan.spec.target.classes
    if not classes:
        return {}
    sides = SideRule(plan.config.split, plan.config.seed).of(tensors)
    return {
        split: dict(zip(classes, count_classes(tensors["target"][sides == side], len(classes)).tolist(), strict=True))
        for side, split in enumerate(SPLITS)
        if (sides == side).any()
    }
