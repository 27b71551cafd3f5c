"""One worker's part of a round: local steps or a gradient, from the checkpoint and its own shards, as an update."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadDataset, BadRequest, RoundUnfinished
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.augmenting import Augmenter
from shoal_core.training.batches import BatchStream, assign_shards, load_shard
from shoal_core.training.checkpoints import BUFFER, PARAMETER, STATE, Checkpoint, Update
from shoal_core.training.compression import compress, read_lost
from shoal_core.training.features import TUNED_RATE, begun, first_step, step_graph, training_shards
from shoal_core.training.gradients import gradient_round, piece_count
from shoal_core.training.noise import with_noise
from shoal_core.training.parts import Part, StepClock, TimeIsOver, read_part
from shoal_core.training.schedules import learning_rate_at
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import RoundRecord, read_round
from shoal_core.training.steps import NEW, Batches, Graph, diverged, group


class ShardTrained(Frozen):
    """The outcome of `train_shard`; `repeated` when the update was already there."""

    run_id: str
    round: int
    worker: int
    repeated: bool


def train_shard(
    artifacts: ObjectStore, run_id: str, round_: int, worker: int, seconds_left: Callable[[], float] | None = None
) -> ShardTrained:
    """Train one worker for one round, by the run's scheme, and write its update.

    Nothing happens when the update is already there.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run; `start_training` must have started it.
        round_: The round, from 1; the round before must be merged.
        worker: The worker, from 0.
        seconds_left: Gives the seconds until the function is ended; None where nothing ends it.

    Raises:
        RoundUnfinished: The time is over; called again, it goes on where it stopped.
        TrainingDiverged: The loss or a parameter became NaN or infinite.
        BadDataset: A shard isn't what the manifest says.
        BadRequest: No such worker or round.
        NotFound: The run hasn't started, or the round before isn't merged.
    """
    keys = RunKeys(run_id)
    key = keys.update(round_, worker)
    repeated = artifacts.exists(key)
    if not repeated:
        settings, before = round_settings(artifacts, read_settings(artifacts, run_id), round_)
        if not 0 <= worker < settings.workers:
            raise BadRequest(
                f"Round {round_} of run {run_id!r} has no worker {worker}.", f"Use 0 to {settings.workers - 1}."
            )
        checkpoint = begun(settings, read_checkpoint(artifacts, run_id, round_ - 1))
        manifest = read_manifest(artifacts, settings)
        stream = worker_batches(artifacts, settings, manifest, worker)
        # ONNX Runtime comes with it; a SageMaker job reads settings and checkpoints by this module, and has none.
        from shoal_core.training.sessions import session_of

        session = session_of(artifacts.read(step_graph(settings, round_)), settings.threads)
        scale = learning_rate_scale(settings, before)
        prepare = with_noise(Augmenter(settings, manifest, worker).prepare, session.noise, settings.seed, worker)
        clock = StepClock(seconds_left) if seconds_left else None
        part = read_part(artifacts, run_id, round_, worker) if clock else None
        try:
            if settings.scheme == "synchronous":
                update = gradient_round(
                    session, checkpoint, stream, settings, worker, prepare, session.noise, part, clock
                )
            else:
                update = train_round(session, checkpoint, stream, settings, worker, scale, prepare, part, clock)
        except TimeIsOver as over:
            artifacts.write(keys.part(round_, worker), over.part.encode())
            raise _unfinished(settings, round_, worker, len(over.part.losses)) from None

        def lost() -> Tensors:
            return carried(artifacts, settings, manifest, before, worker)

        repeated = not artifacts.write_new(key, _encoded(artifacts, update, checkpoint, settings, lost))
    return ShardTrained(run_id=run_id, round=round_, worker=worker, repeated=repeated)


def train_round(
    session: Graph,
    checkpoint: Checkpoint,
    stream: Batches,
    settings: TrainingSettings,
    worker: int,
    learning_rate_scale: float = 1.0,
    prepare: Callable[[Tensors, int], Tensors] | None = None,
    part: Part | None = None,
    clock: StepClock | None = None,
) -> Update:
    """Run a round's local steps from a checkpoint.

    Args:
        session: The step graph. In: data, `target` in its own units, `learning_rate`, `step`, `param.*`, `state.*`,
            `buffer.*`, `noise.*`; out: `loss`, `new.param.*`, `new.state.*`, `new.buffer.*`.
        checkpoint: Where to start.
        stream: The worker's batches.
        settings: Of the run.
        worker: The worker, from 0.
        learning_rate_scale: What the schedule's learning rate is multiplied by.
        prepare: Makes a step's batch ready for the graph; None leaves it as it is.
        part: How far an earlier attempt came; None begins with the checkpoint.
        clock: Tells when the time is over; None where it never is.

    Raises:
        TrainingDiverged: The loss or a parameter became NaN or infinite.
        TimeIsOver: By the clock, with steps left.
    """
    round_ = checkpoint.round + 1
    values: Tensors = {PARAMETER + name: array for name, array in checkpoint.parameters.items()}
    values |= {STATE + name: array for name, array in checkpoint.state.items()}
    values |= {BUFFER + name: array for name, array in checkpoint.buffers.items()}
    losses: list[float] = []
    if part is not None:
        values, losses = part.values, list(part.losses)
    begin, left = checkpoint.step + len(losses), settings.steps_per_round - len(losses)
    batches = stream.batches(begin, left)
    counted_from = first_step(settings, round_)
    for step, batch in enumerate(batches, begin):
        if prepare is not None:
            batch = prepare(batch, step)
        batch["learning_rate"] = np.array(step_learning_rate(settings, step, learning_rate_scale), np.float32)
        batch["step"] = np.array(step - counted_from, np.float32)
        outputs = session.run(batch | values)
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise diverged(settings, round_, worker, f"the loss is {loss} at step {step}")
        losses.append(loss)
        # What a step doesn't train, such as a backbone before it is fine-tuned, stays as it is.
        values = {name: outputs.get(NEW + name, array) for name, array in values.items()}
        if clock is not None and len(losses) < settings.steps_per_round and clock.is_over():
            raise TimeIsOver(Part(values, tuple(losses)))
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise diverged(settings, round_, worker, f"{name} isn't finite after step {checkpoint.step + len(losses)}")
    return Update(
        run_id=settings.run_id,
        round=round_,
        worker=worker,
        parameters=group(values, PARAMETER),
        state=group(values, STATE),
        weight=stream.samples,
        samples=settings.local_batch_size * len(losses),
        loss_sum=settings.local_batch_size * math.fsum(losses),
        steps=len(losses),
        buffers=group(values, BUFFER),
    )


def _unfinished(settings: TrainingSettings, round_: int, worker: int, done: int) -> RoundUnfinished:
    parts = f"{settings.steps_per_round:,} steps"
    if settings.scheme == "synchronous":
        parts = f"{piece_count(settings.local_batch_size):,} pieces of the batch"
    return RoundUnfinished(
        f"Worker {worker} of run {settings.run_id!r} has taken {done:,} of {parts} of round {round_}, and its "
        "function's time is over.",
        f"Use more rounds (there are {settings.rounds}) or more workers: each attempt goes on where the one before "
        "stopped, and there are nine.",
    )


def _encoded(
    artifacts: ObjectStore, update: Update, before: Checkpoint, settings: TrainingSettings, lost: Callable[[], Tensors]
) -> bytes:
    """The update's file; what rounding lost is written before it, for the worker's next round."""
    if settings.compression == "none":
        return update.encode()
    data, left = compress(update, before, lost(), settings.compression)
    artifacts.write(RunKeys(settings.run_id).lost(update.round, update.worker), left)
    return data


def carried(
    artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, before: RoundRecord | None, worker: int
) -> Tensors:
    """What rounding lost in the round before and a worker makes up for: name -> float32 array, empty for nothing.

    What was lost of an update that wasn't merged is nobody's to make up for, and may never have been written. In a
    round with other workers than before each takes the mean of what all lost, by their say in the merge: so much the
    merge lost, and so much is made up for.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the round, as `round_settings` gives them.
        manifest: Of the run's data.
        before: The round before; None in the first.
        worker: The worker, from 0.
    """
    if before is None:
        return {}
    keys = RunKeys(settings.run_id)

    def read(other: int) -> Tensors:
        key = keys.lost(before.round, other)
        return read_lost(artifacts.read(key), f"Object {key!r}")

    earlier = settings.with_workers(before.workers or settings.workers)
    if earlier.workers == settings.workers:
        return {} if worker in before.lost else read(worker)
    counts = [shard.samples for shard in training_shards(artifacts, settings, manifest, "train")]
    merged = [other for other in range(earlier.workers) if other not in before.lost]
    own = assign_shards(counts, earlier.workers)
    samples = {other: sum(counts[index] for index in own[other]) for other in merged}
    if settings.scheme == "synchronous":  # whose parts of a batch have the same size
        samples = dict.fromkeys(merged, 1)
    total = sum(samples.values())
    mean: dict[str, NDArray[np.float64]] = {}
    for other in merged:
        for name, array in read(other).items():
            mean[name] = mean.get(name, np.zeros(array.shape)) + array.astype(np.float64) * (samples[other] / total)
    return {name: array.astype(np.float32) for name, array in mean.items()}


def round_settings(
    artifacts: ObjectStore, settings: TrainingSettings, round_: int
) -> tuple[TrainingSettings, RoundRecord | None]:
    """The settings of a round, with the workers that the round before decided on, and that round's record.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the run.
        round_: The round, from 1; the round before must be merged.

    Raises:
        BadRequest: The run has no such round.
        NotFound: The round before isn't merged.
    """
    require_round(settings, round_)
    if round_ == 1:
        return settings, None
    before = read_round(artifacts, settings.run_id, round_ - 1)
    return settings.with_workers(before.next_workers or settings.workers), before


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
    tunes = settings.transfer is not None and settings.transfer.tunes(step // settings.steps_per_round + 1)
    return rate * scale * (TUNED_RATE if tunes else 1.0)


def learning_rate_scale(settings: TrainingSettings, before: RoundRecord | None) -> float:
    """What the schedule's learning rate is multiplied by in a round: as decided at the end of the round before."""
    return 1.0 if settings.schedule != "plateau" or before is None else before.learning_rate_scale


def worker_batches(artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, worker: int) -> BatchStream:
    """The stream of batches of one worker; `settings` are those of the round."""
    shards = training_shards(artifacts, settings, manifest, "train")
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
