"""What the functions that train have: the stack's memory for them, and the processors that come with it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from shoal_core.data.config_types import Recipe
from shoal_core.frozen import Frozen

# "At 1,769 MB, a function has the equivalent of one vCPU":
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MB_PER_VCPU = 1769
# How much faster steps are with more threads, as a power of their number: docs/decisions/2026-11-22-training-memory.md.
_MORE_THREADS = 0.4
# Recipes of many small nodes, and from how many numbers of a matrix on a second thread pays: the same page has what was
# measured.
_LEAST_SHARED: Mapping[Recipe, int] = {"linear": 200_000, "mlp": 200_000, "rnn": 50_000}


class Worker(Frozen):
    """One of the functions that share a run.

    Attributes:
        memory_mb: As the stack's `TrainingMemory` says.
    """

    memory_mb: int = Field(default=MB_PER_VCPU, ge=128)

    @property
    def threads(self) -> int:
        """Of ONNX Runtime: as many as there are whole processors."""
        return max(1, self.memory_mb // MB_PER_VCPU)

    @property
    def bytes(self) -> int:
        """Its memory."""
        return self.memory_mb << 20

    @property
    def gigabytes(self) -> float:
        """Its memory, as it is billed."""
        return self.memory_mb / 1024

    @property
    def speed(self) -> float:
        """Steps a second beside those of one thread, about."""
        return speed_up(self.threads)


ONE_VCPU = Worker()
"""What a stack has that says nothing else."""


def speed_up(threads: int) -> float:
    """Steps a second with so many threads beside those of one, about."""
    return float(threads**_MORE_THREADS)


def useful_threads(recipe: Recipe, largest: int, threads: int) -> int:
    """How many of a worker's threads make a recipe's steps faster: one, where nodes are too small to share.

    Args:
        recipe: The run's.
        largest: Numbers of its largest parameter.
        threads: What the worker has.
    """
    return 1 if largest < _LEAST_SHARED.get(recipe, 0) else threads
