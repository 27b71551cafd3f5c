"""One worker's part of a round: local steps from the checkpoint on its own shards, written as an update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadDataset, BadRequest, TrainingDiverged
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.augmenting import Augmenter
from shoal_core.training.batches import BatchStream, assign_shards, load_shard
from shoal_core.training.checkpoints import BUFFER, PARAMETER, STATE, Checkpoint, Update
from shoal_core.training.compression import compress, read_lost
from shoal_core.training.schedules import learning_rate_at
from shoal_core.training.sessions import Session, session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import read_round

NEW = "new."


class Batches(Protocol):
    """What gives a worker its batches."""

    samples: int

    def batches(self, first: int, count: int) -> Iterator[Tensors]:
        """Batches `first` to `first + count - 1`."""
        ...


class ShardTrained(BaseModel):
    """The outcome of `train_shard`; `repeated` when the update was already there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    round: int
    worker: int
    repeated: bool


def train_shard(artifacts: ObjectStore, run_id: str, round_: int, worker: int) -> ShardTrained:
    """Train one worker for one round and write its update; nothing happens when the update is already there.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run; `start_training` must have started it.
        round_: The round, from 1; the round before must be merged.
        worker: The worker, from 0.

    Raises:
        TrainingDiverged: The loss or a parameter became NaN or infinite.
        BadDataset: A shard isn't what the manifest says.
        BadRequest: No such worker or round.
        NotFound: The run hasn't started, or the round before isn't merged.
    """
    keys = RunKeys(run_id)
    key = keys.update(round_, worker)
    repeated = artifacts.exists(key)
    if not repeated:
        settings = read_settings(artifacts, run_id)
        require_round(settings, round_)
        if not 0 <= worker < settings.workers:
            raise BadRequest(f"Run {run_id!r} has no worker {worker}.", f"Use 0 to {settings.workers - 1}.")
        checkpoint = read_checkpoint(artifacts, run_id, round_ - 1)
        manifest = read_manifest(artifacts, settings)
        stream = worker_batches(artifacts, settings, manifest, worker)
        session = session_of(artifacts.read(keys.step_graph), settings.threads)
        scale = learning_rate_scale(artifacts, settings, round_)
        augmenter = Augmenter(settings, manifest, worker)
        update = train_round(session, checkpoint, stream, settings, worker, scale, augmenter.prepare)
        repeated = not artifacts.write_new(key, _encoded(artifacts, update, checkpoint, settings))
    return ShardTrained(run_id=run_id, round=round_, worker=worker, repeated=repeated)


def train_round(
    session: Session,
    checkpoint: Checkpoint,
    stream: Batches,
    settings: TrainingSettings,
    worker: int,
    learning_rate_scale: float = 1.0,
    prepare: Callable[[Tensors, int], Tensors] | None = None,
) -> Update:
    """Run a round's local steps from a checkpoint.

    Args:
        session: The step graph. In: data, `target` in its own units, `learning_rate`, `step`, `param.*`, `state.*`,
            `buffer.*`; out: `loss`, `new.param.*`, `new.state.*`, `new.buffer.*`.
        checkpoint: Where to start.
        stream: The worker's batches.
        settings: Of the run.
        worker: The worker, from 0.
        learning_rate_scale: What the schedule's learning rate is multiplied by.
        prepare: Makes a step's batch ready for the graph; None leaves it as it is.

    Raises:
        TrainingDiverged: The loss or a parameter became NaN or infinite.
    """
    round_ = checkpoint.round + 1
    values: Tensors = {PARAMETER + name: array for name, array in checkpoint.parameters.items()}
    values |= {STATE + name: array for name, array in checkpoint.state.items()}
    values |= {BUFFER + name: array for name, array in checkpoint.buffers.items()}
    losses: list[float] = []
    batches = stream.batches(checkpoint.step, settings.steps_per_round)
    for step, batch in enumerate(batches, checkpoint.step):
        if prepare is not None:
            batch = prepare(batch, step)
        batch["learning_rate"] = np.array(step_learning_rate(settings, step, learning_rate_scale), np.float32)
        batch["step"] = np.array(step, np.float32)
        outputs = session.run(batch | values)
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise _diverged(settings, round_, worker, f"the loss is {loss} at step {step}")
        losses.append(loss)
        values = {name: outputs[NEW + name] for name in values}
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise _diverged(settings, round_, worker, f"{name} isn't finite after step {checkpoint.step + len(losses)}")
    return Update(
        run_id=settings.run_id,
        round=round_,
        worker=worker,
        parameters=_group(values, PARAMETER),
        state=_group(values, STATE),
        weight=stream.samples,
        samples=settings.local_batch_size * len(losses),
        loss_sum=settings.local_batch_size * math.fsum(losses),
        steps=len(losses),
        buffers=_group(values, BUFFER),
    )


