"""An index of files: a table that names images and their labels, matched with the files that are there."""

from __future__ import annotations

import io
import itertools
import json
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from shoal_core.data.config import DatasetConfig
from shoal_core.data.images.folders import place_in
from shoal_core.data.report import DropTally
from shoal_core.data.tables.formats import TableFormat, sniff_table
from shoal_core.data.tables.rows import TableRow, read_header, read_rows
from shoal_core.data.values import is_missing
from shoal_core.errors import BadConfig, BadTable

INDEX_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_INDEX_BYTES = 64 * 1024**2

_PROBE_ROWS = 1000
_MIN_SHARE = 0.5
_TARGET_NAMES = ("target", "label", "labels", "class", "y")
# What became of a file: no row names it, its row has no label, its rows disagree; else the number of its label.
UNNAMED, MISSING, CONFLICT = -1, -2, -3
_AMBIGUOUS = -1


def is_index_name(name: str) -> bool:
    """Whether the extension is that of a table that may name files."""
    return name.casefold().endswith(INDEX_SUFFIXES)


@dataclass
class Labels:
    """Labels of the files, by position: `codes` count `values`, or are `UNNAMED`, `MISSING` or `CONFLICT`."""

    table: str
    column: str
    codes: array[int]
    values: list[object] = field(default_factory=list)


class _Names:
    """The files' names as a table may write them: by path, by path from the table's folder, bare, without extension."""

    def __init__(self, names: Sequence[str], folder: str) -> None:
        self._names = names
        self._folder = place_in(folder, "") if folder else ""
        self._known: dict[str, dict[str, int]] = {}

    ways = ("from_table", "path", "base", "stem")

    def key(self, way: str, name: str) -> str:
        """A name, of a file or as a cell has it, as that way compares names."""
        if way in ("from_table", "path"):
            return name
        base = name.rpartition("/")[2]
        return base if way == "base" else base.rpartition(".")[0] or base

    def positions(self, way: str) -> dict[str, int]:
        """Name -> position of the file; `_AMBIGUOUS` where several files have it."""
        if way not in self._known:
            found: dict[str, int] = {}
            for position, name in enumerate(self._names):
                normal = unicodedata.normalize("NFC", name)
                if way == "from_table":
                    normal = normal.removeprefix(self._folder)
                key = self.key(way, normal)
                found[key] = _AMBIGUOUS if key in found else position
            self._known[way] = found
        return self._known[way]

    def find(self, way: str, cell: str) -> int | None:
        """The position of the file that a cell names, `_AMBIGUOUS`, or None."""
        known = self.positions(way)
        position = known.get(self.key(way, cell))
        # A cell without an extension may be a stem that holds a dot.
        return known.get(cell) if position is None and way == "stem" else position


def read_labels(
    stream: BinaryIO, table: str, names: Sequence[str], config: DatasetConfig, drops: DropTally
) -> Labels | None:
    """Match a table with files; None when no column of it names them.

    Rows that can't be read, that name no file or an ambiguous one, or that have no label are counted in `drops`.

    Args:
        stream: The table, seekable.
        table: Its name in the set.
        names: The images' names in the set.
        config: Its `labels.column` and `target` are used where they are set.
        drops: Takes what is left out.

    Raises:
        BadTable: A table that can't be read, or one without a column for labels.
        BadConfig: `labels.column` or `target` isn't a column, or `labels.column` names no files.
    """
    form = sniff_table(stream, table)
    if form.encoding == "utf-16":
        stream, form = _as_utf_8(stream, table), form.model_copy(update={"encoding": "utf-8"})
    form = read_header(stream, table, form)
    counted = DropTally()
    try:
        labels = _match(stream, table, form, names, config, counted)
    except UnicodeDecodeError:
        counted = DropTally()
        labels = _match(stream, table, form.model_copy(update={"encoding": "cp1252"}), names, config, counted)
    drops.extend(counted.total())
    return labels


def _as_utf_8(stream: BinaryIO, table: str) -> BinaryIO:
    """A UTF-16 table, whose rows can't be found by their bytes, as UTF-8."""
    stream.seek(0)
    data = stream.read(MAX_INDEX_BYTES + 1)
    if len(data) > MAX_INDEX_BYTES:
        raise BadTable(f"{table!r} has more than {MAX_INDEX_BYTES:,} bytes of UTF-16.", "Save it as UTF-8.")
    try:
        return io.BytesIO(data.decode("utf-16").encode())
    except UnicodeError as error:
        raise BadTable(f"{table!r} isn't text: {error}.", "Save it as UTF-8.") from error


