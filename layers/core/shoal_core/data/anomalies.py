"""The target of a dataset that is searched for anomalies: none, or labels that only tell how well they are found.

Known anomalies are kept out of what is learnt; everything else, unlabelled samples too, counts as normal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shoal_core.data.config import DatasetConfig
from shoal_core.data.spec import TargetSpec
from shoal_core.data.values import ValueKind, sort_naturally
from shoal_core.errors import BadConfig

NORMAL, ANOMALOUS = CLASSES = ("normal", "anomalous")
UNLABELLED = TargetSpec(task="anomaly")
LABEL_COLUMNS = ("anomaly", "anomalous", "is_anomaly", "outlier", "target", "label", "class", "y")
"""A column of one of these names is taken for labels where some of its values are called as below."""
_NORMAL_LABELS = frozenset({"normal", "good", "ok", "regular", "inlier", "benign"})
# What says so of two labels only: of ten digits 0 is one as any other.
_NORMAL_OF_TWO = frozenset({"negative", "false", "no", "0"})
_SHOWN = 20


def normal_labels(labels: Collection[str], config: DatasetConfig) -> tuple[str, ...]:
    """The labels that aren't anomalies: those of `anomaly.normal`, else those that are called so; maybe none."""
    asked = config.anomaly.normal
    called = _NORMAL_LABELS | _NORMAL_OF_TWO if len(labels) == 2 else _NORMAL_LABELS
    chosen = set(asked) if asked is not None else {label for label in labels if label.casefold() in called}
    return tuple(sort_naturally(label for label in labels if label in chosen))


def labelled_target(labels: Collection[str], config: DatasetConfig, where: str) -> TargetSpec:
    """The target where labels were pointed at.

    Args:
        labels: All that occur.
        config: What was asked for.
        where: What holds the labels, for errors.

    Raises:
        BadConfig: Which of them are normal can't be told, or isn't so.
    """
    shown = _shown(sort_naturally(labels))
    missing = sorted(set(config.anomaly.normal or ()) - set(labels))
    if missing:
        raise BadConfig(f"dataset.yaml: anomaly.normal: {where} has no label {missing[0]!r}.", f"Use some of {shown}.")
    normal = normal_labels(labels, config)
    if not normal:
        raise BadConfig(
            f"Which labels of {where} are normal isn't known: {shown}.",
            "Name them in dataset.yaml, such as `anomaly: {normal: [good]}`, or leave the labels out.",
        )
    return TargetSpec(task="anomaly", classes=CLASSES, normal=normal)


def column_target(
    column: str, kind: ValueKind, labels: Collection[str], config: DatasetConfig, where: str
) -> TargetSpec:
    """`labelled_target` of a column."""
    return labelled_target(labels, config, where).model_copy(update={"column": column, "kind": kind})


def folder_target(folders: Collection[str], config: DatasetConfig, name: str) -> tuple[TargetSpec, tuple[str, ...]]:
    """The target of files in folders, and what to warn of: folders of other names than normal ones are no labels.

    Raises:
        BadConfig: `anomaly.normal` names a folder that isn't there.
    """
    if config.anomaly.normal is not None:
        return labelled_target(folders, config, f"{name!r}, by folder,"), ()
    if normal_labels(folders, config) and len(folders) > 1:
        return labelled_target(folders, config, name), ()
    if len(folders) < 2:
        return UNLABELLED, ()
    shown = _shown(sort_naturally(folders))
    told = f"None of the folders {shown} is called normal, so they count for nothing; say so by `anomaly.normal`."
    return UNLABELLED, (told,)


def _shown(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(map(repr, labels[:_SHOWN])) + more