def _encoded(artifacts: ObjectStore, update: Update, before: Checkpoint, settings: TrainingSettings) -> bytes:
    """The update's file; what rounding lost is written before it, for the worker's next round."""
    if settings.compression == "none":
        return update.encode()
    keys, lost = RunKeys(settings.run_id), Tensors()
    # What rounding lost of an update that wasn't merged is nobody's to make up for, and may never have been written.
    if update.round > 1 and update.worker not in read_round(artifacts, settings.run_id, update.round - 1).lost:
        key = keys.lost(update.round - 1, update.worker)
        lost = read_lost(artifacts.read(key), f"Object {key!r}")
    data, left = compress(update, before, lost, settings.compression)
    artifacts.write(keys.lost(update.round, update.worker), left)
    return data


def step_learning_rate(settings: TrainingSettings, step: int, scale: float = 1.0) -> float:
    """The learning rate of a local step (from 0), by the run's schedule, times `scale`."""
    rate = learning_rate_at(
        step,
        peak=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        total_steps=settings.total_steps,
        schedule=settings.schedule,
        decay_factor=settings.decay_factor,
        decay_steps=settings.decay_rounds * settings.steps_per_round,
    )
    return rate * scale


def learning_rate_scale(artifacts: ObjectStore, settings: TrainingSettings, round_: int) -> float:
    """What the schedule's learning rate is multiplied by in a round: as decided at the end of the round before."""
    if settings.schedule != "plateau" or round_ == 1:
        return 1.0
    return read_round(artifacts, settings.run_id, round_ - 1).learning_rate_scale


def worker_batches(artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, worker: int) -> BatchStream:
    """The stream of batches of one worker."""
    shards = manifest.shards("train")
    own = assign_shards([shard.samples for shard in shards], settings.workers)[worker]

    def load(shard: ShardFile) -> Tensors:
        return load_shard(artifacts, shard)

    return BatchStream(
        [shards[index] for index in own],
        load,
        batch_size=settings.local_batch_size,
        seed=settings.seed,
        worker=worker,
    )


def read_settings(artifacts: ObjectStore, run_id: str) -> TrainingSettings:
    """The settings of a started run. Raises `NotFound`."""
    return TrainingSettings.decode(artifacts.read(RunKeys(run_id).settings))


def read_manifest(artifacts: ObjectStore, settings: TrainingSettings) -> Manifest:
    """The manifest of the run's data.

    Raises:
        BadDataset: It isn't the one that the run was started with.
    """
    key = DatasetKeys(settings.dataset, settings.version).manifest
    manifest = Manifest.decode(artifacts.read(key))
    if manifest.digest != settings.manifest_digest:
        raise BadDataset(
            f"Manifest {key!r} changed since run {settings.run_id!r} started.", "Upload the data again: a new run."
        )
    return manifest


def read_checkpoint(artifacts: ObjectStore, run_id: str, round_: int) -> Checkpoint:
    """The checkpoint after a round (0 is the initial one). Raises `NotFound`."""
    key = RunKeys(run_id).checkpoint(round_)
    return Checkpoint.decode(artifacts.read(key), f"Checkpoint {key!r}")


def require_round(settings: TrainingSettings, round_: int) -> None:
    """Raise `BadRequest` for a round that the run doesn't have."""
    if not 1 <= round_ <= settings.rounds:
        raise BadRequest(f"Run {settings.run_id!r} has no round {round_}.", f"Use 1 to {settings.rounds}.")


def _group(values: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in values.items() if name.startswith(prefix)}


def _diverged(settings: TrainingSettings, round_: int, worker: int, what: str) -> TrainingDiverged:
    return TrainingDiverged(
        f"Run {settings.run_id!r} diverged in round {round_}, worker {worker}: {what}.",
        f"Lower training.learning_rate in dataset.yaml (it was {settings.learning_rate:g}; try "
        f"{settings.learning_rate / 10:g}) and upload again.",
    )
