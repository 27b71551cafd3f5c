"""The model card as Markdown: for repositories, tickets and reviews."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_CLASSES = 50
_TOLD = (("owner", "Owner"), ("license", "Licence"), ("intended_use", "Intended use"), ("limits", "Limits"))


def markdown(card: Mapping[str, Any]) -> str:
    """The card's facts as Markdown."""
    data, training, evaluation = card["data"], card["training"], card["evaluation"]
    parts = [
        f"# {card['model']}, version {card['version']}",
        f"{card['task']} · {card['created_at']} · sha256 `{card['digest']}` · {card['bytes']:,} bytes",
        *_said(card["said"]),
        "## Data",
        f"{data['name']} {data['version']}: "
        + ", ".join(f"{count:,} for {split}" for split, count in data["samples"].items()),
        "## Training",
        ", ".join(f"{name} {value}" for name, value in training["settings"].items())
        + f". {len(training['rounds'])} rounds, the best is {training['best_round']}.",
        f"## Results on the {evaluation['split']} split",
        _table(("metric", "model", "baseline"), _metrics(evaluation)),
        *_classes(evaluation),
        "## What could be served",
        _table(("candidate", "metric", "agreement", "bytes", ""), _candidates(card["optimization"])),
        "## Why it serves, or waits",
        f"{card['promotion'].get('decision', '')}: {card['promotion'].get('reason', '')}",
        "## Lineage",
        f"Run `{card['lineage'].get('run', '')}`, checkpoint "
        f"`{card['lineage'].get('checkpoint', {}).get('key', '')}`, file "
        f"`{card['lineage'].get('artifact', {}).get('key', '')}`.",
        *(f"Warning: {_cell(warning)}" for warning in card["warnings"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain_metrics(evaluation: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The metrics that are one number, by name."""
    return [
        (name, float(value))
        for name, value in evaluation.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith("_error_bound")
    ]


def _said(said: Mapping[str, str]) -> list[str]:
    return [f"**{title}.** {_cell(said[name])}" for name, title in _TOLD if said.get(name)]


def _metrics(evaluation: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    baseline = evaluation["baseline"]["metrics"]
    for name, value in plain_metrics(evaluation):
        yield name, f"{value:.6g}", f"{baseline[name]:.6g}" if name in baseline else ""


def _classes(evaluation: Mapping[str, Any]) -> list[str]:
    classes = evaluation.get("per_class") or []
    rows = (
        (_cell(str(entry.get("label", ""))), *(f"{entry[name]:.4f}" for name in ("precision", "recall", "f1")))
        for entry in classes[:MAX_CLASSES]
    )
    if not classes:
        return []
    left = f"And {len(classes) - MAX_CLASSES} more." if len(classes) > MAX_CLASSES else ""
    return ["### By class", _table(("class", "precision", "recall", "F1"), rows), left]


def _candidates(optimization: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for one in optimization.get("candidates", ()):
        told = "served" if one["name"] == optimization.get("served") else one.get("reason") or ""
        metric, agrees, size = one.get("metric"), one.get("agreement"), one.get("bytes")
        yield (
            one["name"],
            "" if metric is None else f"{metric:.4f}",
            "" if agrees is None else f"{agrees:.2%}",
            "" if size is None else f"{size:,}",
            _cell(told),
        )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text of a user's as one line that is neither a table's bar nor HTML."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
