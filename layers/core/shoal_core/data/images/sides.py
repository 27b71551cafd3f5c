"""By what files are split when the settings say so: a column of their index, or a part of their names."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.patterns import pattern_of
from shoal_core.data.tables.cells import NO_INSTANT, Cells
from shoal_core.data.tables.columns import instants_of, meaning_digests, numbers_of
from shoal_core.data.tables.hashing import row_hashes
from shoal_core.data.tables.planning import time_column
from shoal_core.data.tables.profiling import TableProfile
from shoal_core.errors import BadConfig

# What became of a file: no row names it, its row has no value, its rows disagree; else the number of its value.
UNNAMED, MISSING, CONFLICT = -1, -2, -3


class IndexColumn:
    """One value per file, by position: `codes` count `values`, or are `UNNAMED`, `MISSING` or `CONFLICT`."""

    def __init__(self, name: str, files: int) -> None:
        self.name = name
        self.codes = array("i", [UNNAMED]) * files
        self.values: list[object] = []
        self._numbers: dict[str, int] = {}

    def give(self, position: int, key: str, value: object) -> None:
        """Give a file a value; `key` tells values apart."""
        code = self._numbers.setdefault(key, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        have = self.codes[position]
        self.codes[position] = code if have in (UNNAMED, MISSING, code) else CONFLICT

    def miss(self, position: int) -> None:
        """A row names the file and has no value for it."""
        if self.codes[position] == UNNAMED:
            self.codes[position] = MISSING


@dataclass(frozen=True)
class Sides:
    """What the images or texts of a set are split by.

    Attributes:
        columns: `group` uint8 [N,16] or `time` float64 [N], whichever the settings ask for; both by position.
        lost: Files that can't be put on a side: position, code, reason, fix.
        warnings: What to tell about the rest.
    """

    columns: Mapping[str, NDArray[np.uint8] | NDArray[np.float64]] = field(default_factory=dict)
    lost: Sequence[tuple[int, str, str, str]] = ()
    warnings: tuple[str, ...] = ()


def side_columns(split: SplitConfig) -> tuple[str, ...]:
    """The columns that the settings split by; patterns of names aren't columns."""
    wanted = {"group": split.group, "time": split.time}
    return tuple(name for part, name in wanted.items() if name is not None and not _is_pattern(name, part))


def find_sides(split: SplitConfig, names: Sequence[str], columns: Mapping[str, IndexColumn], of: str) -> Sides:
    """What files are split by: nothing, when the settings don't say so.

    Args:
        split: The settings.
        names: The files' names in the set.
        columns: The columns of an index of files that `side_columns` names, as far as there are any.
        of: What to call the set in errors.

    Raises:
        BadConfig: There is no such column, no name fits the pattern, or times are neither dates nor numbers.
    """
    part = "group" if split.group is not None else "time"
    wanted = split.group if split.group is not None else split.time
    if wanted is None:
        return Sides()
    if _is_pattern(wanted, part):
        column = _parts_of(names, wanted, part, of)
    elif wanted in columns:
        column = columns[wanted]
    else:
        raise BadConfig(
            f"dataset.yaml: split.{part}: no table of {of!r} names its files and has a column {wanted!r}.",
            "Add the column to the table of file names, or write the names as a pattern, "
            f"such as '**/{{{part}}}/*' or '**/{{{part}}}_*'.",
        )
    codes = np.array(column.codes, np.int64)
    lost = [
        (position, "ambiguous_label", f"its rows disagree about {wanted!r}", "Keep one of the rows.")
        for position in np.flatnonzero(codes == CONFLICT).tolist()
    ]
    if part == "group":
        return _groups(column, codes, wanted, lost)
    return _times(column, codes, split, lost, of)


def _is_pattern(name: str, part: str) -> bool:
    return f"{{{part}}}" in name


def _parts_of(names: Sequence[str], pattern: str, part: str, of: str) -> IndexColumn:
    """The part of each name that the pattern marks."""
    found = IndexColumn(pattern, len(names))
    compiled = pattern_of(pattern, part)
    for position, name in enumerate(names):
        match = compiled.fullmatch(name)
        if match:
            found.give(position, match[part], match[part])
    if not found.values:
        raise BadConfig(
            f"dataset.yaml: split.{part}: no file of {of!r} has a name like {pattern!r}.",
            f"Write a pattern that fits names such as {names[0]!r}.",
        )
    return found


def _groups(
    column: IndexColumn, codes: NDArray[np.int64], wanted: str, lost: Sequence[tuple[int, str, str, str]]
) -> Sides:
    """The hash of each file's group; those without one are a group together, as the rows of a table are."""
    hashes = row_hashes([("", meaning_digests(Cells.of([*column.values, None])))], len(column.values) + 1)
    groupless = int(np.isin(codes, (UNNAMED, MISSING)).sum())
    warnings = (f"{groupless:,} files have no {wanted!r}: they are one group.",) if groupless else ()
    return Sides({"group": hashes[np.where(codes < 0, len(column.values), codes)]}, lost, warnings)


def _times(
    column: IndexColumn,
    codes: NDArray[np.int64],
    split: SplitConfig,
    lost: Sequence[tuple[int, str, str, str]],
    of: str,
) -> Sides:
    """The time of each file in seconds since 1970, or as the number that it is."""
    name = column.name
    profile = TableProfile([name])
    profile.add_rows([{name: value} for value in column.values])
    form = time_column(profile, "split.time", name, of)
    cells = Cells.of(column.values)
    wrong: dict[int, str] = {}
    if form is None:
        values = numbers_of(cells, wrong)
    else:
        instants = instants_of(form, cells, wrong)
        values = np.where(instants == NO_INSTANT, np.nan, instants / 1e6)
    times = np.append(values, np.nan)[np.where(codes < 0, len(values), codes)]
    told = list(lost)
    fix = "Fill it in, or leave the file out."
    for position in np.flatnonzero(np.isnan(times) & (codes != CONFLICT)).tolist():
        code = int(codes[position])
        if code < 0:
            told.append((position, "missing_time", f"it has no {name!r}, and the set is split by time", fix))
        else:
            shown = f"its {name!r} is {str(column.values[code])[:80]!r}"
            told.append((position, "bad_value", f"{shown}: {wrong.get(int(cells.codes[code]), 'no time')}", fix))
    return Sides({"time": times}, told)
