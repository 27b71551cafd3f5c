"""The end of a round: the workers' updates become the next checkpoint, and the run goes on or finishes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadInput, NotFound, WorkersLost
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.averaging import WeightAverage
from shoal_core.training.batches import load_shard
from shoal_core.training.callbacks import (
    Callback,
    EarlyStopping,
    LastRound,
    ReduceOnPlateau,
    StopOnDivergence,
    decide,
)
from shoal_core.training.checkpoints import BUFFER, PARAMETER, Checkpoint, Update
from shoal_core.training.compression import read_update
from shoal_core.training.features import scoring_graph, step_graph, training_shards
from shoal_core.training.gradients import descend, exact_mean, mean
from shoal_core.training.history import RoundResult, best_round
from shoal_core.training.metrics import Metrics, metrics_of, summary
from shoal_core.training.rounds import (
    learning_rate_scale,
    read_checkpoint,
    read_manifest,
    read_settings,
    round_settings,
    step_learning_rate,
)
from shoal_core.training.schemes import READS_AT_ONCE
from shoal_core.training.scoring import Predict, score_shards, sigmoid, softmax
from shoal_core.training.settings import TrainingSettings, most_workers
from shoal_core.training.states import (
    EvaluationItem,
    RoundRecord,
    RoundState,
    WorkerItem,
    evaluation_items,
    read_round,
)
from shoal_core.training.steps import Graph

LEAST_SHARE = 0.5
"""Of the training samples, what the workers that are left must hold for a run to go on."""


def merge_round(
    artifacts: ObjectStore,
    run_id: str,
    round_: int,
    lost: Mapping[int, str] = MappingProxyType({}),
    wanted: Callable[[], int | None] = lambda: None,
) -> RoundState:
    """Merge a round's updates, score the new checkpoint, decide whether to go on; the round's record comes last.

    When the run is finished, the best checkpoint is exported as the run's model before the record is written.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run.
        round_: The round, from 1; all its workers must be done or lost.
        lost: Worker -> the error that it died of, whatever was retried. Its update isn't merged even if it is there, so
            a repeated merge decides the same.
        wanted: Gives the workers that the rounds to come shall have; None for as many as in this one. The round's
            record keeps what was decided, so whoever asks later, and every repeat, sees the same.

    Raises:
        NotFound: The update of a worker that isn't lost is missing.
        WorkersLost: A worker is lost and the run shall fail then, or too few are left.
        TrainingDiverged: The merged model's answers aren't finite.
        BadRequest: No such round.
    """
    keys = RunKeys(run_id)
    settings, record = round_settings(artifacts, read_settings(artifacts, run_id), round_)
    manifest = read_manifest(artifacts, settings)
    if not artifacts.exists(keys.round(round_)):
        before = read_checkpoint(artifacts, run_id, round_ - 1)
        workers = [worker for worker in range(settings.workers) if worker not in lost]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            updates = list(pool.map(lambda worker: _read_update(artifacts, before, worker), workers))
        if lost:
            shards = training_shards(artifacts, settings, manifest, "train")
            _require_enough(updates, settings, sum(shard.samples for shard in shards), lost, round_)
        merged = _merged(artifacts, settings, before, updates, learning_rate_scale(settings, record))
        served = served_checkpoint(artifacts, settings, merged)
        metrics = _score_checkpoint(artifacts, served, settings, manifest)
        following = min(wanted() or settings.workers, most_workers(manifest, settings.batch_size))
        commit_round(artifacts, settings, merged, served, metrics, updates, next_workers=following)
    return round_state(artifacts, settings, manifest, round_)


def _merged(
    artifacts: ObjectStore, settings: TrainingSettings, before: Checkpoint, updates: Sequence[Update], scale: float
) -> Checkpoint:
    """The checkpoint after a round, by the run's scheme; `scale` is what the schedule's rate is multiplied by."""
    if settings.scheme != "synchronous":
        rate, momentum = settings.outer_learning_rate, settings.outer_momentum
        return merge_updates(before, updates, learning_rate=rate, momentum=momentum)
    from shoal_core.training.sessions import session_of  # see train_shard

    key = RunKeys(settings.run_id).descent_of(step_graph(settings, before.round + 1))
    session = session_of(artifacts.read(key), settings.threads)
    return descend(session, before, updates, settings, step_learning_rate(settings, before.step, scale))


def merge_updates(
    before: Checkpoint, updates: Sequence[Update], *, learning_rate: float, momentum: float
) -> Checkpoint:
    """Federated averaging with an outer Nesterov step (A. Douillard et al., "DiLoCo", 2023).

    Parameters, optimizer state and buffers are averaged in float64 in the order of the workers, weighted by the
    samples in their shards. The way from the checkpoint to the average is the outer gradient; with a learning rate of
    1 and no momentum the new checkpoint is the average itself.

    Args:
        before: The checkpoint that all updates started from.
        updates: One per worker, in any order.
        learning_rate: Of the outer step.
        momentum: Of the outer step, in [0, 1).

    Returns:
        The checkpoint after the round, with the progress as it was.
    """
    ordered = sorted(updates, key=lambda update: update.worker)
    total = sum(update.weight for update in ordered)
    shares = [update.weight / total for update in ordered]
    average = exact_mean([update.parameters for update in ordered], shares)
    parameters: Tensors = {}
    outer: Tensors = {}
    for name, old in before.parameters.items():
        if momentum == 0.0 and learning_rate == 1.0:
            parameters[name] = average[name].astype(np.float32)
            continue
        start = old.astype(np.float64)
        way = average[name] - start
        buffer = momentum * before.momentum.get(name, np.zeros_like(old)).astype(np.float64) + way
        parameters[name] = (start + learning_rate * (way + momentum * buffer)).astype(np.float32)
        if momentum:
            outer[name] = buffer.astype(np.float32)
    return Checkpoint(
        run_id=before.run_id,
        round=before.round + 1,
        step=before.step + max(update.steps for update in ordered),
        parameters=parameters,
        state=mean([update.state for update in ordered], shares),
        momentum=outer,
        progress=before.progress,
        buffers=mean([update.buffers for update in ordered], shares),
    )


def merged_loss(updates: Sequence[Update]) -> float:
    """Mean loss over all samples that the workers' steps saw."""
    return math.fsum(update.loss_sum for update in updates) / sum(update.samples for update in updates)


