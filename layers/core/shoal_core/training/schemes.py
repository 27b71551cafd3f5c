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


@dataclass(frozen=True)
class SharedRun:
    """What a run of several workers takes, by scheme and rounds.

    Args:
        settings: As it would be by `asked_scheme`.
        samples: For training.
        validation: Samples that score a round.
        parameters: Numbers that the network learns.
        slots: Numbers that the optimizer keeps for each of them.
        sample_seconds: Of a step, per sample.
        asked_rounds: What dataset.yaml says of them.
    """

    settings: TrainingSettings
    samples: int
    validation: int
    parameters: int
    slots: int
    sample_seconds: float
    asked_rounds: int | None = None

    @property
    def steps(self) -> int:
        """Of each worker."""
        settings = self.settings
        return math.ceil(settings.epochs * self.samples / (settings.local_batch_size * settings.workers))

    @property
    def step(self) -> float:
        """Seconds of one step of one of the workers."""
        return self.sample_seconds * self.settings.local_batch_size

    def round_seconds(self, workers: int, scheme: Scheme) -> float:
        """What exchanging and scoring take in a round."""
        scoring = min(self.validation, self.settings.validation_samples) * self.sample_seconds * _SCORING
        values = 4.0 * self.parameters * (1 + self.slots)
        if workers == 1:
            return RoundCost(values, values, scoring).seconds(1)
        width = _BYTES[self.settings.compression]
        if scheme == "synchronous":
            return RoundCost(values, self.parameters * width, scoring).seconds(workers)
        state = 4.0 if self.settings.compression == "none" else 2.0
        velocity = 4.0 * self.parameters if scheme == "diloco" else 0.0
        update = self.parameters * (width + state * self.slots)
        return RoundCost(values + velocity, update, scoring).seconds(workers)

    def seconds(self, scheme: Scheme) -> float:
        """What the run takes by a scheme: synchronous steps have a round each."""
        rounds = self.steps if scheme == "synchronous" else self.settings.rounds
        return self.steps * self.step + rounds * self.round_seconds(self.settings.workers, scheme)

    def warning(self, scheme: Scheme) -> str | None:
        """What to change where one worker would be done sooner."""
        workers, seconds = self.settings.workers, self.seconds(scheme)
        rounds = self.asked_rounds or min(_FEW_ROUNDS, self.settings.rounds)
        alone = self.steps * self.step * workers + rounds * self.round_seconds(1, "local")
        if alone >= seconds:
            return None
        return (
            f"One worker would take about {alone:.0f} s for what {workers} take {seconds:.0f} s, with what they "
            "exchange: use fewer workers, or fewer rounds, which costs accuracy."
        )


def choose_scheme(run: SharedRun, most_rounds: int) -> SchemeChoice:
    """The scheme for a run that leaves it open, and why.

    Synchronous steps are those of one worker with the whole batch, whatever their number: they are chosen where
    exchanging after every step makes the run at most a tenth longer, and needs no more rounds than are asked for, or
    than a run may have. Else workers exchange rarely, as was planned.
    """
    settings, steps = run.settings, run.steps
    rounds, scheme = settings.rounds, settings.scheme
    rarely, usual, synchronous = (
        run.round_seconds(settings.workers, scheme),
        run.seconds(scheme),
        run.seconds("synchronous"),
    )
    told = (
        f"{settings.workers} workers take {steps:,} steps of about {1000 * run.step:.3g} ms and share "
        f"{4e-6 * run.parameters:.2g} MB of parameters; exchanging them and scoring takes about {rarely:.2g} s a "
        f"round, {rounds * rarely / usual:.0%} of a run of {rounds} rounds"
    )
    limit = run.asked_rounds or most_rounds
    if steps > limit:
        what = "are asked for" if run.asked_rounds else "is the most"
        why = f"{told}; after every step it would need {steps:,} rounds, and {limit} {what}."
    elif synchronous > SLOWDOWN * usual:
        why = f"{told}; after every step the run would take {synchronous / usual:.2g} times as long."
    else:
        scheme = "synchronous"
        why = f"{told}; after every step the run takes {synchronous / usual:.2g} times as long: no more."
    return SchemeChoice(scheme, why, run.warning(scheme))
