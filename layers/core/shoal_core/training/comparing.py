"""Champion and challenger: both served files on the very same samples, one by one, and what that says.

The challenger's test split is the measure: it is cut by content hash, so samples of an older version that are still
there are on the side they were on. Shards hold encoded tensors, so the champion reads them translated by its own spec,
where that is exact (`data.translating`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.canonical import canonical_json
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.translating import Incomparable, Translation
from shoal_core.errors import BadInput, NotFound, TrainingDiverged
from shoal_core.frozen import Frozen
from shoal_core.keys import ModelKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.evaluating import exported_predictor, served_model
from shoal_core.training.exact_sums import ExactSum
from shoal_core.training.metrics import AnyCounts, Counts, Metrics, merge_counts, metrics_of
from shoal_core.training.multilabel import THRESHOLD
from shoal_core.training.requests import run_config
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.scoring import add_answers, empty_counts, evaluation_batches, group_shards
from shoal_core.training.sessions import session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import evaluation_items

CONFIDENCE = 0.95
_Z = 1.959963984540054  # of the normal distribution, two-sided at CONFIDENCE
_EXACT = 2000
"""Up to so many samples that tell two models apart, the binomial test is summed exactly; above, it is a normal one."""


class Paired(Frozen):
    """Errors of two models on the same samples: mergeable, and exactly so.

    An error is 1 for a wrong class, the number of wrong labels, or the squared difference of a number. `better` and
    `worse` count samples on which the challenger's is smaller and larger; `gain` sums champion's minus challenger's,
    `squared` its square.
    """

    samples: int = 0
    better: int = 0
    worse: int = 0
    gain: ExactSum = ExactSum()
    squared: ExactSum = ExactSum()

    @classmethod
    def of(cls, challenger: NDArray[np.float64], champion: NDArray[np.float64]) -> Paired:
        """Compare a batch's errors [N] and [N]."""
        gain = champion - challenger
        return cls(
            samples=len(gain),
            better=int((gain > 0).sum()),
            worse=int((gain < 0).sum()),
            gain=ExactSum.of(gain.tolist()),
            squared=ExactSum.of((gain * gain).tolist()),
        )

    def merge(self, other: Paired) -> Paired:
        """Both sets of samples together."""
        return Paired(
            samples=self.samples + other.samples,
            better=self.better + other.better,
            worse=self.worse + other.worse,
            gain=self.gain.merge(other.gain),
            squared=self.squared.merge(other.squared),
        )

    @property
    def mean_gain(self) -> float:
        """How much smaller the challenger's error is, per sample."""
        return self.gain.value() / self.samples if self.samples else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true `mean_gain` lies with a confidence of 95 %, by the normal approximation of a mean."""
        if self.samples < 2:
            return (-math.inf, math.inf)
        variance = max(0.0, self.squared.value() - self.gain.value() ** 2 / self.samples) / (self.samples - 1)
        half = _Z * math.sqrt(variance / self.samples)
        return (self.mean_gain - half, self.mean_gain + half)

    @property
    def p_value(self) -> float:
        """How likely a split at least as uneven were if neither was better: the exact binomial test of the samples
        that tell them apart (McNemar's for classes, the sign test for numbers).

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
        """
        count, fewer = self.better + self.worse, min(self.better, self.worse)
        if count == 0:
            return 1.0
        if count > _EXACT:
            return math.erfc(max(0.0, abs(self.better - self.worse) - 1) / math.sqrt(2 * count))
        tail = sum(math.comb(count, index) for index in range(fewer + 1))
        return float(min(1.0, 2 * tail / 2**count))


class ChampionShard(Frozen):
    """`evaluation/champion-000001/shard-00000.json`: the champion on one part of the challenger's split.

    `counts` and `paired` are None where the two can't be compared, which `reason` tells.
    """

    schema_version: Literal[1] = 1
    run_id: str
    champion: int
    shard: int
    counts: Counts | None = None
    paired: Paired | None = None
    reason: str = ""


class Comparison(Frozen):
    """Champion and challenger on the whole split. `metrics` are the champion's; without them `reason` tells why."""

    champion: int
    paired: Paired = Paired()
    metrics: Metrics | None = None
    reason: str = ""


def compare_shard(artifacts: ObjectStore, run_id: str, shard: int, champion: int) -> ChampionShard:
    """Score a champion beside a run's served model on one item of the evaluation; what is there is returned as it is.

    Args:
        artifacts: The artifacts bucket.
        run_id: A run whose model is optimised.
        shard: The item, from 0.
        champion: A version of the run's model.

    Raises:
        NotFound: The run's model isn't there yet.
        BadDataset: A shard isn't what the manifest says.
    """
    key = RunKeys(run_id).champion_shard(champion, shard)
    if not artifacts.exists(key):
        found = _compared(artifacts, run_id, shard, champion)
        artifacts.write_new(key, canonical_json(found.model_dump(mode="json")), "application/json")
    try:
        return ChampionShard.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(f"Comparison {key!r} can't be read: {error}.", "Delete it and evaluate again.") from error


def is_compared(artifacts: ObjectStore, run_id: str) -> bool:
    """Whether a run's model has to be better than the champion: it may be said that it serves or waits anyhow."""
    manifest = read_manifest(artifacts, read_settings(artifacts, run_id))
    return run_config(artifacts, run_id, manifest).promote.mode == "auto"


def compare(artifacts: ObjectStore, run_id: str, champion: int) -> Comparison:
    """Compare a run's served model with a champion on the run's whole test split.

    What Evaluate Model has compared is only merged; when another version came into production since, the rest is
    computed here.
    """
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    paired = Paired()
    counts: list[AnyCounts] = []
    for shard in range(evaluation_items(manifest, settings.evaluation_split)):
        part = compare_shard(artifacts, run_id, shard, champion)
        if part.counts is None or part.paired is None:
            return Comparison(champion=champion, reason=part.reason)
        paired, counts = paired.merge(part.paired), [*counts, part.counts]
    metrics = metrics_of(merge_counts(counts), list(settings.classes))
    return Comparison(champion=champion, paired=paired, metrics=metrics)


def _compared(artifacts: ObjectStore, run_id: str, shard: int, champion: int) -> ChampionShard:
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    keys = ModelKeys(settings.dataset, champion)
    entry = ChampionShard(run_id=run_id, champion=champion, shard=shard)
    try:
        translate = Translation(manifest.spec, PreprocessingSpec.decode(artifacts.read(keys.spec)))
        model = artifacts.read(keys.onnx)
    except Incomparable as error:
        return entry.model_copy(update={"reason": error.reason.rstrip(".")})
    except NotFound:
        return entry.model_copy(update={"reason": "its files aren't there any more"})
    challenger = exported_predictor(session_of(served_model(artifacts, run_id), settings.threads), settings)
    items = evaluation_items(manifest, settings.evaluation_split)
    shards = group_shards(manifest.shards(settings.evaluation_split), shard, items)
    counts, paired = empty_counts(settings), Paired()
    for batch in evaluation_batches(shards, lambda part: load_shard(artifacts, part)):
        target = batch.pop("target")
        try:
            theirs = exported_predictor(session_of(model, settings.threads), settings)(translate(batch))
            counts = add_answers(counts, theirs, target, settings)
        except TrainingDiverged:
            return entry.model_copy(update={"reason": "its answers on the test split aren't finite"})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
            return entry.model_copy(update={"reason": f"it fails on the test split: {str(error)[:200]}"})
        mine = errors_of(challenger(batch), target, settings)
        paired = paired.merge(Paired.of(mine, errors_of(theirs, target, settings)))
    return entry.model_copy(update={"counts": counts, "paired": paired})


def errors_of(answers: NDArray[Any], target: NDArray[Any], settings: TrainingSettings) -> NDArray[np.float64]:
    """Each sample's error [N]: 1 for a wrong class, the number of wrong labels, the squared difference; of anomalies 1
    where one is missed or raised in vain, or without labels the score.
    """
    if settings.task == "classification":
        return np.asarray(answers.argmax(axis=1) != target, np.float64)
    if settings.task == "multilabel":
        wrong = (answers >= THRESHOLD) != (target != 0)
        return np.asarray(wrong.sum(axis=1), np.float64)
    if settings.task == "anomaly":
        return np.asarray((answers[:, 1] != target) if settings.classes else answers[:, 0], np.float64)
    difference = answers.astype(np.float64).reshape(-1) - target.astype(np.float64).reshape(-1)
    return np.asarray(difference * difference, np.float64)
