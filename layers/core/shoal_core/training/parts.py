"""A round that outlasts its worker's function: how far the worker is when the time is over, and where it goes on.

A function has 15 minutes. A worker measures its steps, and stops while there is time to write down how far it is. The
state machine retries it, and the next attempt goes on from there: whatever the machine's speed, and however often a
round is cut, its update has the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shoal_core.data.shards import Tensors, decode_shard, encode_shard
from shoal_core.errors import BadInput, NotFound
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore

RESERVE_SECONDS = 60.0
"""What is left for writing values of a few hundred megabytes to S3, and for whatever else a function does."""
_LOSSES = "losses"
_VALUE = "value."


@dataclass(frozen=True)
class Part:
    """How far a worker is in a round: the values after its steps so far, by their names in the step graph, and each
    step's loss."""

    values: Tensors
    losses: tuple[float, ...]

    def encode(self) -> bytes:
        """The file's bytes."""
        values = {_VALUE + name: array for name, array in self.values.items()}
        return encode_shard({**values, _LOSSES: np.array(self.losses, np.float64)})

    @classmethod
    def decode(cls, data: bytes, name: str) -> Part:
        """Read a part; arrays are read-only views of `data`. Raises `BadInput`."""
        tensors = decode_shard(data, name)
        losses = tensors.pop(_LOSSES, None)
        if losses is None or losses.dtype != np.float64 or not all(key.startswith(_VALUE) for key in tensors):
            raise BadInput(f"{name} isn't a part of a round.", "Delete it: the worker begins its round again.")
        return cls({key.removeprefix(_VALUE): array for key, array in tensors.items()}, tuple(losses.tolist()))


class TimeIsOver(Exception):
    """Raised between two steps, with how far the worker is."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"after {len(part.losses)} steps")
        self.part = part


class StepClock:
    """Tells whether there is time for another step, by the longest one so far.

    Args:
        seconds_left: Gives the seconds until the function is ended.
    """

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self._seconds_left = seconds_left
        self._left = seconds_left()
        self._longest = 0.0

    def is_over(self) -> bool:
        """Whether to stop; asked after every step, so that each attempt takes at least one."""
        left = self._seconds_left()
        self._longest = max(self._longest, self._left - left)
        self._left = left
        return left < RESERVE_SECONDS + 2 * self._longest


def read_part(artifacts: ObjectStore, run_id: str, round_: int, worker: int) -> Part | None:
    """How far an earlier attempt came; None where there was none, or none had to stop. Raises `BadInput`."""
    key = RunKeys(run_id).part(round_, worker)
    try:
        return Part.decode(artifacts.read(key), f"Part {key!r}")
    except NotFound:
        return None
