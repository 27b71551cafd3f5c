"""Plain runs of CSV, read by Python's csv module: what `tables.plain` has to give."""

import csv

import numpy as np

from shoal_core.data.tables.frames import ParsedFrame


def frame_of_text(text, form, lines, bad=()):
    """A frame of rows that all have the format's cells."""
    reader = csv.reader(
        (f"{line}\n" for line in text.decode().split("\n")), delimiter=form.delimiter, quotechar=form.quote
    )
    cells = [row for row in reader if row]
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(form.columns)
    return ParsedFrame(dict(zip(form.columns, columns, strict=True)), np.asarray(lines, np.int64), bad)
