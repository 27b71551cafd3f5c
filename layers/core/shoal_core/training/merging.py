"""The end of a round: the workers' updates become the next checkpoint, and the run goes on or finishes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadInput, NotFound
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.checkpoints import PARAMETER, Checkpoint, Progress, Update
from shoal_core.training.metrics import Metrics, metrics_of, summary
from shoal_core.training.rounds import (
    read_checkpoint,
    read_manifest,
    read_settings,
    require_round,
    step_learning_rate,
)
from shoal_core.training.scoring import Predict, score_shards, softmax
from shoal_core.training.sessions import Session, session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import (
    EvaluationItem,
    RoundRecord,
    RoundState,
    WorkerItem,
    evaluation_items,
    read_round,
)


def merge_round(artifacts: ObjectStore, run_id: str, round_: int) -> RoundState:
    """Merge a round's updates, score the new checkpoint, decide whether to go on; the round's record comes last.

    When the run is finished, the best checkpoint is exported as the run's model before the record is written.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run.
        round_: The round, from 1; all its workers must be done.

    Raises:
        NotFound: A worker's update is missing.
        TrainingDiverged: The merged model's answers aren't finite.
        BadRequest: No such round.
    """
    keys = RunKeys(run_id)
    settings = read_settings(artifacts, run_id)
    require_round(settings, round_)
    manifest = read_manifest(artifacts, settings)
    if not artifacts.exists(keys.round(round_)):
        updates = [_read_update(artifacts, run_id, round_, worker) for worker in range(settings.workers)]
        before = read_checkpoint(artifacts, run_id, round_ - 1)
        merged = merge_updates(
            before, updates, learning_rate=settings.outer_learning_rate, momentum=settings.outer_momentum
        )
        metrics = _score_checkpoint(artifacts, merged, settings, manifest)
        _commit(artifacts, settings, merged, metrics, updates)
    return round_state(artifacts, settings, manifest, round_)


def merge_updates(
    before: Checkpoint, updates: Sequence[Update], *, learning_rate: float, momentum: float
) -> Checkpoint:
    """Federated averaging with an outer Nesterov step (A. Douillard et al., "DiLoCo", 2023).

    Parameters and optimizer state are averaged in float64 in the order of the workers, weighted by the samples in
    their shards. The way from the checkpoint to the average is the outer gradient; with a learning rate of 1 and no
    momentum the new checkpoint is the average itself.

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
    average = _average([update.parameters for update in ordered], shares)
    parameters: Tensors = {}
    buffers: Tensors = {}
    for name, old in before.parameters.items():
        if momentum == 0.0 and learning_rate == 1.0:
            parameters[name] = average[name].astype(np.float32)
            continue
        start = old.astype(np.float64)
        way = average[name] - start
        buffer = momentum * before.momentum.get(name, np.zeros_like(old)).astype(np.float64) + way
        parameters[name] = (start + learning_rate * (way + momentum * buffer)).astype(np.float32)
        if momentum:
            buffers[name] = buffer.astype(np.float32)
    state = _average([update.state for update in ordered], shares)
    return Checkpoint(
        run_id=before.run_id,
        round=before.round + 1,
        step=before.step + max(update.steps for update in ordered),
        parameters=parameters,
        state={name: array.astype(np.float32) for name, array in state.items()},
        momentum=buffers,
        progress=before.progress,
    )


def merged_loss(updates: Sequence[Update]) -> float:
    """Mean loss over all samples that the workers' steps saw."""
    return math.fsum(update.loss_sum for update in updates) / sum(update.samples for update in updates)


def round_state(artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, done: int) -> RoundState:
    """Where the run is once round `done` is committed (0: none)."""
    finished = done > 0 and read_round(artifacts, settings.run_id, done).finished
    shards = evaluation_items(manifest, settings.evaluation_split)
    return RoundState(
        round=done if finished else done + 1,
        finished=finished,
        workers=[WorkerItem(worker=worker) for worker in range(settings.workers)],
        evaluation_shards=[EvaluationItem(shard=shard) for shard in range(shards)],
    )


