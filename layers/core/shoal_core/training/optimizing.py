"""Optimisation of the exported model behind a fidelity gate: one that answers differently isn't served."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

from shoal_core.data.canonical import canonical_json
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadInput, BadNetwork, FidelityLost
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.scoring import evaluation_batches
from shoal_core.training.settings import TrainingSettings

PROBABILITY_TOLERANCE = 1e-5
"""How far a probability may move."""
VALUE_TOLERANCE = 1e-4
"""How far a predicted number may move, in standard deviations of the target."""


class Optimization(BaseModel):
    """`optimization.json`: which model is served, and why.

    `model_key` is the optimised model when `accepted`, else the original one and `reason` says why. `difference` is
    the largest absolute difference between their outputs on `samples` real samples of `split`, None where they couldn't
    be compared; `tolerance` is in the same units: probabilities, or the target's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    run_id: str
    accepted: bool
    reason: str | None = None
    model_key: str
    model_sha256: str
    split: str
    samples: int
    difference: float | None
    tolerance: float
    bytes_before: int
    bytes_after: int | None


def optimize_model(artifacts: ObjectStore, run_id: str) -> Optimization:
    """Optimise the run's model with ONNX Runtime, compare answers, and record which one to serve.

    What is already there is returned as it is.

    Args:
        artifacts: The artifacts bucket.
        run_id: A finished run.

    Raises:
        NotFound: The run isn't finished.
    """
    keys = RunKeys(run_id)
    if artifacts.exists(keys.optimization):
        return read_optimization(artifacts, run_id)
    # The onnx layer is needed for nothing else in this module.
    from shoal_core.graphs.optimization import largest_difference, optimize_offline

    settings = read_settings(artifacts, run_id)
    original = artifacts.read(keys.model)
    samples = _samples(artifacts, settings)
    count = len(next(iter(samples.values())))
    tolerance = tolerance_of(settings)
    difference, optimized, reason = None, None, None
    try:
        optimized = optimize_offline(original)
        difference = largest_difference(original, optimized, samples)
        require_fidelity(run_id, difference, tolerance, count)
    except (FidelityLost, BadNetwork) as error:
        reason = f"{error.reason} The original model is kept."
    accepted = optimized is not None and reason is None
    served = optimized if optimized is not None and accepted else original
    if accepted:
        artifacts.write(keys.optimized_model, served)
    result = Optimization(
        run_id=run_id,
        accepted=accepted,
        reason=reason,
        model_key=keys.optimized_model if accepted else keys.model,
        model_sha256=hashlib.sha256(served).hexdigest(),
        split=settings.evaluation_split,
        samples=count,
        difference=difference if difference is not None and difference < float("inf") else None,
        tolerance=tolerance,
        bytes_before=len(original),
        bytes_after=len(optimized) if optimized is not None else None,
    )
    artifacts.write_new(keys.optimization, canonical_json(result.model_dump(mode="json")), "application/json")
    return result


def read_optimization(artifacts: ObjectStore, run_id: str) -> Optimization:
    """The outcome of `optimize_model`. Raises `NotFound` before it, `BadInput` when it is damaged."""
    key = RunKeys(run_id).optimization
    try:
        return Optimization.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(f"Optimization {key!r} can't be read: {error}.", "Delete it and optimize again.") from error


def tolerance_of(settings: TrainingSettings) -> float:
    """How far an output may move: a probability, or a number in the target's units (float32 is coarse far from 0)."""
    if settings.task == "classification":
        return PROBABILITY_TOLERANCE
    return VALUE_TOLERANCE * settings.target_std + 1e-6 * abs(settings.target_mean)


def require_fidelity(run_id: str, difference: float, tolerance: float, samples: int) -> None:
    """Raise `FidelityLost` when outputs moved further than the tolerance, or aren't numbers."""
    if not difference <= tolerance:
        raise FidelityLost(
            f"The optimised model of run {run_id!r} differs from the original by {difference:g} on {samples} samples; "
            f"{tolerance:g} is allowed."
        )


def _samples(artifacts: ObjectStore, settings: TrainingSettings) -> Tensors:
    """One batch of real samples, without their targets."""
    shards = read_manifest(artifacts, settings).shards(settings.evaluation_split)
    batch = next(evaluation_batches(shards, lambda shard: load_shard(artifacts, shard)))
    batch.pop("target")
    return batch
