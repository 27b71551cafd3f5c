"""The final, honest score: the exported model, as it will be served, on samples that training never saw."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split, Task
from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadInput, BadRequest, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.anomalies import AnomalyCounts, scored
from shoal_core.training.batches import load_shard
from shoal_core.training.candidates import read_optimization
from shoal_core.training.metrics import AnyCounts, Counts, Metrics, merge_counts, metrics_of, summary
from shoal_core.training.multilabel import THRESHOLD
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.scoring import (
    Predict,
    add_answers,
    empty_counts,
    evaluation_batches,
    group_shards,
)
from shoal_core.training.sessions import Session, session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import evaluation_items, learned_threshold

OUTPUTS: dict[Task, str] = {"classification": "probabilities", "multilabel": "probabilities", "regression": "value"}
"""The output of an exported model that is scored; of anomalies both are."""
# A matrix of 1,000 classes takes megabytes; an item of the catalog holds 400 KB.
MAX_SHOWN_MATRIX = 100


class ShardEvaluation(Frozen):
    """`evaluation/shard-00000.json`: what the model and the baseline answered on one part of the split."""

    schema_version: Literal[1] = 1
    run_id: str
    shard: int
    counts: Counts
    baseline: Counts


class Baseline(Frozen):
    """What predicting without looking at the input achieves, learnt from the training split.

    `always` is the answer it always gives: the most frequent class, the labels that most samples have (empty when there
    are none), the mean of the target, or of anomalies the mean of the data itself.
    """

    always: str | float
    metrics: dict[str, float]


class Evaluation(Frozen):
    """`evaluation/evaluation.json`: the run's metrics.

    `split` tells which samples: `test`, or where there are none `validation` or `train`, which flatter the model.
    """

    schema_version: Literal[1] = 1
    run_id: str
    dataset: str
    version: str
    task: Task
    split: Split
    samples: int
    metrics: Metrics
    baseline: Baseline
    warnings: tuple[str, ...] = ()
    model_sha256: str

    def encode(self) -> bytes:
        """The canonical bytes of the record."""
        return canonical_json(self.model_dump(mode="json"))

    def record(self) -> dict[str, Any]:
        """The metrics as the catalog and the API show them, with what they were measured on and the baseline.

        The confusion matrix of more than `MAX_SHOWN_MATRIX` classes is only in `evaluation.json`.
        """
        metrics = self.metrics.model_dump(mode="json")
        if len(metrics.get("classes", ())) > MAX_SHOWN_MATRIX:
            metrics.pop("confusion_matrix", None)
        return {
            **metrics,
            "split": self.split,
            "baseline": self.baseline.model_dump(mode="json"),
        }


def evaluate_shard(artifacts: ObjectStore, run_id: str, shard: int) -> ShardEvaluation:
    """Score the run's served model on one item of the evaluation Map; what is already there is returned as it is.

    Args:
        artifacts: The artifacts bucket.
        run_id: A finished run.
        shard: The item, from 0. Where the split has more shards than items, it covers several of them.

    Raises:
        NotFound: The run's model isn't optimised yet.
        BadRequest: No such item.
        BadDataset: A shard isn't what the manifest says.
        TrainingDiverged: An answer isn't finite.
    """
    keys = RunKeys(run_id)
    key = keys.shard_evaluation(shard)
    if artifacts.exists(key):
        return _read_shard(artifacts, run_id, shard)
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    items = evaluation_items(manifest, settings.evaluation_split)
    if not 0 <= shard < items:
        raise BadRequest(f"Run {run_id!r} has no evaluation shard {shard}.", f"Use 0 to {items - 1}.")
    session = session_of(served_model(artifacts, run_id), settings.threads)
    predict = exported_predictor(session, settings)
    counts, baseline = empty_counts(settings), empty_counts(settings)
    shards = group_shards(manifest.shards(settings.evaluation_split), shard, items)
    for batch in evaluation_batches(shards, lambda entry: load_shard(artifacts, entry)):
        target = batch.pop("target")
        counts = add_answers(counts, predict(batch), target, settings)
        baseline = add_answers(baseline, _baseline_answers(manifest, settings, len(target)), target, settings)
    evaluation = ShardEvaluation(run_id=run_id, shard=shard, counts=counts, baseline=baseline)
    artifacts.write_new(key, canonical_json(evaluation.model_dump(mode="json")), "application/json")
    return evaluation


def merge_evaluation(artifacts: ObjectStore, run_id: str) -> Evaluation:
    """Merge all items into the run's evaluation and write it; what is already there is returned as it is.

    Raises:
        NotFound: An item is missing.
    """
    keys = RunKeys(run_id)
    if artifacts.exists(keys.evaluation):
        return read_evaluation(artifacts, run_id)
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    parts = [
        _read_shard(artifacts, run_id, shard) for shard in range(evaluation_items(manifest, settings.evaluation_split))
    ]
    classes = list(settings.classes)
    metrics = _metrics(artifacts, run_id, merge_counts(part.counts for part in parts), classes)
    evaluation = Evaluation(
        run_id=run_id,
        dataset=settings.dataset,
        version=settings.version,
        task=settings.task,
        split=settings.evaluation_split,
        samples=metrics.samples,
        metrics=metrics,
        baseline=_baseline(manifest, settings, merge_counts(part.baseline for part in parts)),
        warnings=settings.warnings,
        model_sha256=hashlib.sha256(served_model(artifacts, run_id)).hexdigest(),
    )
    artifacts.write_new(keys.evaluation, evaluation.encode(), "application/json")
    return evaluation


def _metrics(artifacts: ObjectStore, run_id: str, counts: AnyCounts, classes: list[str]) -> Metrics:
    """The metrics of the served model; of anomalies with the threshold that it has."""
    if not isinstance(counts, AnomalyCounts):
        return metrics_of(counts, classes)
    return counts.metrics(learned_threshold(artifacts, run_id))


def evaluated_counts(artifacts: ObjectStore, run_id: str) -> AnyCounts:
    """What the run's served model answered on the whole split, as counts. Raises `NotFound` before the evaluation."""
    settings = read_settings(artifacts, run_id)
    items = evaluation_items(read_manifest(artifacts, settings), settings.evaluation_split)
    return merge_counts(_read_shard(artifacts, run_id, shard).counts for shard in range(items))


