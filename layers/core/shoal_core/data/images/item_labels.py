"""What planning found out about the files of one work item, so that a worker reads only its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.plan import Plan
from shoal_core.data.shards import Tensors, decode_shard, encode_shard
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

_MEMBER = "member"


class ItemLabels:
    """Targets of files by their numbers in the source, and what they are split by.

    Attributes:
        columns: `target` [N, ...], `group` uint8 [N,16] and `time` float64 [N], those that there are.
    """

    def __init__(self, members: NDArray[np.int64], columns: Tensors) -> None:
        self._rows = {member: row for row, member in enumerate(members.tolist())}
        self.columns = columns

    def row(self, member: int) -> int | None:
        """A file's row; None for one that planning left out."""
        return self._rows.get(member)

    def gather(self, rows: list[int]) -> Tensors:
        """All columns of some rows."""
        return {name: column[rows] for name, column in self.columns.items()}


def write_item_labels(
    artifacts: ObjectStore,
    keys: DatasetKeys,
    members: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    ranges: Sequence[tuple[int, int]],
) -> None:
    """Write what is known of the files of all items; nothing, when there are no columns.

    Args:
        artifacts: Where it goes.
        keys: Of the dataset version.
        members: The files' numbers in their sources: int64 [N].
        columns: As many rows each.
        ranges: The rows of each item.
    """
    for item, (start, stop) in enumerate(ranges if columns else ()):
        parts = {name: column[start:stop] for name, column in columns.items()}
        artifacts.write(keys.item_labels(item), encode_shard({_MEMBER: members[start:stop], **parts}))


def read_item_labels(artifacts: ObjectStore, plan: Plan, item: int) -> ItemLabels | None:
    """What `write_item_labels` wrote; None where a plan's samples need nothing of it.

    Raises:
        NotFound: It isn't there.
        BadInput: It is damaged.
    """
    if not plan.labelled and plan.config.split.group is None and plan.config.split.time is None:
        return None
    key = DatasetKeys(plan.dataset, plan.version).item_labels(item)
    tensors = decode_shard(artifacts.read(key), key)
    return ItemLabels(tensors.pop(_MEMBER), tensors)
