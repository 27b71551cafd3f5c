"""The page's parts about columns: distributions, missing values, types and what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.data.quality.charts import bar, figure, histogram
from shoal_core.data.quality.findings import Distribution
from shoal_core.data.quality.markup import Child, Markup, element, join
from shoal_core.data.quality.page_parts import chip, hint, table
from shoal_core.data.report import Report

_MAX_CARDS = 60
_MAX_BARS = 8
_KINDS = {
    "number": "number",
    "category": "category",
    "text": "text, tokens per sample",
    "channel": "channel, 0 to 255",
    "target": "target",
}


def distributions(report: Report) -> Markup | None:
    """A card with a chart per column."""
    if not report.distributions:
        return None
    shown = report.distributions[:_MAX_CARDS]
    more = len(report.distributions) - len(shown)
    note = "Of the training split. Dashed lines: values beyond are clipped to them."
    if more:
        note += f" {more:,} more columns are in report.json."
    return join([hint(note), element("div", *map(_card, shown), class_="cards")])


def missing(report: Report) -> Markup | None:
    """Columns with missing values, the worst first; a share of all rows that were read."""
    rows_read = report.kept + report.dropped
    found = sorted((column for column in report.columns if column.missing), key=lambda each: (-each.missing, each.name))
    if not report.columns:
        return None
    if not found:
        return hint("No value is missing.")
    bars: list[Child] = []
    for column in found[:_MAX_CARDS]:
        share = min(1.0, column.missing / rows_read) if rows_read else 0.0
        told = f"{column.name}: {column.missing:,} missing, {share * 100:.1f} %"
        bars += [
            element("span", column.name, title=column.name),
            element("span", bar(share, told)),
            element("span", f"{column.missing:,} · {share * 100:.1f} %"),
        ]
    return element("div", *bars, class_="bars")


def types(report: Report) -> Markup | None:
    """What every column was taken for."""
    if not report.columns:
        return None
    flags = {flag.column: flag for flag in report.flags}
    rows: list[Sequence[Child]] = []
    for column in report.columns:
        flag = flags.get(column.name)
        mark = chip(flag.kind, "warn") if flag else None
        distinct = f"{column.distinct:,}" if column.distinct_exact else f"over {column.distinct:,}"
        why = column.reason or (flag.reason if flag else "")
        rows.append((column.name, column.type, column.role, f"{column.missing:,}", distinct, join([mark, " ", why])))
    names = ("Column", "Type", "Used as", "Missing", "Distinct", "Remarks")
    return table("Types are inferred where dataset.yaml doesn't say them", names, rows, ("Missing", "Distinct"))


def _card(column: Distribution) -> Markup:
    title = element("h3", column.name)
    kind = element("div", _KINDS[column.kind], class_="kind")
    if not column.count:
        return element("div", title, kind, hint("No value."), class_="card")
    if column.kind == "category":
        return element("div", title, kind, _category_bars(column), _facts(_category_facts(column)), class_="card")
    chart = None
    if column.histogram and column.minimum is not None and column.maximum is not None:
        told = f"Histogram of {column.name} from {figure(column.minimum)} to {figure(column.maximum)}"
        chart = histogram(column.histogram, column.minimum, column.maximum, column.bounds, told)
    return element("div", title, kind, chart, _facts(_number_facts(column)), class_="card")


def _category_bars(column: Distribution) -> Markup:
    most = column.top[0].count if column.top else 1
    cells: list[Child] = []
    for entry in column.top[:_MAX_BARS]:
        cells += [
            element("span", entry.value, title=entry.value),
            element("span", bar(entry.count / most, f"{entry.value}: {entry.count:,}")),
            element("span", f"{entry.count:,}"),
        ]
    return element("div", *cells, class_="bars")


def _category_facts(column: Distribution) -> list[tuple[str, str]]:
    rest = column.other + sum(entry.count for entry in column.top[_MAX_BARS:])
    facts = [("distinct", f"{column.distinct:,}")] if column.distinct is not None else []
    facts += [("in others", f"{rest:,}")] if rest else []
    return facts + ([("missing or rare", f"{column.missing:,}")] if column.missing else [])


def _number_facts(column: Distribution) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if column.mean is not None and column.std is not None:
        facts.append(("mean ± std", f"{figure(column.mean)} ± {figure(column.std)}"))
    middle = [column.quantiles[share] for share in ("0.25", "0.5", "0.75") if share in column.quantiles]
    if len(middle) == 3:
        facts.append(("quartiles", " · ".join(map(figure, middle))))
    if column.missing:
        facts.append(("missing", f"{column.missing:,}"))
    if column.outliers:
        facts.append(("clipped", f"{column.outliers:,}"))
    return facts


def _facts(facts: Sequence[tuple[str, str]]) -> Markup | None:
    pairs = [part for name, value in facts for part in (element("dt", name), element("dd", value))]
    return element("dl", *pairs) if pairs else None