def predictor(session: Session, parameters: Tensors, settings: TrainingSettings) -> Predict:
    """Answers of the forward graph with a checkpoint's parameters: probabilities, or numbers in original units."""
    feeds = {PARAMETER + name: array for name, array in parameters.items()}

    def predict(batch: Tensors) -> NDArray[np.float64]:
        answers = session.run(batch | feeds)
        if settings.task == "classification":
            return softmax(answers["logits"])
        return answers["prediction"].astype(np.float64) * settings.target_std + settings.target_mean

    return predict


def _score_checkpoint(
    artifacts: ObjectStore, checkpoint: Checkpoint, settings: TrainingSettings, manifest: Manifest
) -> Metrics:
    session = session_of(artifacts.read(RunKeys(settings.run_id).forward_graph), settings.threads)
    counts = score_shards(
        predictor(session, checkpoint.parameters, settings),
        manifest.shards(settings.validation_split),
        lambda shard: load_shard(artifacts, shard),
        settings,
        limit=settings.validation_samples,
    )
    return metrics_of(counts, list(settings.classes))


def _commit(
    artifacts: ObjectStore,
    settings: TrainingSettings,
    merged: Checkpoint,
    metrics: Metrics,
    updates: Sequence[Update],
) -> None:
    keys = RunKeys(settings.run_id)
    progress = merged.progress.after(merged.round, metrics.score())
    reason = _reason_to_finish(settings, merged.round, progress)
    checkpoint = replace(merged, progress=progress)
    data = checkpoint.encode()
    artifacts.write(keys.checkpoint(checkpoint.round), data)
    if reason:
        # Only the last round needs the export, and with it the onnx layer's import time.
        from shoal_core.training.finishing import export_checkpoint

        best = progress.best_round
        export_checkpoint(
            artifacts,
            settings,
            checkpoint if best == checkpoint.round else read_checkpoint(artifacts, settings.run_id, best),
        )
    record = RoundRecord(
        run_id=settings.run_id,
        round=checkpoint.round,
        rounds=settings.rounds,
        loss=merged_loss(updates),
        validation=summary(metrics),
        validation_split=settings.validation_split,
        learning_rate=step_learning_rate(settings, checkpoint.step - 1),
        samples=sum(update.samples for update in updates),
        steps=settings.steps_per_round,
        best_round=progress.best_round,
        finished=reason is not None,
        reason=reason,
        checkpoint_sha256=hashlib.sha256(data).hexdigest(),
    )
    artifacts.write_new(keys.round(checkpoint.round), record.encode(), "application/json")


def _reason_to_finish(settings: TrainingSettings, round_: int, progress: Progress) -> str | None:
    if round_ >= settings.rounds:
        return f"all {settings.rounds} rounds are done"
    if progress.stale_rounds >= settings.patience:
        return f"no better {settings.validation_split} score for {settings.patience} rounds"
    return None


def _read_update(artifacts: ObjectStore, run_id: str, round_: int, worker: int) -> Update:
    key = RunKeys(run_id).update(round_, worker)
    try:
        update = Update.decode(artifacts.read(key), f"Update {key!r}")
    except NotFound as error:
        raise NotFound(
            f"Update {key!r} is missing: worker {worker} of run {run_id!r} hasn't finished round {round_}.",
            "Run Train Shard for it, then Merge Round again.",
        ) from error
    if (update.run_id, update.round, update.worker) != (run_id, round_, worker):
        raise BadInput(f"Update {key!r} belongs to another run, round or worker.", "Delete it and run it again.")
    return update


def _average(groups: Sequence[Tensors], shares: Sequence[float]) -> Tensors:
    """Weighted average in float64, added up in order."""
    average: Tensors = {}
    for name in groups[0]:
        total = groups[0][name].astype(np.float64) * shares[0]
        for group, share in zip(groups[1:], shares[1:], strict=True):
            total += group[name].astype(np.float64) * share
        average[name] = total
    return average
