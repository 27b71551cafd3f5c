"""How workers share a run: which scheme, with which rounds, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.config_types import Compression, Optimizer, Scheme
from shoal_core.errors import BadConfig

if TYPE_CHECKING:  # which are made with what is decided here
    from shoal_core.training.settings import TrainingSettings

OUTER_LEARNING_RATE = 0.7
"""Of `diloco`, where none is asked for: docs/decisions/2026-11-21-three-schemes.md."""
MAX_BATCH_SIZE = 8192
SLOWDOWN = 1.1
"""How much longer a run may take by synchronous steps for `auto` to choose them."""

# Up to so many workers share a run by plain averages.
_FEW_WORKERS = 2
_FEW_ROUNDS, _MANY_ROUNDS, _STEPS_BETWEEN = 10, 100, 16

# "Roughly 100-200 milliseconds" for small objects and first bytes:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html (November 2026). One function's
# network isn't documented; 75 MB/s (600 Mbit/s) is assumed.
S3_LATENCY, S3_BANDWIDTH = 0.15, 75e6
READS_AT_ONCE = 8
"""Updates that a merge reads at once: one after the other, those of 40 workers would be 40 times S3's latency."""
# Step Functions and the invocation of a function between two tasks: measured on the embedded cloud (30 ms a task).
TASK_SECONDS = 0.03
_BYTES: Mapping[Compression, float] = {"none": 4.0, "bf16": 2.0, "int8": 1.0}
# Forward alone, of a step that goes forward once and back twice.
_SCORING = 1 / 3


@dataclass(frozen=True)
class RoundCost:
    """What a round costs beside its steps.

    Attributes:
        checkpoint: Bytes that each worker and the merge read, and the merge writes.
        update: Bytes that each worker writes and the merge reads.
        scoring: Seconds of scoring the validation samples.
    """

    checkpoint: float
    update: float
    scoring: float

    def seconds(self, workers: int) -> float:
        """Of one round: two tasks one after the other, a worker's and the merge's."""
        return 2 * TASK_SECONDS + self._worker + self._merge(workers)

    def billed_seconds(self, workers: int) -> float:
        """Of one round, of all its functions together."""
        return workers * self._worker + self._merge(workers)

    @property
    def _worker(self) -> float:
        return 2 * S3_LATENCY + (self.checkpoint + self.update) / S3_BANDWIDTH

    def _merge(self, workers: int) -> float:
        waits = 2 + math.ceil(workers / READS_AT_ONCE)
        return waits * S3_LATENCY + (2 * self.checkpoint + workers * self.update) / S3_BANDWIDTH + self.scoring


@dataclass(frozen=True)
class OuterStep:
    """Learning rate and momentum of the step from a checkpoint to the average of what workers made of it."""

    learning_rate: float
    momentum: float


@dataclass(frozen=True)
class SchemeChoice:
    """How workers share a run that left it open, why, and what to change where they don't pay; None where they do."""

    scheme: Scheme
    why: str
    warning: str | None = None


def asked_scheme(training: TrainingConfig, workers: int, optimizer: Optimizer, warnings: list[str]) -> Scheme:
    """The scheme that a run is planned by; where it's open, the one that exchanges rarely, until the network is known.

    One worker exchanges nothing: whatever is asked for, it takes its steps. Adaptive optimizers divide by a gradient's
    size, to which the noise of a small part of a batch adds: averages of many such workers go less far than one worker
    with whole batches would, for which the outer step of `diloco` makes up.
    """
    asked = training.scheme
    if asked is None or asked == "auto":
        return "diloco" if workers > _FEW_WORKERS and optimizer != "sgd" else "local"
    if workers == 1 and asked != "local":
        warnings.append(f"training.scheme: {asked} isn't used: one worker has nobody to exchange with.")
        return "local"
    return asked


