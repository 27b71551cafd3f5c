"""Drift: how the training split of a version differs from the version before it, column by column.

- *Population stability index*: sum of (a - b) ln(a / b) over the shares a and b of bins. 0.1 and 0.25 are the customary
  limits of a moderate and a large change (N. Siddiqi, "Credit Risk Scorecards", 2006, chapter 8). Shares below 1e-4
  count as that. Small sets differ by chance: the index of two samples of one distribution, divided by (1/n + 1/m), is
  about chi-square with bins - 1 degrees of freedom (B. Yurdakul, "Statistical properties of population stability
  index", 2018), so a change counts only beyond its 99 % quantile.
- *Kolmogorov-Smirnov distance* of number columns, from below: the largest difference of the two cumulative shares at
  the cuts between the quantiles of both versions.
- *Missing values*: a change of their share by 5 or 20 percentage points is moderate or large. These two are ours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from shoal_core.data.manifest import DatasetStatistics, Manifest, NumberSummary
from shoal_core.data.quality.distributions import MISSING, Cumulative, category_counts, channel_names, number_names
from shoal_core.data.quality.findings import ColumnDrift, DriftReport
from shoal_core.data.spec import PreprocessingSpec, category_columns

PSI_MODERATE = 0.1
PSI_LARGE = 0.25
MISSING_MODERATE = 0.05
MISSING_LARGE = 0.2
_FLOOR = 1e-4
_MAX_NAMES = 20
_CUT_SHARES = slice(2, 7)  # of manifest.QUANTILES: 0.05, 0.25, 0.5, 0.75, 0.95
_Z_99 = 2.3263478740408408  # the 99 % quantile of the normal distribution

Level = Literal["none", "moderate", "large"]


def compare_versions(before: Manifest, spec: PreprocessingSpec, statistics: DatasetStatistics) -> DriftReport:
    """Compare a version's training split with an earlier version's.

    Args:
        before: The earlier version's manifest.
        spec: What this version's columns are.
        statistics: Of this version's training split.
    """
    old, new = _numbers(before.spec, before.statistics), _numbers(spec, statistics)
    columns = [_drift_of_numbers(name, new[name][0], old[name][1], new[name][1]) for name in new if name in old]
    old_values, new_values = _categories(before.spec, before.statistics), _categories(spec, statistics)
    columns += [
        _drift_of_categories(name, "category", old_values[name], new_values[name])
        for name in new_values
        if name in old_values
    ]
    if statistics.classes and before.statistics.classes:
        columns.insert(0, _drift_of_categories("classes", "classes", before.statistics.classes, statistics.classes))
    here, there = {*new, *new_values}, {*old, *old_values}
    return DriftReport(
        version=before.version,
        columns=tuple(columns),
        columns_added=tuple(sorted(here - there)),
        columns_lost=tuple(sorted(there - here)),
        samples=(before.statistics.samples, statistics.samples),
        thresholds={
            "psi_moderate": PSI_MODERATE,
            "psi_large": PSI_LARGE,
            "missing_moderate": MISSING_MODERATE,
            "missing_large": MISSING_LARGE,
        },
    )


_Kind = Literal["number", "text", "channel", "target"]


def _numbers(spec: PreprocessingSpec, statistics: DatasetStatistics) -> dict[str, tuple[_Kind, NumberSummary]]:
    found: dict[str, tuple[_Kind, NumberSummary]] = {}
    if statistics.target is not None:
        found[spec.target.column or "target"] = ("target", statistics.target)
    for name in number_names(spec):
        if name in statistics.numbers:
            found[name] = ("number", statistics.numbers[name])
    for text in spec.table.texts if spec.table else ():
        if text.name in statistics.texts:
            found[text.name] = ("text", statistics.texts[text.name])
    for name, summary in zip(channel_names(spec), statistics.channels, strict=False):
        found[name] = ("channel", summary)
    return found


def _categories(spec: PreprocessingSpec, statistics: DatasetStatistics) -> dict[str, dict[str, int]]:
    return {
        column.name: category_counts(column, statistics.categories[column.name])
        for column in category_columns(spec)
        if column.name in statistics.categories
    }


def _drift_of_numbers(name: str, kind: _Kind, old: NumberSummary, new: NumberSummary) -> ColumnDrift:
    missing = _missing_share(new) - _missing_share(old)
    if not old.count or not new.count:
        level = _level(abs(missing), MISSING_MODERATE, MISSING_LARGE)
        return ColumnDrift(name=name, kind=kind, level=level, missing=missing, reasons=_missing_reason(missing))
    before, after = Cumulative(old), Cumulative(new)
    cuts = _cuts(old)
    psi, bins = _psi(_shares(before, cuts), _shares(after, cuts))
    by_psi = _psi_level(psi, bins, old.count, new.count)
    level = _worst(by_psi, _level(abs(missing), MISSING_MODERATE, MISSING_LARGE))
    ks = max(abs(before(place) - after(place)) for place in (*cuts, *_cuts(new)))
    reasons = (*_psi_reason(psi, by_psi), *_missing_reason(missing))
    return ColumnDrift(name=name, kind=kind, level=level, psi=psi, ks=ks, missing=missing, reasons=reasons)


def _drift_of_categories(
    name: str, kind: Literal["category", "classes"], old: Mapping[str, int], new: Mapping[str, int]
) -> ColumnDrift:
    names = sorted({*old, *new})
    sizes = sum(old.values()), sum(new.values())
    if not all(sizes):
        return ColumnDrift(name=name, kind=kind, level="none")
    before = [old.get(value, 0) / sizes[0] for value in names]
    after = [new.get(value, 0) / sizes[1] for value in names]
    psi, bins = _psi(before, after)
    by_psi = _psi_level(psi, bins, *sizes)
    missing = new.get(MISSING, 0) / sizes[1] - old.get(MISSING, 0) / sizes[0]
    added = [value for value in names if new.get(value) and not old.get(value) and value != MISSING]
    lost = [value for value in names if old.get(value) and not new.get(value) and value != MISSING]
    by_names: Level = "moderate" if kind == "classes" and (added or lost) else "none"
    reasons = [*_psi_reason(psi, by_psi), *_missing_reason(missing)]
    reasons += [
        f"{word} {', '.join(found[:5])}{' …' if len(found) > 5 else ''}"
        for word, found in (("new:", added), ("gone:", lost))
        if found
    ]
    return ColumnDrift(
        name=name,
        kind=kind,
        level=_worst(by_psi, by_names, _level(abs(missing), MISSING_MODERATE, MISSING_LARGE)),
        psi=psi,
        missing=missing,
        added=tuple(added[:_MAX_NAMES]),
        lost=tuple(lost[:_MAX_NAMES]),
        reasons=tuple(reasons),
    )


def _cuts(summary: NumberSummary) -> list[float]:
    """Where to cut: between neighbours of the quantiles, so that a column of few values is cut between them."""
    points = sorted({summary.minimum, *summary.quantiles[_CUT_SHARES], summary.maximum})
    return [(low + high) / 2 for low, high in itertools.pairwise(points)] or [summary.minimum]


def _shares(cumulative: Cumulative, cuts: Sequence[float]) -> list[float]:
    sums = [0.0, *(cumulative(cut) for cut in cuts), 1.0]
    return [high - low for low, high in itertools.pairwise(sums)]


def _psi(before: Sequence[float], after: Sequence[float]) -> tuple[float, int]:
    """The index, and the number of bins that either one has values in."""
    total, bins = 0.0, 0
    for old, new in zip(before, after, strict=True):
        if old > _FLOOR or new > _FLOOR:
            old, new = max(old, _FLOOR), max(new, _FLOOR)
            total += (new - old) * math.log(new / old)
            bins += 1
    return total, bins


def _psi_level(psi: float, bins: int, old: int, new: int) -> Level:
    by_chance = _chi_square_99(max(1, bins - 1)) * (1 / old + 1 / new)
    return _level(psi, PSI_MODERATE, PSI_LARGE) if psi > by_chance else "none"


def _chi_square_99(freedom: int) -> float:
    """The 99 % quantile of chi-square (E. B. Wilson and M. M. Hilferty, 1931: within 1 %)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + _Z_99 * math.sqrt(part)) ** 3


def _missing_share(summary: NumberSummary) -> float:
    total = summary.count + summary.missing
    return summary.missing / total if total else 0.0


def _level(value: float, moderate: float, large: float) -> Level:
    return "large" if value >= large else "moderate" if value >= moderate else "none"


def _worst(*levels: Level) -> Level:
    order: Iterable[Level] = ("large", "moderate")
    return next((level for level in order if level in levels), "none")


def _psi_reason(psi: float, level: Level) -> tuple[str, ...]:
    return () if level == "none" else (f"the values lie differently (PSI {psi:.2f})",)


def _missing_reason(change: float) -> tuple[str, ...]:
    if abs(change) < MISSING_MODERATE:
        return ()
    return (f"{abs(change) * 100:.0f} percentage points {'more' if change > 0 else 'fewer'} missing",)
