"""`write_shard`: encode one work item and write its pieces, its index last. Running it again changes nothing."""

from __future__ import annotations

import hashlib

import numpy as np

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.pieces import PLACE, PieceFile, PieceIndex, split_piece
from shoal_core.data.plan import Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import read_request
from shoal_core.data.samples import encode_item
from shoal_core.data.shards import Tensors, encode_shard
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
    drops = DropTally()
    tensors = encode_item(uploads, artifacts, request, plan, item, drops)
    parts = split_piece(tensors, plan.config.split) if tensors else {}
    files: dict[Split, PieceFile] = {}
    for split, part in parts.items():
        places = canonical_json(part.pop(PLACE).tolist())
        artifacts.write(keys.places(split, item), places, "application/json")
        files[split] = _write(artifacts, keys.piece(split, item), part)
    index = PieceIndex(
        item=item,
        samples=sum(file.samples for file in files.values()),
        files=files,
        class_counts=_class_counts(parts, plan.spec.target.classes),
        drops=drops.total(),
    )
    artifacts.write(keys.piece_index(item), index.encode(), "application/json")
    return index


def _write(artifacts: ObjectStore, key: str, tensors: Tensors) -> PieceFile:
    data = encode_shard(tensors)
    artifacts.write(key, data)
    return PieceFile(key=key, samples=len(tensors["target"]), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _class_counts(parts: dict[Split, Tensors], classes: tuple[str, ...]) -> dict[Split, dict[str, int]]:
    if not classes:
        return {}
    return {
        split: dict(zip(classes, np.bincount(part["target"], minlength=len(classes)).tolist(), strict=True))
        for split, part in parts.items()
    }
