"""The targets of one work item's files, written by planning, so that a worker reads only its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.shards import decode_shard, encode_shard
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore


def write_item_labels(
    artifacts: ObjectStore, keys: DatasetKeys, item: int, members: NDArray[np.int64], targets: NDArray[Any]
) -> None:
    """Write the labelled files of an item: their numbers in the source int64 [N], and their targets [N, ...]."""
    artifacts.write(keys.item_labels(item), encode_shard({"member": members, "target": targets}))


def read_item_labels(artifacts: ObjectStore, keys: DatasetKeys, item: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """What `write_item_labels` wrote. Raises `NotFound`, or `BadInput` for a damaged object."""
    key = keys.item_labels(item)
    tensors = decode_shard(artifacts.read(key), key)
    return tensors["member"], tensors["target"]
