"""What becomes of a run's new version: it serves if it is better than the one that does, on the same test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shoal_core.data.cleaning_config import PromoteConfig
from shoal_core.data.config_types import Task
from shoal_core.registry.promotion import SERVES, WAITS, Standing, too_early
from shoal_core.training.comparing import CONFIDENCE, Comparison

METRICS: Mapping[Task, str] = {
    "classification": "accuracy", "multilabel": "micro_f1", "regression": "rmse", "anomaly": "loss",
}  # fmt: skip
"""What decides unless `promote.metric` names another; of anomalies ROC-AUC where there are labels."""
ERRORS = frozenset({"loss", "calibration_error", "hamming_loss", "rmse", "mae"})
"""Metrics of which less is better."""


class Challenge:
    """Decides between a run's version and the one in production.

    Args:
        wishes: `promote` of dataset.yaml.
        task: The run's.
        metrics: The new version's on the split.
        split: Which samples: `test`, or what stands in for it.
        compare: Scores a version on the same samples.
    """

    def __init__(
        self,
        wishes: PromoteConfig,
        task: Task,
        metrics: Mapping[str, Any],
        split: str,
        compare: Callable[[int], Comparison],
    ) -> None:
        self._wishes = wishes
        labelled = task == "anomaly" and metrics.get("roc_auc") is not None
        self._metric = wishes.metric or ("roc_auc" if labelled else METRICS[task])
        self._task = task
        self._metrics = metrics
        self._split = split
        self._compare = compare

    def __call__(self, standing: Standing) -> dict[str, Any]:
        """What becomes of the version, and why: kept with it."""
        early = too_early(standing)
        if early is not None:
            return early
        if self._wishes.mode == "always":
            return {"decision": SERVES, "reason": "promote.mode is always"}
        if self._wishes.mode == "never":
            return {"decision": WAITS, "reason": "promote.mode is never"}
        champion = standing.champion
        if champion is None:
            raise ValueError("only a first version has no champion")
        return self._against(champion)

    def _against(self, champion: int) -> dict[str, Any]:
        found = self._compare(champion)
        known = {"champion": champion, "metric": self._metric, "margin": self._wishes.margin, "split": self._split}
        if found.metrics is None:
            reason = f"it can't be compared with version {champion}: {found.reason}"
            return {**known, "decision": WAITS, "reason": reason}
        mine, theirs = self._metrics.get(self._metric), getattr(found.metrics, self._metric, None)
        if mine is None or theirs is None:
            return {**known, "decision": WAITS, "reason": f"{self._task} has no metric {self._metric} here"}
        points = gain_in_points(self._metric, float(mine), float(theirs))
        better = points > 0 and points >= self._wishes.margin
        wanted = f"by {self._wishes.margin:g} points" if self._wishes.margin else "at all"
        told = f"{points:+.2f} points of {self._metric} against version {champion}"
        paired = found.paired
        return {
            **known,
            "decision": SERVES if better else WAITS,
            "reason": told if better else f"{told}: not better {wanted}",
            "challenger_value": mine,
            "champion_value": theirs,
            "points": points,
            "samples": paired.samples,
            "better": paired.better,
            "worse": paired.worse,
            "error_gain": paired.mean_gain,
            "error_gain_interval": list(paired.interval) if paired.samples > 1 else None,
            "confidence": CONFIDENCE,
            "p_value": paired.p_value,
        }


def gain_in_points(metric: str, challenger: float, champion: float) -> float:
    """How much better the challenger is: hundredths of a share; of an error, percent of the champion's."""
    if metric not in ERRORS:
        return 100 * (challenger - champion)
    if champion == 0:
        return 0.0 if challenger == 0 else -100.0
    return 100 * (champion - challenger) / abs(champion)