def _match(
    stream: BinaryIO, table: str, form: TableFormat, names: Sequence[str], config: DatasetConfig, drops: DropTally
) -> Labels | None:
    probe = [row for row in itertools.islice(read_rows(stream, table, form), _PROBE_ROWS) if not row.code]
    columns = list(form.columns) or list(dict.fromkeys(name for row in probe for name in row.values))
    known = _Names(names, table.rpartition("/")[0])
    wanted = config.labels.column if config.labels else None
    if wanted is not None and wanted not in columns:
        raise BadConfig(f"dataset.yaml: labels.column: {table!r} has no column {wanted!r}.", f"Use one of {columns}.")
    found = _find_column(probe, [wanted] if wanted is not None else columns, known)
    if found is None:
        if wanted is None:
            return None
        raise BadConfig(
            f"dataset.yaml: labels.column: the values of {wanted!r} in {table!r} aren't names of the set's images.",
            "Name the column of file names.",
        )
    column, way = found
    target = find_target(table, [name for name in columns if name != column], config)
    reader = _Reader(table, column, target, len(names), drops)
    for row in read_rows(stream, table, form):
        reader.add(row, known, way)
    return reader.labels


def _find_column(probe: Sequence[TableRow], columns: Sequence[str], known: _Names) -> tuple[str, str] | None:
    """The column that names most files, and the way it does; the first one of equals."""
    best, best_share = None, 0.0
    for way in _Names.ways:
        for column in columns:
            cells = [cell for row in probe if (cell := _file_cell(row.values.get(column)))]
            share = sum(known.find(way, cell) is not None for cell in cells) / len(cells) if cells else 0
            if share > max(best_share, _MIN_SHARE):
                best, best_share = (column, way), share
    return best


def find_target(table: str, columns: Sequence[str], config: DatasetConfig) -> str:
    """The column of labels: the configured one, else by name, else the last.

    Raises:
        BadConfig: The configured one isn't there.
        BadTable: There is no other column than that of file names.
    """
    if config.target is not None:
        if config.target not in columns:
            raise BadConfig(
                f"dataset.yaml: target: {table!r} has no column {config.target!r} beside the file names.",
                f"Use one of {list(columns)}.",
            )
        return config.target
    if not columns:
        raise BadTable(f"{table!r} has file names, but no labels.", "Add a column of labels.")
    return named_target(columns) or columns[-1]


def named_target(columns: Sequence[str]) -> str | None:
    """The first column that is called like a target, in any case."""
    folded = {name.casefold(): name for name in reversed(columns)}
    return next((folded[name] for name in _TARGET_NAMES if name in folded), None)


class _Reader:
    """Gives files their labels, row by row; memory is bounded by the files and the distinct labels."""

    def __init__(self, table: str, column: str, target: str, files: int, drops: DropTally) -> None:
        self.labels = Labels(table, target, array("i", [UNNAMED]) * files)
        self._column = column
        self._drops = drops
        self._numbers: dict[str, int] = {}

    def add(self, row: TableRow, known: _Names, way: str) -> None:
        if row.code:
            self._drop(row, row.code, row.reason, row.fix)
            return
        cell = _file_cell(row.values.get(self._column))
        position = known.find(way, cell) if cell else None
        if position is None or position == _AMBIGUOUS:
            shown = f"{cell!r}" if cell else f"column {self._column!r} is empty"
            if position is None:
                self._drop(row, "no_file", f"no file {shown} in the set", "Upload the file, or remove the row.")
            else:
                self._drop(row, "ambiguous_file", f"several files are called {shown}", "Write their paths.")
            return
        value = row.values.get(self.labels.column)
        codes = self.labels.codes
        if not isinstance(value, list) and is_missing(value):
            self._drop(row, "missing_target", f"the target {self.labels.column!r} is missing", "Fill it in.")
            if codes[position] == UNNAMED:
                codes[position] = MISSING
            return
        code = self._number(value)
        codes[position] = code if codes[position] in (UNNAMED, MISSING, code) else CONFLICT

    def _number(self, value: object) -> int:
        text = json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else f"{type(value).__name__}{value}"
        if text not in self._numbers:
            self._numbers[text] = len(self.labels.values)
            self.labels.values.append(value)
        return self._numbers[text]

    def _drop(self, row: TableRow, code: str, reason: str, fix: str) -> None:
        self._drops.add(self.labels.table, f"line {row.line}", code, f"Line {row.line}: {reason}.", fix)


def unlabelled(labels: Labels) -> Iterator[tuple[int, str, str]]:
    """Files that have no label for a reason that no row told: position, code, reason."""
    for position, code in enumerate(labels.codes):
        if code == UNNAMED:
            yield position, "no_label", f"no row of {labels.table!r} names it"
        elif code == CONFLICT:
            yield position, "ambiguous_label", f"rows of {labels.table!r} give it different labels"


def _file_cell(value: object) -> str:
    """A cell as a relative path; '' when it can't be one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = unicodedata.normalize("NFC", str(value)).strip().replace("\\", "/")
    while text.startswith(("./", "/")):
        text = text.removeprefix("./").removeprefix("/")
    return text
