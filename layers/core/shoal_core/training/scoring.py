"""Scoring a model over shards, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import ShardFile
from shoal_core.data.shards import Tensors
from shoal_core.errors import TrainingDiverged
from shoal_core.training.anomalies import AnomalyCounts
from shoal_core.training.batches import LoadShard
from shoal_core.training.metrics import AnyCounts, ClassificationCounts, RegressionCounts, add_counts
from shoal_core.training.multilabel import MultilabelCounts
from shoal_core.training.settings import TrainingSettings

MAX_BATCH = 256
# Activations of a convolution are some hundred bytes per input element; this keeps a batch in the low hundred MB.
_BATCH_ELEMENTS = 2**20

Predict = Callable[[Tensors], NDArray[Any]]
"""Data tensors of a batch -> probabilities [N, C] (that sum to 1, or one for each label), or predictions [N] or [N, 1]
in the target's own units; of anomalies scores [N, 1], with whether each is called one [N, 2]."""


def score_shards(
    predict: Predict, shards: Iterable[ShardFile], load: LoadShard, settings: TrainingSettings, limit: int | None = None
) -> AnyCounts:
    """Counts of a model's answers over shards.

    Args:
        predict: The model.
        shards: Shards, in order.
        load: Gives a shard's tensors, `target` among them.
        settings: Of the run.
        limit: Stop after so many samples.

    Raises:
        TrainingDiverged: An answer isn't finite.
    """
    total = empty_counts(settings)
    for batch in evaluation_batches(shards, load, limit):
        target = batch.pop("target")
        total = add_answers(total, predict(batch), target, settings)
    return total


def empty_counts(settings: TrainingSettings) -> AnyCounts:
    """Counts of no samples, for the run's task."""
    if settings.task == "classification":
        return ClassificationCounts.empty(len(settings.classes))
    if settings.task == "multilabel":
        return MultilabelCounts.empty(len(settings.classes))
    return RegressionCounts() if settings.task == "regression" else AnomalyCounts(quantile=settings.anomaly_quantile)


def add_answers(total: AnyCounts, answers: NDArray[Any], target: NDArray[Any], settings: TrainingSettings) -> AnyCounts:
    """Counts with one batch's answers added. Raises `TrainingDiverged` when an answer isn't finite."""
    try:
        return add_counts(total, type(total).of(answers, target))
    except TrainingDiverged as error:
        raise TrainingDiverged(f"Run {settings.run_id!r}: {error.reason}", error.fix) from error


def evaluation_batches(shards: Iterable[ShardFile], load: LoadShard, limit: int | None = None) -> Iterator[Tensors]:
    """Samples of shards in order, as batches that never cross a shard, `target` included."""
    left = limit
    for shard in shards:
        if left is not None and left <= 0:
            return
        tensors = load(shard)
        samples = shard.samples if left is None else min(left, shard.samples)
        size = batch_rows(tensors)
        for start in range(0, samples, size):
            yield {name: array[start : min(start + size, samples)] for name, array in tensors.items()}
        if left is not None:
            left -= samples


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities [N, C] of logits [N, C], in float64."""
    shifted = logits.astype(np.float64)
    # Infinite logits become NaN here, which the metrics refuse by name.
    with np.errstate(invalid="ignore"):
        shifted -= shifted.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float64)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """A probability for each logit, in float64."""
    wide = logits.astype(np.float64)
    small = np.exp(-np.abs(wide))
    return np.asarray(np.where(wide < 0, small, 1) / (1 + small), np.float64)


def group_shards(shards: Sequence[ShardFile], group: int, groups: int) -> list[ShardFile]:
    """Every `groups`-th shard from `group` on: the part of one item of the evaluation Map."""
    return list(shards[group::groups])


def batch_rows(tensors: Tensors) -> int:
    """How many samples go through a network at once, so that its activations stay in the low hundred MB."""
    elements = max(int(np.prod(array.shape[1:])) for array in tensors.values())
    return max(1, min(MAX_BATCH, _BATCH_ELEMENTS // max(1, elements)))
