"""What the stages of a run hand to the state machine and to readers of the run."""

from __future__ import annotations

from typing import Literal

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.history import RoundResult

MAX_EVALUATION_SHARDS = 40
"""Items of the evaluation Map at most: an item covers several shards of the split where there are more."""


class WorkerItem(Frozen):
    """One item of the Train Shard Map."""

    worker: int


class EvaluationItem(Frozen):
    """One item of the Evaluate Model Map."""

    shard: int


class RoundState(Frozen):
    """Where a run is: `round` (from 1) is the next to run, or the last one when the run is finished."""

    round: int
    finished: bool
    workers: list[WorkerItem]
    evaluation_shards: list[EvaluationItem]


class RoundRecord(Frozen):
    """`rounds/round-000001.json`: one committed round, written after its checkpoint.

    `loss` is the mean training loss over the round's samples (in standardised units for regression), `validation` the
    new checkpoint's metrics by name, `learning_rate` that of the round's last step. `reason` says why a run finished.
    `history` has this round's result and those of all before it, `learning_rate_scale` what the schedule's learning
    rate is multiplied by in the next round, `lost` are the workers that it went on without. The round had `workers`,
    the next one has `next_workers`, whoever asks for others later; where they are None, as many as the run began with.
    """

    schema_version: Literal[1] = 1
    run_id: str
    round: int
    rounds: int
    loss: float
    validation: dict[str, float]
    validation_split: str
    learning_rate: float
    samples: int
    steps: int
    best_round: int
    finished: bool
    reason: str | None = None
    history: tuple[RoundResult, ...] = ()
    learning_rate_scale: float = 1.0
    lost: tuple[int, ...] = ()
    workers: int | None = None
    next_workers: int | None = None
    checkpoint_sha256: str

    def encode(self) -> bytes:
        """The canonical bytes of the record."""
        return canonical_json(self.model_dump(mode="json"))


def evaluation_items(manifest: Manifest, split: Split) -> int:
    """How many items the evaluation Map of a split has."""
    return min(MAX_EVALUATION_SHARDS, len(manifest.shards(split)))


def read_round(artifacts: ObjectStore, run_id: str, round_: int) -> RoundRecord:
    """A committed round. Raises `NotFound` when it isn't, `BadInput` when the record is damaged."""
    key = RunKeys(run_id).round(round_)
    try:
        return RoundRecord.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(
            f"Round record {key!r} can't be read: {error}.", "Delete it and start the run again: it resumes."
        ) from error


def last_round(artifacts: ObjectStore, run_id: str) -> int:
    """The newest committed round, 0 when there is none. Rounds are committed in order, so they have no gap."""
    keys = RunKeys(run_id)
    committed = set(artifacts.keys(f"{keys.prefix}rounds/"))
    round_ = 0
    while keys.round(round_ + 1) in committed:
        round_ += 1
    return round_


def learned_threshold(artifacts: ObjectStore, run_id: str) -> float:
    """The score above which the run's model calls a sample an anomaly: from the validation samples of its best round.

    Raises:
        NotFound: The run has no committed round.
    """
    best = read_round(artifacts, run_id, last_round(artifacts, run_id)).best_round
    return read_round(artifacts, run_id, best).validation["threshold"]
