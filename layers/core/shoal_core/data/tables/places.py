"""Where samples of tables stood, as one number each: the file's number, and the line or row within the file."""

from __future__ import annotations

from shoal_core.data.plan import Plan, TableFile

FILE_STEP = 1 << 40
"""A place is `file * FILE_STEP + line`: int64, 2**40 lines a file and 2**23 files."""


def table_files(plan: Plan) -> tuple[TableFile, ...]:
    """How to read each of a plan's tables."""
    return plan.tables or (TableFile(name=plan.source_name, form=0),)


def describe_place(plan: Plan, place: int, *, file: bool = True) -> str:
    """A place in words: `line 7` or, of several files and with `file`, `'part-0.csv', line 7`."""
    number, line = divmod(place, FILE_STEP)
    tables = table_files(plan)
    form = plan.formats[tables[number].form] if plan.formats else plan.table
    text = f"{form.unit if form else 'line'} {line:d}"
    return f"{tables[number].name!r}, {text}" if file and len(tables) > 1 else text
