"""Distributions for the report and for drift, from the statistics of the training split that the manifest keeps."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

from shoal_core.data.manifest import QUANTILES, CategorySummary, DatasetStatistics, NumberSummary
from shoal_core.data.quality.findings import Distribution, ValueCount
from shoal_core.data.spec import CategoryColumn, PreprocessingSpec, category_columns

MAX_TOP = 20
MISSING = "(missing or rare)"
_CHANNELS = {"rgb": ("red", "green", "blue"), "hsv": ("hue", "saturation", "value"), "ycbcr": ("Y", "Cb", "Cr")}


def distributions_of(
    spec: PreprocessingSpec, statistics: DatasetStatistics, outliers: Mapping[str, int] | None = None
) -> tuple[Distribution, ...]:
    """Every column's distribution, in the order of the spec: the target, numbers, categories, texts, channels.

    Args:
        spec: What the columns are.
        statistics: Of the training split.
        outliers: Number column -> values beyond its bounds, where they were counted.
    """
    found: list[Distribution] = []
    if statistics.target is not None:
        found.append(_of_number(spec.target.column or "target", "target", statistics.target))
    for name in number_names(spec):
        summary = statistics.numbers.get(name)
        if summary is not None:
            number = _of_number(name, "number", summary)
            update = {"bounds": statistics.bounds.get(name), "fill": statistics.fills.get(name)}
            found.append(number.model_copy(update={**update, "outliers": (outliers or {}).get(name)}))
    for column in category_columns(spec):
        if column.name in statistics.categories:
            found.append(_of_category(column, statistics.categories[column.name]))
    for text in spec.table.texts if spec.table else ():
        if text.name in statistics.texts:
            found.append(_of_number(text.name, "text", statistics.texts[text.name]))
    for name, summary in zip(channel_names(spec), statistics.channels, strict=False):
        found.append(_of_number(name, "channel", summary))
    return tuple(found)


def number_names(spec: PreprocessingSpec) -> tuple[str, ...]:
    """Names of the number columns that a spec's tensors have."""
    if spec.table is not None:
        return spec.table.number_names
    return spec.sequence.number_names if spec.sequence is not None else ()


def channel_names(spec: PreprocessingSpec) -> tuple[str, ...]:
    """Names of an image's channels."""
    if spec.image is None:
        return ()
    return ("grey",) if spec.image.channels == 1 else _CHANNELS[spec.image.color]


def category_counts(column: CategoryColumn, summary: CategorySummary) -> dict[str, int]:
    """Category -> how often it occurs; what is missing, unknown or hashed is counted together."""
    counts = dict(zip(column.categories, summary.counts[1:], strict=False))
    return {**counts, MISSING: sum(summary.counts) - sum(counts.values())}


def _of_number(name: str, kind: str, summary: NumberSummary) -> Distribution:
    if not summary.count:
        return Distribution.model_validate({"name": name, "kind": kind, "count": 0, "missing": summary.missing})
    quantiles = dict(zip((f"{share:g}" for share in QUANTILES), summary.quantiles, strict=False))
    return Distribution.model_validate(
        {
            "name": name,
            "kind": kind,
            "count": summary.count,
            "missing": summary.missing,
            "mean": summary.mean,
            "std": summary.std,
            "minimum": summary.minimum,
            "maximum": summary.maximum,
            "quantiles": quantiles,
            "histogram": summary.histogram,
        }
    )


def _of_category(column: CategoryColumn, summary: CategorySummary) -> Distribution:
    counts = category_counts(column, summary)
    missing = counts.pop(MISSING)
    present = sorted((entry for entry in counts.items() if entry[1]), key=lambda entry: (-entry[1], entry[0]))
    top = tuple(ValueCount(value=value, count=count) for value, count in present[:MAX_TOP])
    return Distribution(
        name=column.name,
        kind="category",
        count=sum(counts.values()),
        missing=missing,
        distinct=len(present),
        top=top,
        other=sum(count for _, count in present[MAX_TOP:]),
    )


class Cumulative:
    """The share of a column's values at or below any number, between what quantiles and histogram tell exactly.

    Args:
        summary: The column, with at least one value.
    """

    def __init__(self, summary: NumberSummary) -> None:
        knots = [(summary.minimum, 0.0), (summary.maximum, 1.0)]
        knots += zip(summary.quantiles, QUANTILES, strict=False)
        total = sum(summary.histogram)
        if total and summary.maximum > summary.minimum:
            width = (summary.maximum - summary.minimum) / len(summary.histogram)
            sums = itertools.accumulate(summary.histogram)
            knots += [(summary.minimum + width * edge, count / total) for edge, count in enumerate(sums, 1)]
        knots.sort()
        shares = itertools.accumulate((share for _, share in knots), max)
        self._places: Sequence[float] = [place for place, _ in knots]
        self._shares = list(shares)

    def __call__(self, value: float) -> float:
        """The share at or below a value."""
        right = bisect.bisect_right(self._places, value)
        if right == 0:
            return 0.0
        if right == len(self._places):
            return 1.0
        low, high = self._places[right - 1], self._places[right]
        below, above = self._shares[right - 1], self._shares[right]
        return below + (above - below) * (value - low) / (high - low)
