"""`report.html`: the report as one page for people; no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shoal_core.data.config_types import SPLITS
from shoal_core.data.quality import page_columns, page_samples
from shoal_core.data.quality.charts import stacked_bars
from shoal_core.data.quality.findings import ExpectationReport
from shoal_core.data.quality.gallery import Gallery
from shoal_core.data.quality.markup import Child, Markup, element, join, verbatim
from shoal_core.data.quality.page_parts import chip, hint, table
from shoal_core.data.quality.style import CSS, POLICY
from shoal_core.data.report import Report

_MAX_CLASSES = 40
_MAX_DROPS = 50
_MAX_FILES = 50
_LEVELS = {"none": "good", "moderate": "warn", "large": "bad"}


def render_page(report: Report, gallery: Gallery) -> bytes:
    """The page of a report, as UTF-8.

    Args:
        report: What is told; every text in it is escaped.
        gallery: Samples to show.
    """
    sections = [
        ("expectations", "Expectations", _expectations(report)),
        ("classes", "Classes and splits", _classes(report)),
        ("drift", "Change since the last version", _drift(report)),
        ("columns", "Distributions", page_columns.distributions(report)),
        ("missing", "Missing values", page_columns.missing(report)),
        ("samples", "Samples", page_samples.samples(gallery)),
        ("dropped", "Left out, and why", _dropped(report)),
        ("types", "Columns and their types", page_columns.types(report)),
        ("sources", "What was uploaded", _sources(report)),
        ("settings", "Settings", _settings(report)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body is not None]
    links = (element("a", title, href=f"#{name}") for name, title, _ in shown)
    title = f"{report.dataset} {report.version}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{title} · data report"),
        verbatim(f"<style>{CSS}</style>"),
    )
    bodies = (
        element("section", element("h2", title, id=f"{name}-title"), body, id=name, aria_labelledby=f"{name}-title")
        for name, title, body in shown
    )
    body = element(
        "body",
        element("header", element("div", *_header(report), element("nav", *links, aria_label="Sections"))),
        element("main", *bodies),
        element("footer", f"Dataset {report.dataset}, version {report.version}. The same in JSON: report.json."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


def _header(report: Report) -> list[Markup]:
    broken = sum(not expectation.held for expectation in report.expectations)
    chips: list[Markup] = []
    if report.expectations:
        text = f"{broken} of {len(report.expectations)} expectations broken" if broken else "all expectations hold"
        chips.append(chip(text, "bad" if broken else "good"))
    if report.drift is not None:
        worst = next((level for level in ("large", "moderate") if level in _drift_levels(report)), "none")
        chips.append(chip(f"{'no' if worst == 'none' else worst} drift", _LEVELS[worst]))
    kinds = {"image": "images", "table": "table", "sequence": "sequences"}
    figures = [
        (f"{report.kept:,}", "samples kept"),
        (f"{report.dropped - report.duplicates:,}", "left out"),
        (f"{report.duplicates:,}", "duplicates"),
        *((f"{report.samples.get(split, 0):,}", f"for {_purpose(split)}") for split in SPLITS),
    ]
    tiles = (element("div", element("b", value), element("span", name), class_="figure") for value, name in figures)
    return [
        element("h1", report.dataset),
        element(
            "p", f"Data report · version {report.version} · {kinds[report.kind]} · {report.task} ",
            join(chips), class_="lead",
        ),
        element("div", *tiles, class_="figures"),
    ]  # fmt: skip


def _purpose(split: str) -> str:
    return {"train": "training", "test": "testing"}.get(split, split)


def _expectations(report: Report) -> Markup | None:
    if not report.expectations:
        return None
    rows: list[Sequence[Child]] = [
        (
            expectation.what,
            chip("held", "good") if expectation.held else chip("broken", "bad"),
            _measured(expectation),
            _list(f"{row.place}: {row.value}" if row.value else row.place for row in expectation.examples[:5]),
        )
        for expectation in report.expectations
    ]
    code = element("code", "expect")
    note = element("p", "From ", code, " in dataset.yaml. A broken one stops the run before training.", class_="hint")
    return join([note, table("What was expected", ("Expectation", "Result", "Found", "First of them"), rows)])


def _measured(expectation: ExpectationReport) -> str:
    if expectation.rule == "min_samples":
        return f"{expectation.checked:,} samples"
    if expectation.rule == "min_per_class":
        return f"{expectation.broken:,} of {expectation.checked:,} classes are smaller"
    if expectation.rule == "max_missing" and expectation.measured is not None:
        return f"{expectation.measured * 100:.3g} %: {expectation.broken:,} of {expectation.checked:,} rows"
    return f"{expectation.broken:,} of {expectation.checked:,} rows broke it"


def _classes(report: Report) -> Markup | None:
    counts = report.class_counts
    rows: list[tuple[str, dict[str, int]]]
    labels = list(dict.fromkeys(label for split in SPLITS for label in counts.get(split, {})))
    if not labels:
        rows = [("samples", {split: report.samples.get(split, 0) for split in SPLITS})]
        return join([_legend(), element("div", stacked_bars(rows), class_="scroll")]) if report.kept else None
    rows = [(label, {split: counts.get(split, {}).get(label, 0) for split in SPLITS}) for label in labels]
    sums = [sum(parts.values()) for _, parts in rows]
    few, many = min(sums), max(sums)
    balance = (
        f"The largest class has {many / few:.1f} times the samples of the smallest." if few else "A class is empty."
    )
    if len(rows) > _MAX_CLASSES:
        rows = sorted(rows, key=lambda row: (-sum(row[1].values()), row[0]))[:_MAX_CLASSES]
        balance += f" The {_MAX_CLASSES} largest of {len(labels):,} classes are shown."
    return join([hint(balance), _legend(), element("div", stacked_bars(rows), class_="scroll")])


def _legend() -> Markup:
    keys = (element("span", element("i", class_=f"k-{split}"), _purpose(split)) for split in SPLITS)
    return element("div", *keys, class_="legend")


def _drift_levels(report: Report) -> set[str]:
    return {column.level for column in report.drift.columns} if report.drift else set()


def _drift(report: Report) -> Markup | None:
    drift = report.drift
    if drift is None:
        return None
    order = {"large": 0, "moderate": 1, "none": 2}
    columns = sorted(drift.columns, key=lambda column: (order[column.level], -(column.psi or 0), column.name))
    rows: list[Sequence[Child]] = [
        (
            "class balance" if column.kind == "classes" else column.name,
            chip(column.level, _LEVELS[column.level]),
            "–" if column.psi is None else f"{column.psi:.3f}",
            "–" if column.ks is None else f"{column.ks:.3f}",
            f"{column.missing * 100:+.1f}" if column.missing else "0",
            "; ".join(column.reasons),
        )
        for column in columns
    ]
    before, after = drift.samples
    note = (
        f"Training samples of version {drift.version} ({before:,}) beside these ({after:,}). PSI is the population "
        "stability index: 0.1 is a moderate change, 0.25 a large one, where chance can't explain it. KS is the largest "
        "distance of the cumulative shares."
    )
    names = ("Column", "Change", "PSI", "KS", "Missing, points", "Why")
    parts: list[Child] = [hint(note), table("Change per column", names, rows, ("PSI", "KS", "Missing, points"))]
    for word, found in (("New columns", drift.columns_added), ("Columns that are gone", drift.columns_lost)):
        if found:
            parts.append(element("p", f"{word}: {', '.join(found)}"))
    return join(parts)


def _dropped(report: Report) -> Markup | None:
    counts = sorted(report.drops.counts.items(), key=lambda entry: (-entry[1], entry[0]))
    parts: list[Child] = []
    if counts:
        rows = [(code.replace("_", " "), f"{count:,}") for code, count in counts]
        parts.append(table("Reasons", ("Reason", "Samples"), rows, ("Samples",)))
    if report.drops.examples:
        shown = report.drops.examples[:_MAX_DROPS]
        examples = [(drop.place, drop.reason, drop.fix) for drop in shown]
        told = f"The first {len(shown)} of them" if report.dropped > len(shown) else "Each of them"
        parts.append(table(told, ("Where", "Why", "What to do"), examples))
    kept = report.quarantine
    if kept.samples:
        told = f"{kept.samples:,} bad samples ({kept.bytes:,} bytes) are kept in quarantine"
        more = f"; there was no room for {kept.left_out:,} more" if kept.left_out else ""
        parts.append(hint(f"{told}{more}. See them with: shoal quarantine {report.dataset}"))
    near = report.near_duplicates
    if near is not None and near.samples:
        verb = "were left out" if near.dropped else "are still in the set"
        parts.append(element("p", f"{near.samples:,} samples nearly equal an earlier one; they {verb}."))
        pairs = [(pair.place, pair.twin) for pair in near.examples[:_MAX_DROPS]]
        parts.append(table("Near duplicates", ("Sample", "Nearly equals"), pairs))
    return join(parts) if parts else None


def _sources(report: Report) -> Markup | None:
    rows = [
        (file.file, f"{file.kept:,}", f"{sum(file.dropped.values()):,}", f"{file.ignored:,}")
        for file in report.files[:_MAX_FILES]
    ]
    numbers = ("Kept", "Left out", "Ignored")
    parts: list[Child] = [table(f"Files ({len(report.files):,})", ("File", *numbers), rows, numbers)]
    names = {"size": "Sizes in pixels", "mode": "Colour modes", "format": "Formats"}
    for what, values in sorted(report.sources.items()):
        ordered = sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
        found = [(value or "other", f"{count:,}") for value, count in ordered[:10]]
        title = f"{names.get(what, what)} ({len(ordered):,})"
        parts.append(table(title, (what.capitalize(), "Images"), found, ("Images",)))
    return join(parts)


def _settings(report: Report) -> Markup:
    inferred = set(report.inferred)
    rows: list[Sequence[Child]] = [
        (name, _value(value), chip("inferred", "plain") if name in inferred else "")
        for name, value in sorted(report.settings.items())
        if value is not None
    ]
    parts: list[Child] = [table("In force", ("Setting", "Value", ""), rows)]
    if report.warnings:
        parts += [element("h3", "Warnings"), _list(report.warnings)]
    return join(parts)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)


def _list(texts: Iterable[str]) -> Markup | None:
    items = [element("li", text) for text in texts]
    return element("ul", *items) if items else None
