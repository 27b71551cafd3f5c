"""Put measured numbers into docs/performance.md: `python -m benchmarks.data.document [benchmarks/out/serve.json]`.

They go between the marks of their benchmark, such as `make bench-data`.
"""

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
BEGIN, END = "<!-- begin: make bench-{name} -->", "<!-- end: make bench-{name} -->"


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
    lines += [line for origin in result.get("origins", ()) for line in ("", f"Measured at {origin}.")]
    return "\n".join(lines)


def replace(document: str, table: str, name: str) -> str:
    """The document with another table between the marks of a benchmark. Raises `ValueError` when it lacks them."""
    first, last = BEGIN.format(name=name), END.format(name=name)
    before, begin, rest = document.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"The document lacks the marks {first} and {last}.")
    return f"{before}{first}\n{table}\n{last}{after}"


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def main(arguments: Sequence[str]) -> None:
    """Render the file that is named, dated by when it was written."""
    path = Path(arguments[0]) if arguments else OUT / "data.json"
    measured = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d")
    result = json.loads(path.read_text())
    # A quick run has the marks of the whole one.
    name = str(result["benchmark"]).removesuffix("-quick")
    DOCUMENT.write_text(replace(DOCUMENT.read_text(), render(result, measured), name))


if __name__ == "__main__":
    main(sys.argv[1:])