def usual_rounds(workers: int, total_steps: int) -> int:
    """In how many rounds workers exchange, where nothing is asked for.

    Ten times; many workers a hundred times, if 16 steps lie between.
    """
    often = min(_MANY_ROUNDS, total_steps // _STEPS_BETWEEN) if workers > _FEW_WORKERS else 0
    return min(total_steps, max(_FEW_ROUNDS, often))


def outer_step(training: TrainingConfig, scheme: Scheme, workers: int) -> OuterStep:
    """What the merge makes of the average; the average itself for all schemes but `diloco`."""
    if scheme != "diloco":
        return OuterStep(1.0, 0.0)
    rate, momentum = training.outer_learning_rate, training.outer_momentum
    if rate is None:
        rate = OUTER_LEARNING_RATE
    return OuterStep(rate, usual_momentum(rate, workers) if momentum is None else momentum)


def usual_momentum(learning_rate: float, workers: int) -> float:
    """With which a lasting way of each round, taken at this rate r, adds up to r / (1 - momentum) = the root of W."""
    return max(0.0, round(1 - learning_rate / math.sqrt(workers), 3))


def stepwise_batch(
    config: DatasetConfig, samples: int, epochs: int, batch_size: int, workers: int, most_rounds: int
) -> int:
    """The batch size with which a run's epochs fit its rounds, of one step each.

    Args:
        config: What was asked for.
        samples: For training.
        epochs: The run's.
        batch_size: Asked for, or the usual one: kept where it fits.
        workers: The run's.
        most_rounds: That a run may have.

    Raises:
        BadConfig: The batch size that was asked for doesn't fit, or none does.
    """
    limit = config.rounds or most_rounds
    steps = math.ceil(epochs * samples / (batch_size // workers * workers))
    if steps <= limit:
        return batch_size
    needed = math.ceil(math.ceil(epochs * samples / limit) / workers) * workers
    if config.training.batch_size is None and needed <= min(samples, MAX_BATCH_SIZE):
        return needed
    raise BadConfig(
        f"dataset.yaml: training.scheme: synchronous takes one step a round; {epochs} epochs over {samples:,} samples "
        f"in batches of {batch_size:,} are {steps:,} steps, and {limit:,} rounds are what there may be.",
        f"Raise training.batch_size to {needed:,}, lower training.epochs, leave `rounds` out, or use local or diloco.",
    )


def choose_scheme(
    settings: TrainingSettings,
    samples: int,
    validation: int,
    *,
    parameters: int,
    slots: int,
    sample_seconds: float,
    most_rounds: int,
) -> SchemeChoice:
    """The scheme for a run that leaves it open, and why.

    Synchronous steps are those of one worker with the whole batch, whatever their number: they are chosen where
    exchanging after every step makes the run at most a tenth longer. Else workers exchange rarely, as was planned.

    Args:
        settings: Of the run as it would be by `asked_scheme`.
        samples: For training.
        validation: Samples that score a round.
        parameters: Numbers that the network learns.
        slots: Numbers that the optimizer keeps for each of them.
        sample_seconds: Of a step, per sample.
        most_rounds: That a run may have.
    """
    workers, rounds, rare = settings.workers, settings.rounds, settings.scheme
    scoring = min(validation, settings.validation_samples) * sample_seconds * _SCORING
    width, values = _BYTES[settings.compression], 4.0 * parameters * (1 + slots)
    state = 4.0 if settings.compression == "none" else 2.0
    velocity = 4.0 * parameters if rare == "diloco" else 0.0
    rarely = RoundCost(values + velocity, parameters * (width + state * slots), scoring).seconds(workers)
    each = RoundCost(values, parameters * width, scoring).seconds(workers)
    steps = math.ceil(settings.epochs * samples / (settings.local_batch_size * workers))
    step = sample_seconds * settings.local_batch_size
    usual, synchronous = steps * step + rounds * rarely, steps * (step + each)
    alone = steps * step * workers + min(_FEW_ROUNDS, rounds) * RoundCost(values, values, scoring).seconds(1)
    warning = None
    if alone < min(usual, synchronous):
        warning = (
            f"One worker would take about {alone:.0f} s for what {workers} take {min(usual, synchronous):.0f} s, with "
            "what they exchange: use fewer workers, or fewer rounds, which costs accuracy."
        )
    told = (
        f"{workers} workers take {steps:,} steps of about {1000 * step:.3g} ms and share {4e-6 * parameters:.2g} MB of "
        f"parameters; exchanging them and scoring takes about {rarely:.2g} s a round, {rounds * rarely / usual:.0%} of "
        f"a run of {rounds} rounds"
    )
    if steps > most_rounds:
        why = f"{told}; after every step it would need {steps:,} rounds, and {most_rounds} is the most."
        return SchemeChoice(rare, why, warning)
    if synchronous > SLOWDOWN * usual:
        why = f"{told}; after every step the run would take {synchronous / usual:.2g} times as long."
        return SchemeChoice(rare, why, warning)
    why = f"{told}; after every step the run takes {synchronous / usual:.2g} times as long: no more."
    return SchemeChoice("synchronous", why, warning)
