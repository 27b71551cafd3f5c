"""Expectations over the whole set: the findings of all work items, merged, and what the set as a whole came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shoal_core.data.cleaning_config import Expectation
from shoal_core.data.quality.expectations import Clause, ClauseTally, clauses_of, merge_checks
from shoal_core.data.quality.findings import MAX_BROKEN_ROWS, BrokenRow, ExpectationReport, broken_row
from shoal_core.data.quality.items import ItemFindings
from shoal_core.data.quality.uniqueness import find_repeats
from shoal_core.errors import BadDataset
from shoal_core.store import ObjectStore

_SHOWN_ROWS = 3


def judge_expectations(
    artifacts: ObjectStore,
    expect: Sequence[Expectation],
    findings: Sequence[ItemFindings],
    samples: int,
    class_counts: Mapping[str, int],
) -> tuple[ExpectationReport, ...]:
    """Say of every expectation whether it held.

    Args:
        artifacts: Where work items left the values of unique columns.
        expect: The expectations of `dataset.yaml`.
        findings: Of all work items, in their order.
        samples: Samples kept, after dedupe, of all splits.
        class_counts: Class -> samples kept; empty for a regression.

    Returns:
        One report per condition, in the order of `dataset.yaml`.
    """
    merged = {tally.clause: tally for tally in merge_checks(part.checks for part in findings).clauses}
    hashes = [file for part in findings for file in part.hashes]
    reports: list[ExpectationReport] = []
    for number, clause in enumerate(clauses_of(expect)):
        tally = merged.get(number, ClauseTally(clause=number))
        if clause.rule == "unique":
            count, rows = find_repeats(artifacts, [file for file in hashes if file.clause == number])
            reports.append(_report(clause, tally.checked, count, rows))
        elif clause.rule == "max_missing":
            share = tally.broken / tally.checked if tally.checked else 0.0
            held = share <= clause.bound
            reports.append(_report(clause, tally.checked, tally.broken, tally.examples, held=held, measured=share))
        elif clause.rule == "min_samples":
            held = samples >= clause.bound
            reports.append(_report(clause, samples, int(not held), (), measured=samples))
        elif clause.rule == "min_per_class":
            reports.append(_judge_classes(clause, class_counts))
        else:
            reports.append(_report(clause, tally.checked, tally.broken, tally.examples))
    return tuple(reports)


def broken_expectations(reports: Iterable[ExpectationReport], source: str) -> BadDataset | None:
    """The error that names every broken expectation with its count and first rows; None when all held."""
    broken = [report for report in reports if not report.held]
    if not broken:
        return None
    told = "; ".join(_tell(report) for report in broken)
    one = len(broken) == 1
    return BadDataset(
        f"{source!r} breaks {len(broken)} expectation{'' if one else 's'} of dataset.yaml: {told}.",
        "Correct the data and upload it again, or change `expect`; the report shows more of the rows.",
    )


def _judge_classes(clause: Clause, class_counts: Mapping[str, int]) -> ExpectationReport:
    small = [(label, count) for label, count in class_counts.items() if count < clause.bound]
    examples = tuple(broken_row("", label, f"{count:,} samples") for label, count in small[:MAX_BROKEN_ROWS])
    smallest = min(class_counts.values(), default=0)
    return _report(clause, len(class_counts), len(small), examples, measured=smallest)


def _report(
    clause: Clause,
    checked: int,
    broken: int,
    examples: tuple[BrokenRow, ...],
    held: bool | None = None,
    measured: float | None = None,
) -> ExpectationReport:
    return ExpectationReport(
        index=clause.index,
        rule=clause.rule,
        column=clause.column,
        what=clause.what,
        held=not broken if held is None else held,
        checked=checked,
        broken=broken,
        measured=measured,
        examples=() if held else examples,
    )


def _tell(report: ExpectationReport) -> str:
    rows = ", ".join(f"{row.place}: {_shown(row.value)}" for row in report.examples[:_SHOWN_ROWS])
    if report.rule == "min_samples":
        return f"{report.what} (there are {report.checked:,})"
    if report.rule == "max_missing":
        return f"{report.what} ({report.broken:,} of {report.checked:,} are: {_places(report.examples)})"
    kind = "classes" if report.rule == "min_per_class" else "rows"
    return f"{report.what} ({report.broken:,} of {report.checked:,} {kind} broke it; {rows})"


def _places(rows: Sequence[BrokenRow]) -> str:
    return ", ".join(row.place for row in rows[:_SHOWN_ROWS])


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")
