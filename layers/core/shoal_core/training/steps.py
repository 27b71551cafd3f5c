"""What the steps of all schemes have in common: where batches come from, what runs a graph, and how a run diverges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from shoal_core.data.shards import Tensors
from shoal_core.errors import TrainingDiverged
from shoal_core.training.settings import TrainingSettings

NEW = "new."
"""What a graph's outputs begin with that are new values of its inputs."""


class Batches(Protocol):
    """What gives a worker its batches."""

    samples: int

    def batches(self, first: int, count: int) -> Iterator[Tensors]:
        """Batches `first` to `first + count - 1`."""
        ...


class Graph(Protocol):
    """What runs a graph, such as `sessions.Session`."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Outputs by name, of inputs by name; feeds that the graph doesn't ask for are left out."""
        ...


def group(values: Tensors, prefix: str) -> Tensors:
    """The values whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in values.items() if name.startswith(prefix)}


def diverged(settings: TrainingSettings, round_: int, worker: int | None, what: str) -> TrainingDiverged:
    """The error of a run whose numbers stopped being numbers; `what` says which and when, None is no one worker's."""
    whose = "" if worker is None else f", worker {worker}"
    return TrainingDiverged(
        f"Run {settings.run_id!r} diverged in round {round_}{whose}: {what}.",
        f"Lower training.learning_rate in dataset.yaml (it was {settings.learning_rate:g}; try "
        f"{settings.learning_rate / 10:g}) and upload again.",
    )
