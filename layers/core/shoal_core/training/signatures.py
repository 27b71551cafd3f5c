"""What the network of a dataset version sees and answers."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.data.manifest import Manifest
from shoal_core.graphs.signature import (
    Anomaly,
    CategoriesInput,
    Classification,
    ImageInput,
    Multilabel,
    NetworkSignature,
    NumbersInput,
    Regression,
    SequenceInput,
    TokenColumn,
    TokensInput,
)
from shoal_core.training.moments import column_moments, column_summaries, missing_summary


def signature_of(manifest: Manifest) -> NetworkSignature:
    """What the network of a dataset version sees and answers.

    Raises:
        BadDataset: A statistic that the network needs is missing.
    """
    spec, task = manifest.spec, _task(manifest)
    if spec.image:
        channels = manifest.statistics.channels
        image = ImageInput(
            shape=(spec.image.channels, spec.image.height, spec.image.width),
            mean=tuple(channel.mean for channel in channels),
            std=tuple(channel.std for channel in channels),
        )
        return NetworkSignature(image=image, task=task)
    if spec.sequence:
        columns = dict(_columns(manifest, spec.sequence.number_names)) if spec.sequence.numbers else {}
        cardinalities = tuple(column.cardinality for column in spec.sequence.categories)
        sequence = SequenceInput(steps=spec.sequence.window, cardinalities=cardinalities, **columns)
        return NetworkSignature(sequence=sequence, task=task)
    numbers = categories = tokens = None
    if spec.table and spec.table.number_names:
        numbers = _columns(manifest, spec.table.number_names)
    if spec.table and spec.table.categories:
        categories = CategoriesInput(cardinalities=tuple(column.cardinality for column in spec.table.categories))
    if spec.table and spec.table.texts:
        texts = spec.table.texts
        tokens = TokensInput(
            columns=tuple(TokenColumn(length=text.length, cardinality=text.cardinality) for text in texts)
        )
    return NetworkSignature(numbers=numbers, categories=categories, tokens=tokens, task=task)


def _task(manifest: Manifest) -> Classification | Multilabel | Regression | Anomaly:
    target = manifest.spec.target
    if target.task == "classification":
        return Classification(classes=len(target.classes))
    if target.task == "multilabel":
        return Multilabel(classes=len(target.classes))
    if target.task == "anomaly":
        return Anomaly()
    summary = manifest.statistics.target or missing_summary(manifest, "the target")
    return Regression(mean=summary.mean, std=summary.std)


def _columns(manifest: Manifest, names: Sequence[str]) -> NumbersInput:
    statistics = manifest.statistics
    moments = column_moments(manifest, names)
    bounds = tuple(statistics.bounds.get(name) for name in names)
    return NumbersInput(
        mean=tuple(mean for mean, _ in moments),
        std=tuple(std for _, std in moments),
        missing=tuple(summary.missing > 0 for summary in column_summaries(manifest, names)),
        fill=tuple(statistics.fills.get(name) for name in names) if statistics.fills else (),
        bounds=bounds if any(bounds) else (),
    )
