"""What the functions that train have: the stack's memory for them, and the processors that come with it."""

from __future__ import annotations

from pydantic import Field

from shoal_core.frozen import Frozen

# "At 1,769 MB, a function has the equivalent of one vCPU":
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MB_PER_VCPU = 1769
# How much faster steps are with more threads, as a power of their number: docs/decisions/2026-11-22-training-memory.md.
_MORE_THREADS = 0.4


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
        return float(self.threads**_MORE_THREADS)


ONE_VCPU = Worker()
"""What a stack has that says nothing else."""
