"""Put measured numbers into docs/performance.md: `python -m benchmarks.data.document [benchmarks/out/data.json]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.data.inputs import ROOT
from benchmarks.results import OUT, machine_line, number

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: make bench-data -->", "<!-- end: make bench-data -->"


def render(result: Mapping[str, Any], measured: str) -> str:
    """One benchmark's file as Markdown."""
    lines = [f"`{result['command']}`, {measured}: {machine_line(result['machine'])}.", ""]
    lines += ["| what | unit | Shoal | beside | ratio | goal | met |", "|---|---|--:|--:|--:|---|---|"]
    for row in result["rows"]:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        cells = [
            row["name"],
            row["unit"],
            *(_shown(row[key]) for key in ("ours", "peer", "ratio")),
            row["goal"] or "",
            met,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replace(document: str, table: str) -> str:
    """The document with another table between its marks. Raises `ValueError` when it lacks them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The document lacks the marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def main(arguments: Sequence[str]) -> None:
    """Render the file that is named, dated by when it was written."""
    path = Path(arguments[0]) if arguments else OUT / "data.json"
    measured = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d")
    DOCUMENT.write_text(replace(DOCUMENT.read_text(), render(json.loads(path.read_text()), measured)))


if __name__ == "__main__":
    main(sys.argv[1:])
