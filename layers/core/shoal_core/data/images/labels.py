"""An index of files: a table that names images and what is known of them, matched with the files that are there."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from shoal_core.data.config import DatasetConfig
from shoal_core.data.images.folders import place_in
from shoal_core.data.images.index_rows import IndexRows
from shoal_core.data.images.sides import CONFLICT, UNNAMED, IndexColumn, side_columns
from shoal_core.data.report import DropTally
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.data.tables.rows import TableRow
from shoal_core.data.values import is_missing
from shoal_core.errors import BadConfig, BadTable

_PROBE_ROWS = 1000
_MIN_SHARE = 0.5
_TARGET_NAMES = ("target", "label", "labels", "class", "y")
_AMBIGUOUS = -1


def is_index_name(name: str) -> bool:
    """Whether the extension is that of a table that may name files."""
    return name.casefold().endswith(TABLE_SUFFIXES)


@dataclass
class Labels:
    """What an index says of the files.

    `table` is its name, `column` that of its labels ('': it has none). `target` are the labels; `sides` the columns
    that the settings split by, as far as the table has them.
    """

    table: str
    column: str
    target: IndexColumn
    sides: Mapping[str, IndexColumn] = field(default_factory=dict)


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
    stream: BinaryIO, table: str, names: Sequence[str], config: DatasetConfig, folders: bool, drops: DropTally
) -> Labels | None:
    """Match a table with files; None when no column of it names them, or when nothing is needed from it.

    Rows that can't be read, that name no file or an ambiguous one, or that have no label are counted in `drops`.

    Args:
        stream: The table, seekable.
        table: Its name in the set.
        names: The images' names in the set.
        config: Its `labels`, `target` and `split` are used where they are set.
        folders: Whether folders tell classes: labels are then read only from a column that is named or called so.
        drops: Takes what is left out.

    Raises:
        BadTable: A table that can't be read, or one without a column for labels.
        BadConfig: `labels.column` or `target` isn't a column, or `labels.column` names no files.
    """
    counted = DropTally()
    try:
        labels = _match(IndexRows(stream, table), table, names, config, folders, counted)
    except UnicodeDecodeError:
        # Every byte is some character of Windows-1252.
        counted = DropTally()
        labels = _match(IndexRows(stream, table, "cp1252"), table, names, config, folders, counted)
    drops.extend(counted.total())
    return labels


def _match(
    rows: IndexRows, table: str, names: Sequence[str], config: DatasetConfig, folders: bool, drops: DropTally
) -> Labels | None:
    probe = [row for row in rows.head(_PROBE_ROWS) if not row.code]
    columns = list(rows.columns) or list(dict.fromkeys(name for row in probe for name in row.values))
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
    others = [name for name in columns if name != column]
    sides = [name for name in side_columns(config.split) if name in others]
    target = _label_column(table, others, sides, config, folders)
    if not target and not sides:
        return None
    reader = _Reader(rows.unit, table, column, target, sides, len(names), drops)
    for row in rows:
        reader.add(row, known, way)
    return reader.labels


def _label_column(
    table: str, columns: Sequence[str], sides: Sequence[str], config: DatasetConfig, folders: bool
) -> str:
    """The column of labels; '' where folders tell the classes, or where the table only says how to split."""
    candidates = [name for name in columns if name not in sides or name == config.target]
    needless = (folders and config.labels is None) or (sides and not candidates)
    if needless and config.target is None and not named_target(candidates):
        return ""
    return find_target(table, candidates, config)


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
    """Gives files what their rows say, row by row; memory is bounded by the files and the distinct values."""

    def __init__(
        self, unit: str, table: str, column: str, target: str, sides: Sequence[str], files: int, drops: DropTally
    ) -> None:
        found = {name: IndexColumn(name, files) for name in sides}
        self.labels = Labels(table, target, IndexColumn(target, files if target else 0), found)
        self._unit = unit
        self._column = column
        self._drops = drops

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
        for name, side in self.labels.sides.items():
            _give(side, position, row.values.get(name))
        column = self.labels.column
        if column and not _give(self.labels.target, position, row.values.get(column)):
            self._drop(row, "missing_target", f"the target {column!r} is missing", "Fill it in.")

    def _drop(self, row: TableRow, code: str, reason: str, fix: str) -> None:
        place = f"{self._unit} {row.line}"
        self._drops.add(self.labels.table, place, code, f"{place.capitalize()}: {reason}.", fix)


def _give(column: IndexColumn, position: int, value: object) -> bool:
    """Give a file its value; False for a missing one."""
    if not isinstance(value, list) and is_missing(value):
        column.miss(position)
        return False
    key = json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else f"{type(value).__name__}{value}"
    column.give(position, key, value)
    return True


def unlabelled(labels: Labels) -> Iterator[tuple[int, str, str]]:
    """Files that have no label for a reason that no row told: position, code, reason."""
    for position, code in enumerate(labels.target.codes):
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
