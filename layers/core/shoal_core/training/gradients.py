"""Synchronous averaging: a round is one step of the optimizer, on the mean of the gradients of all workers.

A worker computes the gradient of its part of the global batch; the merge takes the mean over all samples of all parts
and applies the optimizer once. Any number of workers takes the steps that one with the whole batch would, but for the
last digits, and for what a batch's statistics decide: BatchNormalization sees the samples of one piece of one worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.shards import Tensors
from shoal_core.training.checkpoints import BUFFER, GRADIENT, PARAMETER, STATE, Checkpoint, Update
from shoal_core.training.features import begun, first_step
from shoal_core.training.noise import BATCH
from shoal_core.training.parts import Part, StepClock, TimeIsOver
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.steps import NEW, Batches, Graph, diverged, group

PIECE = 64
"""Samples whose gradient is computed at once at most: a larger part of a batch is added up piece by piece, so that a
step takes no more memory than one of local training does."""

Noise = Mapping[str, tuple[int | str, ...]]


def counted(settings: TrainingSettings, target: NDArray[Any]) -> int:
    """Over how many samples of a batch the loss is a mean; nothing is learnt from known anomalies."""
    return int((target == 0).sum()) if settings.task == "anomaly" else len(target)


def gradient_round(
    session: Graph,
    checkpoint: Checkpoint,
    stream: Batches,
    settings: TrainingSettings,
    worker: int,
    prepare: Callable[[Tensors, int], Tensors] | None = None,
    noise: Noise | None = None,
    part: Part | None = None,
    clock: StepClock | None = None,
) -> Update:
    """The gradient of a worker's part of a round's batch, as an update.

    Args:
        session: The gradient graph. In: data, `target`, `param.*`, `buffer.*`, `noise.*`; out: `loss`, `gradient.*`,
            `new.buffer.*`.
        checkpoint: Where the gradient is taken.
        stream: The worker's batches.
        settings: Of the round.
        worker: The worker, from 0.
        prepare: Makes a batch ready for the graph; None leaves it as it is.
        noise: What the graph is given at random: input -> its shape, `N` for the batch.
        part: How far an earlier attempt came; None begins anew.
        clock: Tells when the time is over; None where it never is.

    Raises:
        TrainingDiverged: The loss or the gradient became NaN or infinite.
        TimeIsOver: By the clock, with pieces left.
    """
    (batch,) = stream.batches(checkpoint.step, 1)
    if prepare is not None:
        batch = prepare(batch, checkpoint.step)
    samples = len(batch["target"])
    parameters = {PARAMETER + name: array for name, array in checkpoint.parameters.items()}
    values: Tensors = {BUFFER + name: array for name, array in checkpoint.buffers.items()}
    losses: list[float] = []
    if part is not None:
        values, losses = part.values, list(part.losses)
    left = list(pieces(batch, noise or {}))[len(losses) :]
    for number, piece in enumerate(left, 1):
        outputs = session.run(piece | parameters | group_as(values, BUFFER))
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise diverged(settings, checkpoint.round + 1, worker, f"the loss is {loss} at step {checkpoint.step}")
        count = counted(settings, piece["target"])
        losses.append(loss * count)
        values = _added(values, outputs, count)
        if clock is not None and number < len(left) and clock.is_over():
            raise TimeIsOver(Part(values, tuple(losses)))
    total = counted(settings, batch["target"])
    gradients = {name: (array / max(1, total)).astype(np.float32) for name, array in group(values, GRADIENT).items()}
    buffers = group(values, BUFFER)
    for name, array in (gradients | buffers).items():
        if not np.isfinite(array).all():
            raise diverged(settings, checkpoint.round + 1, worker, f"{name} isn't finite at step {checkpoint.step}")
    return Update(
        run_id=settings.run_id,
        round=checkpoint.round + 1,
        worker=worker,
        parameters={},
        state={},
        weight=stream.samples,
        samples=samples,
        loss_sum=samples * math.fsum(losses) / max(1, total),
        steps=1,
        buffers=buffers,
        gradients=gradients,
        counted=total,
    )


def piece_count(samples: int) -> int:
    """Into how many pieces a worker's part of a batch is cut."""
    return -(-samples // PIECE)


def pieces(batch: Tensors, noise: Noise) -> Iterator[Tensors]:
    """A batch in pieces of about as many samples, at most `PIECE`; of `noise` the samples' axis may be any."""
    samples = len(batch["target"])
    count = piece_count(samples)
    for number in range(count):
        rows = slice(samples * number // count, samples * (number + 1) // count)
        piece: Tensors = {}
        for name, array in batch.items():
            shape = noise.get(name, (BATCH,))
            axis = shape.index(BATCH) if BATCH in shape else None
            piece[name] = array if axis is None else array[(slice(None),) * axis + (rows,)]
        yield piece


def group_as(values: Tensors, prefix: str) -> Tensors:
    """The values whose names begin with a prefix, with it."""
    return {name: array for name, array in values.items() if name.startswith(prefix)}


def _added(values: Tensors, outputs: Tensors, count: int) -> Tensors:
    """The sums of the gradients over samples, float64, with one piece more, and the buffers as it left them."""
    added = {name: outputs.get(NEW + name, array) for name, array in group_as(values, BUFFER).items()}
    for name, array in group_as(outputs, GRADIENT).items():
        summed = array.astype(np.float64) * count
        added[name] = values[name] + summed if name in values else summed
    return added


def descend(
    session: Graph, before: Checkpoint, updates: Sequence[Update], settings: TrainingSettings, learning_rate: float
) -> Checkpoint:
    """One step of the optimizer on the mean of the workers' gradients.

    The mean is over samples, added up in float64 in the order of the workers; the optimizer sees it as it would see
    the gradient of one worker with the whole batch, and clips that.

    Args:
        session: The descent graph. In: `gradient.*`, `param.*`, `state.*`, `learning_rate`, `step`; out: `new.param.*`,
            `new.state.*`.
        before: The checkpoint at which the gradients were taken.
        updates: One per worker, in any order.
        settings: Of the round.
        learning_rate: Of this step.

    Returns:
        The checkpoint after the round, with the progress as it was.

    Raises:
        TrainingDiverged: A parameter became NaN or infinite.
    """
    ordered = sorted(updates, key=lambda update: update.worker)
    # A batch of known anomalies alone has no gradient: zeros, with equal say.
    counts = [update.counted for update in ordered] if any(update.counted for update in ordered) else [1] * len(ordered)
    shares = [count / sum(counts) for count in counts]
    start = begun(settings, before)
    values: Tensors = {PARAMETER + name: array for name, array in start.parameters.items()}
    values |= {STATE + name: array for name, array in start.state.items()}
    feeds = {GRADIENT + name: array for name, array in mean([u.gradients for u in ordered], shares).items()}
    feeds["learning_rate"] = np.array(learning_rate, np.float32)
    feeds["step"] = np.array(before.step - first_step(settings, before.round + 1), np.float32)
    outputs = session.run(values | feeds)
    # What isn't trained, such as a backbone before it is fine-tuned, stays as it is.
    values = {name: outputs.get(NEW + name, array) for name, array in values.items()}
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise diverged(settings, before.round + 1, None, f"{name} isn't finite after step {before.step}")
    return Checkpoint(
        run_id=before.run_id,
        round=before.round + 1,
        step=before.step + 1,
        parameters=group(values, PARAMETER),
        state=group(values, STATE),
        progress=before.progress,
        buffers=mean([update.buffers for update in ordered], shares),
    )


def mean(groups: Sequence[Tensors], shares: Sequence[float]) -> Tensors:
    """Weighted means, added up in float64 in order, as float32."""
    return {name: array.astype(np.float32) for name, array in exact_mean(groups, shares).items()}


def exact_mean(groups: Sequence[Tensors], shares: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """Weighted means in float64, added up in order."""
    average: dict[str, NDArray[np.float64]] = {}
    for name in groups[0]:
        total = groups[0][name].astype(np.float64) * shares[0]
        for other, share in zip(groups[1:], shares[1:], strict=True):
            total += other[name].astype(np.float64) * share
        average[name] = total
    return average