def round_state(artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, done: int) -> RoundState:
    """Where the run is once round `done` is committed (0: none)."""
    record = read_round(artifacts, settings.run_id, done) if done > 0 else None
    finished = record is not None and record.finished
    workers = (record.next_workers if record else None) or settings.workers
    shards = evaluation_items(manifest, settings.evaluation_split)
    return RoundState(
        round=done if finished else done + 1,
        finished=finished,
        workers=[WorkerItem(worker=worker) for worker in range(workers)],
        evaluation_shards=[EvaluationItem(shard=shard) for shard in range(shards)],
    )


def predictor(session: Graph, checkpoint: Checkpoint, settings: TrainingSettings) -> Predict:
    """Answers of the forward graph with a checkpoint's values: probabilities, numbers in original units, or scores."""
    feeds = {PARAMETER + name: array for name, array in checkpoint.parameters.items()}
    feeds |= {BUFFER + name: array for name, array in checkpoint.buffers.items()}

    def predict(batch: Tensors) -> NDArray[np.float64]:
        answers = session.run(batch | feeds)
        if settings.task == "classification":
            return softmax(answers["logits"])
        if settings.task == "multilabel":
            return sigmoid(answers["logits"])
        if settings.task == "anomaly":
            return answers["score"].astype(np.float64)
        return answers["prediction"].astype(np.float64) * settings.target_std + settings.target_mean

    return predict


def _score_checkpoint(
    artifacts: ObjectStore, checkpoint: Checkpoint, settings: TrainingSettings, manifest: Manifest
) -> Metrics:
    from shoal_core.training.sessions import session_of  # see train_shard

    session = session_of(artifacts.read(scoring_graph(settings)), settings.threads)
    counts = score_shards(
        predictor(session, checkpoint, settings),
        training_shards(artifacts, settings, manifest, settings.validation_split),
        lambda shard: load_shard(artifacts, shard),
        settings,
        limit=settings.validation_samples,
    )
    return metrics_of(counts, list(settings.classes))


def served_checkpoint(artifacts: ObjectStore, settings: TrainingSettings, merged: Checkpoint) -> Checkpoint:
    """What is scored and exported: the checkpoint itself, or the average of the rounds up to it."""
    decay = settings.average_decay(merged.round)
    if decay is None:
        return merged
    begun = merged.round > 1 and settings.average_decay(merged.round - 1) is not None
    before = read_served(artifacts, settings, merged.round - 1) if begun else None
    return WeightAverage(decay).after_round(before, merged)


def _callbacks(settings: TrainingSettings) -> list[Callback]:
    """What decides after each round; the first reason to stop counts."""
    callbacks: list[Callback] = [LastRound(settings.rounds), StopOnDivergence(_chance(settings))]
    if settings.patience:
        begins = settings.transfer.tuned_from if settings.transfer else None
        callbacks.append(EarlyStopping(settings.patience, settings.validation_split, (begins or 1) - 1))
    if settings.schedule == "plateau":
        callbacks.append(ReduceOnPlateau(settings.decay_factor, settings.decay_rounds))
    return callbacks


def _chance(settings: TrainingSettings) -> float:
    """About the training loss of an answer that doesn't look at its input; regression targets are standardised."""
    chances = {"classification": math.log(max(2, len(settings.classes))), "multilabel": math.log(2)}
    return chances.get(settings.task, 1.0)


