"""The parts of a report that tell about quality: expectations, distributions, flags, drift, the quarantine.

Plain documents: nothing here computes, so that the API can read a report without numpy.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shoal_core.frozen import Frozen

MAX_EXAMPLE_TEXT = 300
MAX_BROKEN_ROWS = 20

Rule = Literal["min", "max", "values", "pattern", "unique", "max_missing", "min_per_class", "min_samples"]


class BrokenRow(Frozen):
    """A row that broke an expectation: its file, its place there (a line), and the value as text."""

    file: str
    place: str
    value: str


def broken_row(file: str, place: str, value: str) -> BrokenRow:
    """A row that broke something, its texts cut to what a report has room for."""
    return BrokenRow(file=file[:MAX_EXAMPLE_TEXT], place=place[:MAX_EXAMPLE_TEXT], value=value[:MAX_EXAMPLE_TEXT])


class ExpectationReport(Frozen):
    """One expectation of `dataset.yaml`: what was expected, whether it held, and the first rows that broke it.

    `index` counts from 0 in `expect`; a list entry with `min` and `max` gives two of these. `checked` are the rows (or
    samples) looked at, `broken` those that broke it. `measured` is what was found where one number says it: the share
    of missing values, the smallest class, the number of samples.
    """

    index: int = Field(ge=0)
    rule: Rule
    column: str | None = None
    what: str
    held: bool
    checked: int = Field(ge=0)
    broken: int = Field(ge=0)
    measured: float | None = None
    examples: tuple[BrokenRow, ...] = ()


class QuarantineReport(Frozen):
    """What is kept under `quarantine/`: samples, their bytes, and how many more there was no room for."""

    samples: int = Field(ge=0, default=0)
    bytes: int = Field(ge=0, default=0)
    left_out: int = Field(ge=0, default=0)


class ValueCount(Frozen):
    """A value as text, and how often it occurs."""

    value: str
    count: int = Field(ge=0)


class Distribution(Frozen):
    """How the values of one column (or image channel, or target) of the training split lie.

    Numbers: `mean`, `std` (the population's), `minimum`, `maximum`, `quantiles` (share -> value), `histogram` (counts
    in bins of equal width from minimum to maximum), `bounds` that values are clipped to and `outliers`, values beyond
    them; `fill` is what a missing value becomes. Categories: `top` values with counts, `distinct` values, `other`
    counts what `top` doesn't show. Texts: numbers about their lengths in tokens.
    """

    name: str
    kind: Literal["number", "category", "text", "channel", "target"]
    count: int = Field(ge=0)
    missing: int = Field(ge=0, default=0)
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: dict[str, float] = Field(default={})
    histogram: tuple[int, ...] = ()
    bounds: tuple[float, float] | None = None
    outliers: int | None = None
    fill: float | None = None
    distinct: int | None = None
    top: tuple[ValueCount, ...] = ()
    other: int = Field(ge=0, default=0)


class ColumnFlag(Frozen):
    """A column to look at: it holds one value, equals the target, or equals another column."""

    column: str
    kind: Literal["constant", "leaking", "duplicate"]
    reason: str


class NearDuplicate(Frozen):
    """A sample that nearly equals another one, by their places."""

    place: str
    twin: str


class NearDuplicatesReport(Frozen):
    """Samples that nearly equal an earlier one: how many, whether they were dropped, and the first few."""

    samples: int = Field(ge=0)
    dropped: bool
    examples: tuple[NearDuplicate, ...] = ()


class ColumnDrift(Frozen):
    """How one column changed since the compared version.

    `psi` is the population stability index; `ks` the largest distance of the cumulative shares between the quantiles
    of both versions, which the Kolmogorov-Smirnov statistic isn't below (numbers only). `missing` is the change of the
    share of missing values. `added` and `lost` are categories (the first 20).
    """

    name: str
    kind: Literal["number", "category", "text", "channel", "target", "classes"]
    level: Literal["none", "moderate", "large"]
    psi: float | None = None
    ks: float | None = None
    missing: float = 0.0
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class DriftReport(Frozen):
    """How a version differs from the one that was the newest ready one when it was committed."""

    version: str
    columns: tuple[ColumnDrift, ...] = ()
    columns_added: tuple[str, ...] = ()
    columns_lost: tuple[str, ...] = ()
    samples: tuple[int, int] = Field(description="training samples of the compared version, and of this one")
    thresholds: dict[str, float] = Field(default={})
