"""A split for torch. torch is no dependency: it is looked for when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shoal.errors import BadRequest

if TYPE_CHECKING:
    from shoal._splits import Split


class TorchSplit:
    """A map-style data set of dicts of tensors. A loader's batch is read from the shards in one go.

    Raises:
        BadRequest: torch isn't installed.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        _torch()

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: _torch().as_tensor(value) for name, value in self.split[index].items()}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        batch = {name: _torch().as_tensor(value) for name, value in self.split[list(indices)].items()}
        return [{name: value[row] for name, value in batch.items()} for row in range(len(indices))]


def _torch() -> Any:  # noqa: ANN401 - a module that need not be installed
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise BadRequest("torch isn't installed.", "Install it, or use arrays() or batches().") from error
