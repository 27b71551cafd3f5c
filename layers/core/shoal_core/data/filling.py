"""What a missing number becomes and what numbers are clipped to, from `dataset.yaml` and the training split."""

from __future__ import annotations

from collections.abc import Mapping

from shoal_core.data.cleaning_config import OutlierConfig
from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import DatasetStatistics
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.statistics import Moments, StatisticsAccumulator, number_names


def summarise(statistics: StatisticsAccumulator, spec: PreprocessingSpec, config: DatasetConfig) -> DatasetStatistics:
    """The statistics of a training split with `fills` and `bounds`.

    Every number has a fill, since one may be missing in a request. A column is clipped only where that leaves more than
    one value: most of the values of a rare flag lie beyond its quantiles. Numbers that dates give are never clipped;
    where anomalies are sought none is unasked, since what lies outside is what they are found by.
    """
    names = number_names(spec)
    plain = spec.table.numbers if spec.table else spec.sequence.numbers if spec.sequence else ()
    clipped = {column.name for column in plain}
    fills: dict[str, float] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for name, moments in zip(names, statistics.numbers, strict=True):
        fills[name] = _fill(moments, name, config)
        found = _bounds(moments, name, config) if name in clipped else None
        if found:
            bounds[name] = found
    return statistics.summary().model_copy(update={"fills": fills, "bounds": bounds})


def count_outliers(
    statistics: StatisticsAccumulator, spec: PreprocessingSpec, bounds: Mapping[str, tuple[float, float]]
) -> dict[str, int]:
    """How many training values lie beyond the bounds of their column, as far as the sketch tells them apart."""
    found: dict[str, int] = {}
    for name, moments in zip(number_names(spec), statistics.numbers, strict=True):
        if name in bounds:
            values, counts = moments.sketch.points()
            low, high = bounds[name]
            found[name] = int(counts[(values < low) | (values > high)].sum())
    return found


def _fill(moments: Moments, name: str, config: DatasetConfig) -> float:
    column = config.columns.get(name) or config.columns.get(name.rpartition(".")[0])
    asked = config.missing if column is None or column.missing is None else column.missing
    if not isinstance(asked, str):
        return float(asked)
    if not moments.count:
        return 0.0
    if asked == "mean":
        return moments.mean
    if asked == "mode":
        return moments.summary().mode or 0.0
    return moments.quantiles(0.5)[0]


def _bounds(moments: Moments, name: str, config: DatasetConfig) -> tuple[float, float] | None:
    column = config.columns.get(name)
    usual = "keep" if config.finds_anomalies and config.outliers == OutlierConfig() else config.outliers
    asked = usual if column is None or column.outliers is None else column.outliers
    if not isinstance(asked, OutlierConfig) or not moments.count:
        return None
    low, high = moments.quantiles(asked.quantile, 1 - asked.quantile)
    return (low, high) if low < high else None
