"""Faults to inject into the embedded cloud, so that tests can prove that they do no harm.

The environment variable `SHOAL_FAULTS` holds settings divided by semicolons:

| setting | meaning |
|---|---|
| `duplicate-s3-events=P` | with probability P, an S3 event is delivered twice |
| `delay-s3-events=S` | every S3 event waits between 0 and S seconds, so events also overtake each other |
| `refuse-stream-records=P` | with probability P, PutRecords refuses a record as throttled |
| `schedule-period=S` | enabled rules fire every S seconds, whatever their rate, so schedules come early and often |
| `seed=N` | seed of the random choices, 0 when not given |

Example: `SHOAL_FAULTS="duplicate-s3-events=0.5;delay-s3-events=0.2;seed=1"`.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from shoal_core.errors import BadConfig

VARIABLE = "SHOAL_FAULTS"
_PROBABILITY = "duplicate-s3-events"
_DELAY = "delay-s3-events"
_REFUSE = "refuse-stream-records"
_PERIOD = "schedule-period"
_SEED = "seed"


@dataclass(frozen=True)
class EventFaults:
    """What to do to S3 events.

    Attributes:
        duplicate: Probability in [0, 1] that an event is delivered twice.
        delay: Longest wait before a delivery, in seconds.
        seed: Seed of the choices.
        refuse_records: Probability in [0, 1] that PutRecords refuses a record.
        schedule_period: Seconds between two firings of an enabled rule; 0 leaves its rate alone.
    """

    duplicate: float = 0.0
    delay: float = 0.0
    seed: int = 0
    refuse_records: float = 0.0
    schedule_period: float = 0.0

    @property
    def any(self) -> bool:
        """Whether there is anything to inject into S3's events."""
        return self.duplicate > 0 or self.delay > 0


class FaultPlan:
    """Draws the deliveries of one event: one wait in seconds for every time that it is delivered."""

    def __init__(self, faults: EventFaults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._lock = threading.Lock()

    def deliveries(self) -> list[float]:
        """Waits in seconds, one a delivery; `[0.0]` without faults."""
        if not self._faults.any:
            return [0.0]
        with self._lock:
            count = 2 if self._random.random() < self._faults.duplicate else 1
            return [self._random.uniform(0, self._faults.delay) for _ in range(count)]


def parse_faults(text: str) -> EventFaults:
    """Read `SHOAL_FAULTS`. Raises `BadConfig` for a setting that doesn't exist or isn't a number."""
    values: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, value = part.partition("=")
        if name not in (_PROBABILITY, _DELAY, _REFUSE, _PERIOD, _SEED):
            raise BadConfig(
                f"{VARIABLE} has no setting {name!r}.",
                f"Use {_PROBABILITY}=P, {_DELAY}=SECONDS, {_REFUSE}=P, {_PERIOD}=SECONDS and {_SEED}=N.",
            )
        try:
            values[name] = float(value)
        except ValueError:
            raise BadConfig(f"{VARIABLE} sets {name} to {value!r}, not a number.", f"Write {name}=0.5, say.") from None
    return EventFaults(
        duplicate=values.get(_PROBABILITY, 0.0),
        delay=values.get(_DELAY, 0.0),
        seed=int(values.get(_SEED, 0)),
        refuse_records=values.get(_REFUSE, 0.0),
        schedule_period=values.get(_PERIOD, 0.0),
    )