def read_evaluation(artifacts: ObjectStore, run_id: str) -> Evaluation:
    """The evaluation of a run. Raises `NotFound` before `merge_evaluation`, `BadInput` when it is damaged."""
    key = RunKeys(run_id).evaluation
    try:
        return Evaluation.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(f"Evaluation {key!r} can't be read: {error}.", "Delete it and evaluate again.") from error


def exported_predictor(session: Session, settings: TrainingSettings) -> Predict:
    """Answers of an exported model: probabilities, numbers in the target's own units, or `anomalies.scored`."""
    if settings.task == "anomaly":
        return lambda batch: scored(session.run(batch))
    name = OUTPUTS[settings.task]

    def predict(batch: Tensors) -> NDArray[Any]:
        return session.run(batch)[name]

    return predict


def _baseline_answers(manifest: Manifest, settings: TrainingSettings, samples: int) -> NDArray[np.float64]:
    if settings.task == "regression":
        return np.full(samples, settings.target_mean, np.float64)
    if settings.task == "anomaly":
        return np.ones(samples, np.float64)
    counts = np.array([manifest.statistics.classes.get(label, 0) for label in settings.classes], np.float64)
    whole = counts.sum() if settings.task == "classification" else max(1, manifest.statistics.samples)
    return np.tile(counts / whole, (samples, 1))


def _baseline(manifest: Manifest, settings: TrainingSettings, counts: AnyCounts) -> Baseline:
    answers = _baseline_answers(manifest, settings, 1)
    always: str | float = settings.target_mean
    if settings.task == "anomaly":
        always = "the training data's mean"
    elif settings.task == "classification":
        always = settings.classes[int(answers[0].argmax())]
    elif settings.task == "multilabel":
        chosen = zip(settings.classes, answers[0].tolist(), strict=True)
        always = ", ".join(label for label, share in chosen if share >= THRESHOLD)
    return Baseline(always=always, metrics=summary(metrics_of(counts, list(settings.classes))))


def served_model(artifacts: ObjectStore, run_id: str) -> bytes:
    """The model that will be served: what is told of it has to be its own."""
    try:
        key = read_optimization(artifacts, run_id).model_key
    except NotFound as error:
        raise NotFound(f"Run {run_id!r} has no model to serve yet.", "Optimize its model first.") from error
    return artifacts.read(key)


def _read_shard(artifacts: ObjectStore, run_id: str, shard: int) -> ShardEvaluation:
    key = RunKeys(run_id).shard_evaluation(shard)
    try:
        return ShardEvaluation.model_validate_json(artifacts.read(key))
    except NotFound as error:
        raise NotFound(
            f"Evaluation {key!r} is missing: shard {shard} of run {run_id!r} hasn't been evaluated.",
            "Run Evaluate Model for it, then merge again.",
        ) from error
    except ValueError as error:
        raise BadInput(f"Evaluation {key!r} can't be read: {error}.", "Delete it and evaluate again.") from error