def commit_round(
    artifacts: ObjectStore,
    settings: TrainingSettings,
    merged: Checkpoint,
    served: Checkpoint,
    metrics: Metrics,
    updates: Sequence[Update],
    *,
    export: bool = True,
    next_workers: int | None = None,
) -> None:
    """Decide whether the run goes on after a round, and write the round down: its record comes last.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the round.
        merged: What the round made of the checkpoint before it.
        served: What was scored: `served_checkpoint`.
        metrics: Its score on the validation split.
        updates: What the workers did.
        export: Whether a run that is finished has its model written; a SageMaker job has no onnx, and leaves it to
            Follow Job.
        next_workers: How many the next round has; None for as many as the run began with.
    """
    keys = RunKeys(settings.run_id)
    round_, loss = merged.round, merged_loss(updates)
    before = read_round(artifacts, settings.run_id, round_ - 1) if round_ > 1 else None
    result = RoundResult(round=round_, loss=loss, score=metrics.score())
    history = (*(before.history if before else ()), result)
    decision = decide(_callbacks(settings), history)
    checkpoint = replace(merged, progress=merged.progress.after(round_, metrics.score()))
    data = checkpoint.encode()
    artifacts.write(keys.checkpoint(round_), data)
    if settings.average_decay(round_) is not None:
        artifacts.write(keys.average(round_), served.encode())
    best = best_round(history)
    if decision.stop and export:
        # Only the last round needs the export, and with it the onnx layer's import time.
        from shoal_core.training.finishing import export_checkpoint

        best_one = served if best == round_ else read_served(artifacts, settings, best)
        found = summary(metrics) if best == round_ else read_round(artifacts, settings.run_id, best).validation
        export_checkpoint(artifacts, settings, best_one, found.get("threshold", 0.0))
    record = RoundRecord(
        run_id=settings.run_id,
        round=round_,
        rounds=settings.rounds,
        loss=loss,
        validation=summary(metrics),
        validation_split=settings.validation_split,
        learning_rate=step_learning_rate(settings, checkpoint.step - 1, before.learning_rate_scale if before else 1.0),
        samples=sum(update.samples for update in updates),
        lost=tuple(sorted(set(range(settings.workers)) - {update.worker for update in updates})),
        workers=settings.workers,
        next_workers=next_workers,
        steps=settings.steps_per_round,
        best_round=best,
        finished=decision.stop is not None,
        reason=decision.stop,
        history=history,
        learning_rate_scale=decision.learning_rate_scale,
        checkpoint_sha256=hashlib.sha256(data).hexdigest(),
    )
    artifacts.write_new(keys.round(round_), record.encode(), "application/json")


def read_served(artifacts: ObjectStore, settings: TrainingSettings, round_: int) -> Checkpoint:
    """What was scored in a round: its checkpoint, or the average up to it. Raises `NotFound`."""
    if settings.average_decay(round_) is None:
        return read_checkpoint(artifacts, settings.run_id, round_)
    key = RunKeys(settings.run_id).average(round_)
    return Checkpoint.decode(artifacts.read(key), f"Average {key!r}")


def _require_enough(
    updates: Sequence[Update], settings: TrainingSettings, samples: int, lost: Mapping[int, str], round_: int
) -> None:
    """Raise `WorkersLost` unless the run may go on with what the others learnt."""
    share = sum(update.weight for update in updates) / samples
    if settings.lost_workers == "go_on" and share >= LEAST_SHARE:
        return
    named = ", ".join(f"{worker} ({error})" for worker, error in sorted(lost.items()))
    what = f"Run {settings.run_id!r} lost workers in round {round_}, whatever was retried: {named}"
    if settings.lost_workers == "go_on":
        what += f"; the others hold {share:.0%} of the training samples, and {LEAST_SHARE:.0%} are needed"
    fix = "See `shoal logs train_shard`. Out of memory or time: lower training.batch_size, or use more rounds."
    if settings.lost_workers != "go_on":
        fix += " To merge what the others learnt: training.lost_workers: go_on."
    raise WorkersLost(f"{what}.", fix)


def _read_update(artifacts: ObjectStore, before: Checkpoint, worker: int) -> Update:
    run_id, round_ = before.run_id, before.round + 1
    key = RunKeys(run_id).update(round_, worker)
    try:
        update = read_update(artifacts.read(key), f"Update {key!r}", before)
    except NotFound as error:
        raise NotFound(
            f"Update {key!r} is missing: worker {worker} of run {run_id!r} hasn't finished round {round_}.",
            "Run Train Shard for it, then Merge Round again.",
        ) from error
    if (update.run_id, update.round, update.worker) != (run_id, round_, worker):
        raise BadInput(f"Update {key!r} belongs to another run, round or worker.", "Delete it and run it again.")
    return update
