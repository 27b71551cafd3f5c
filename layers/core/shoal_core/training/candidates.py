"""The models that a run could serve, what was measured of each, and which one is served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore

CandidateName = Literal["float32", "float32-optimized", "pruned", "int8-static", "int8-dynamic"]
LATENCY_BATCHES = (1, 64)
MIN_GAIN = 0.1
"""How much faster a candidate must be to take another's place: less is noise."""


class Candidate(Frozen):
    """One model that could be served, beside the float32 model that training exported.

    Attributes:
        name: How it was made.
        bytes: Size of its file; None where it couldn't be made.
        latency_ms: Milliseconds of one run by batch size ("1", "64"), the median, on the machine that optimised.
        metric: The run's metric on the measured samples.
        agreement: Share of answers that are the float32 model's: the same class, the same labels, or a number within a
            tenth of the target's standard deviation.
        difference: Largest absolute difference of an output; None where one isn't a number.
        accepted: Whether it may be served.
        reason: Why not.
    """

    name: CandidateName
    bytes: int | None = None
    latency_ms: dict[str, float] = Field(default={})
    metric: float | None = None
    agreement: float | None = None
    difference: float | None = None
    accepted: bool = False
    reason: str | None = None

    @property
    def slowness(self) -> float:
        """Geometric mean of its latencies; infinite before they are measured."""
        if not self.latency_ms:
            return math.inf
        return math.exp(sum(math.log(max(value, 1e-9)) for value in self.latency_ms.values()) / len(self.latency_ms))


class Optimization(Frozen):
    """`optimization.json`: what was measured, and which model is served.

    `metric` is `accuracy`, `micro_f1` or `rmse`; a candidate may lose `max_loss` points of it (hundredths; for `rmse`
    percent of it) and must agree with the float32 model on a share of `min_agreement` of the `samples` of `split`.
    """

    schema_version: Literal[2] = 2
    run_id: str
    served: CandidateName
    model_key: str
    model_sha256: str
    split: str
    samples: int
    metric: str
    max_loss: float
    min_agreement: float
    candidates: tuple[Candidate, ...] = Field(min_length=1)

    def encode(self) -> bytes:
        """The canonical bytes of the record."""
        return canonical_json(self.model_dump(mode="json"))

    def candidate(self, name: CandidateName) -> Candidate:
        """What was measured of one candidate."""
        return next(candidate for candidate in self.candidates if candidate.name == name)


def read_optimization(artifacts: ObjectStore, run_id: str) -> Optimization:
    """The outcome of `optimize_model`. Raises `NotFound` before it, `BadInput` when it is damaged."""
    key = RunKeys(run_id).optimization
    try:
        return Optimization.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(f"Optimization {key!r} can't be read: {error}.", "Delete it and optimize again.") from error


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest candidate that may be served.

    Later ones change more, so each must be faster by `MIN_GAIN` than what was chosen before it; only the graph that was
    optimised offline, which answers the same, needs to be no slower.
    """
    chosen = candidates[0]
    for candidate in candidates[1:]:
        allowed = 1 + MIN_GAIN if candidate.name == "float32-optimized" else 1 - MIN_GAIN
        if candidate.accepted and candidate.slowness <= allowed * chosen.slowness:
            chosen = candidate
    return chosen
