"""A dataset version's report as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shoal.cli.output import Output

_MAX_EXAMPLES = 20


def write_report(report: Mapping[str, Any], out: Output) -> None:
    """Write what was kept, what was dropped and why, and how good the data is, for people."""
    drops = report.get("drops") or {}
    splits = ", ".join(f"{split} {count:,}" for split, count in (report.get("samples") or {}).items())
    out.line(f"version {report.get('version')}: {report.get('task')}, {report.get('kept'):,} samples kept ({splits})")
    out.line(f"dropped {report.get('dropped'):,}, duplicates {report.get('duplicates'):,}{_near(report)}")
    inferred = set(report.get("inferred") or [])
    settings = report.get("settings") or {}
    out.line(
        "settings: " + ", ".join(f"{name} {_cell(value)}" for name, value in settings.items() if value is not None)
    )
    if inferred:
        out.line(f"inferred: {', '.join(sorted(inferred))}")
    _write_expectations(report, out)
    _write_drift(report, out)
    _section(out, "why samples were dropped", ("REASON", "SAMPLES"), list((drops.get("counts") or {}).items()))
    examples = drops.get("examples") or []
    for title, items, fields in (
        ("examples", examples[:_MAX_EXAMPLES], ("file", "place", "reason", "fix")),
        ("files", report.get("files"), ("file", "kept", "dropped", "ignored")),
        ("columns", report.get("columns"), ("name", "role", "type", "missing", "distinct", "reason")),
        ("columns to look at", report.get("flags"), ("column", "kind", "reason")),
    ):
        rows = [[_cell(item.get(field)) for field in fields] for item in items or []]
        _section(out, title, [field.upper() for field in fields], rows)
    kept = report.get("quarantine") or {}
    if kept.get("samples"):
        out.line()
        out.line(f"{kept['samples']:,} bad samples are in quarantine: shoal quarantine {report.get('dataset')}")
    for warning in report.get("warnings") or []:
        out.line(f"warning: {warning}", style="yellow")


def _near(report: Mapping[str, Any]) -> str:
    near = report.get("near_duplicates") or {}
    if not near.get("samples"):
        return ""
    return f", near duplicates {near['samples']:,}{' (left out)' if near.get('dropped') else ' (kept)'}"


def _write_expectations(report: Mapping[str, Any], out: Output) -> None:
    rows = [
        (
            item.get("what"),
            "held" if item.get("held") else "broken",
            f"{item.get('broken'):,} of {item.get('checked'):,}",
            "; ".join(f"{row['place']}: {row['value']}" for row in (item.get("examples") or [])[:3]),
        )
        for item in report.get("expectations") or []
    ]
    _section(out, "expectations", ("EXPECTATION", "RESULT", "BROKE IT", "FIRST OF THEM"), rows)


def _write_drift(report: Mapping[str, Any], out: Output) -> None:
    drift = report.get("drift")
    if not drift:
        return
    changed = [column for column in drift.get("columns") or [] if column.get("level") != "none"]
    out.line()
    told = f"{len(changed)} of {len(drift.get('columns') or [])} columns changed" if changed else "no column changed"
    out.line(f"since version {drift.get('version')}: {told}", style="bold")
    if changed:
        rows = [
            (column["name"], column["level"], _share(column.get("psi")), "; ".join(column.get("reasons") or []))
            for column in changed
        ]
        out.table(("COLUMN", "CHANGE", "PSI", "WHY"), rows)
    for word, field in (("new columns", "columns_added"), ("columns that are gone", "columns_lost")):
        if drift.get(field):
            out.line(f"{word}: {', '.join(drift[field])}")


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _section(out: Output, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        out.line()
        out.line(title, style="bold")
        out.table(columns, rows)


def _cell(value: object) -> str | None:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(_cell(item)) for item in value)
    return None if value is None else str(value)
