"""Records as CSV: the input's cells, written plainly, and the columns of answers after them.

A cell is quoted where RFC 4180 asks for it, and nowhere else; so a row without quotes stands as it was sent, and any
other is written anew from its cells. The same rows come out wherever a job was cut. The output is UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from shoal_core.data.tables.blocks import Block
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.rows import TableRow
from shoal_core.serving.batches.answering import Answer
from shoal_core.serving.batches.columns import AnswerColumns, Cell
from shoal_core.serving.batches.framing import Frame
from shoal_core.serving.batches.merging_rows import bad_row, places_of
from shoal_core.serving.batches.tally import RecordError, Tally


class CsvOutput:
    """Writes rows of CSV or TSV with the input's delimiter and quotes.

    Args:
        name: The table's name.
        form: Its format, with its columns.
        columns: What is added.
        tally: Counts records.
    """

    def __init__(self, name: str, form: TableFormat, columns: AnswerColumns, tally: Tally) -> None:
        self._name, self._form, self._columns, self._tally = name, form, columns, tally
        self._texts: dict[Cell, str] = {}
        head = self._join([*map(self._text, form.columns), *map(self._text, columns.names)])
        self.frame = Frame(head=head.encode() + b"\n", packing=form.packing)

    def block(self, block: Block, outcomes: Sequence[Answer | RecordError]) -> bytes:
        """The bytes of a block's records, in order."""
        texts = self._rows(block)
        if not block.bad and not any(isinstance(outcome, RecordError) for outcome in outcomes):
            self._tally.good(len(texts))
            lines = [text + self._suffix(outcome) for text, outcome in zip(texts, outcomes, strict=True)]
            return "".join(lines).encode()
        lines = []
        for place in places_of(block.lines.tolist(), block.bad):
            if isinstance(place, TableRow):
                lines.append(self._bad(place))
                continue
            outcome = outcomes[place]
            if isinstance(outcome, RecordError):
                self._tally.bad(self._name, f"line {block.lines[place]}", outcome, texts[place])
            else:
                self._tally.good(1)
            lines.append(texts[place] + self._suffix(outcome))
        return "".join(lines).encode()

    def _rows(self, block: Block) -> list[str]:
        """The good rows of a block, each without its line break."""
        if block.text is None:
            return [self._join(self._text(str(cell)) for cell in row.values.values()) for row in block.rows]
        text = block.text.decode()
        if self._form.quote not in text:
            lines = text.split("\n")
            del lines[-1]
            return [line.removesuffix("\r") for line in lines] if "\r" in text else lines
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._form.delimiter, quotechar=self._form.quote)
        return [self._join(map(self._text, cells)) for cells in reader if cells]

    def _bad(self, row: TableRow) -> str:
        """A row that can't be read: as many of its cells as there are columns, and why."""
        error = bad_row(row, self._form.unit)
        encoding = "cp1252" if self._form.encoding == "cp1252" else "utf-8"
        raw = row.raw.decode(encoding, "replace").strip("\r\n")
        self._tally.bad(self._name, f"line {row.line}", error, raw)
        width = len(self._form.columns)
        cells = self._cells_of(raw)[:width] if row.code == "ragged_row" else []
        cells += [""] * (width - len(cells))
        return self._join(map(self._text, cells)) + self._suffix(error)

    def _cells_of(self, raw: str) -> list[str]:
        try:
            source = io.StringIO(raw, newline="")
            rows = [
                row for row in csv.reader(source, delimiter=self._form.delimiter, quotechar=self._form.quote) if row
            ]
        except csv.Error:
            return []
        return rows[-1] if rows else []

    def _suffix(self, outcome: Answer | RecordError) -> str:
        return self._form.delimiter + self._join(map(self._text, self._columns.cells(outcome))) + "\n"

    def _join(self, texts: Iterable[str]) -> str:
        return self._form.delimiter.join(texts)

    def _text(self, cell: Cell) -> str:
        """A cell as it is written; labels and the like are many times the same."""
        if isinstance(cell, float):
            return repr(cell)
        found = self._texts.get(cell)
        if found is None:
            found = quoted(cell or "", self._form.delimiter, self._form.quote)
            if len(self._texts) < 10_000:
                self._texts[cell] = found
        return found


def quoted(text: str, delimiter: str, quote: str) -> str:
    """A cell's text, in quotes where a reader would else take it for something else."""
    if quote in text:
        return f"{quote}{text.replace(quote, quote + quote)}{quote}"
    return f"{quote}{text}{quote}" if delimiter in text or "\n" in text or "\r" in text else text
