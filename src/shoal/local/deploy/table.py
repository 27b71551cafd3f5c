"""The table of what the embedded cloud honours, for docs/local-cloud.md.

`python -m shoal.local.deploy.table` prints it; with a file's name it replaces what stands between the file's two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from shoal.local.deploy.stack import Support, supported_properties
from shoal_core.errors import BadInput

BEGIN = "<!-- begin: python -m shoal.local.deploy.table docs/local-cloud.md -->"
END = "<!-- end -->"


def render(rows: Sequence[Support] | None = None) -> str:
    """Markdown: a heading and a table for every resource type, in order of names.

    Args:
        rows: What is honoured; by default all that the embedded cloud honours.
    """
    found = supported_properties() if rows is None else rows
    parts = []
    for name, group in groupby(found, key=lambda row: row.type):
        lines = [f"#### `{name}`", "", "| property | effect | how |", "|---|---|---|", *map(_row, group)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def replace(document: str, name: str = "The document") -> str:
    """A document with a fresh table between its marks. Raises `BadInput` when it lacks one of them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{name} lacks the marks of the table.", f"Add the lines {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Print the table, or put it into the file that is named."""
    if not arguments:
        sys.stdout.write(render())
        return 0
    path = Path(arguments[0])
    path.write_text(replace(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")
    return 0


def _row(row: Support) -> str:
    how = row.how.replace("|", "\\|")
    return f"| `{row.property}` | {'recorded' if row.recorded else 'acted on'} | {how} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
