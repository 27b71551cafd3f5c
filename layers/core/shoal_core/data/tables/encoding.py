"""Encoding the rows of one work item of a table: tensors with content hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.pieces import FEATURE_HASH, GROUP, NEAR_HASH, PLACE, ROW_HASH, TIME
from shoal_core.data.plan import Plan, RowGroupSlice, TableParts, TableSlice
from shoal_core.data.report import MAX_EXAMPLES, DropTally
from shoal_core.data.requests import open_source
from shoal_core.data.shards import Tensors
from shoal_core.data.tables.cells import NO_INSTANT, Cells
from shoal_core.data.tables.columns import Problem, instants_of, meaning_digests, numbers_of
from shoal_core.data.tables.frames import Frame
from shoal_core.data.tables.hashing import ColumnDigests, row_hashes
from shoal_core.data.tables.parquet import read_footer
from shoal_core.data.tables.places import FILE_STEP, describe_place, table_files
from shoal_core.data.tables.reading import TableReader, with_partition
from shoal_core.data.tables.rows import TableRow
from shoal_core.data.tables.targets import describe_problem
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

TableItem = TableSlice | RowGroupSlice | TableParts


def encode_table(
    uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, item: TableItem, drops: DropTally
) -> Tensors | None:
    """Encode a part of a table; None when no sample is left. See `samples.encode_item`.

    `place` is int64, see `places`. When the settings split by them, there are also `group`, uint8 [N,16], equal for
    rows of one group, and `time`, float64 [N], seconds since 1970 of dates, or the numbers themselves.
    """
    batches: list[Tensors] = []
    with TableReader() as reader:
        for part in item.parts if isinstance(item, TableParts) else (item,):
            file = table_files(plan)[part.file]
            for frame in read_frames(uploads, artifacts, reader, plan, part):
                encoded = _encode_frame(with_partition(frame, file.partition), plan, part.file, drops)
                if encoded is not None:
                    batches.append(encoded)
    if not batches:
        return None
    joined: Tensors = {}
    for name in list(batches[0]):
        joined[name] = np.concatenate([batch.pop(name) for batch in batches])
    return joined


def read_frames(
    uploads: ObjectStore, artifacts: ObjectStore, reader: TableReader, plan: Plan, part: TableSlice | RowGroupSlice
) -> Iterator[Frame]:
    """The frames of a part of a plan's tables, without the keys of its file's partition."""
    sources = plan.sources or ((plan.source,) if plan.source else ())
    if part.file >= len(sources) or plan.table is None:
        raise BadInput(f"The plan of {plan.dataset!r} has no table {part.file}.", "Upload the data again.")
    source = sources[part.file]
    file = table_files(plan)[part.file]
    form = plan.formats[file.form] if plan.formats else plan.table
    if isinstance(part, RowGroupSlice):
        with open_source(uploads, source) as stream:
            footer = read_footer(stream, file.name, file.size or source.size)
            yield from reader.parquet_frames(stream, footer, part.first, part.last, part.row)
        return
    with _open(uploads, artifacts, plan, part) as stream:
        yield from reader.text_frames(stream, file.name, form, part.start, part.stop, part.line)


def _open(uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, part: TableSlice) -> BinaryIO:
    if part.block is not None:
        return artifacts.open(DatasetKeys(plan.dataset, plan.version).block(part.block))
    return open_source(uploads, plan.sources[part.file] if plan.sources else plan.one_source)


def _encode_frame(frame: Frame, plan: Plan, file: int, drops: DropTally) -> Tensors | None:
    rows = len(frame.lines)
    places = frame.lines + file * FILE_STEP
    if drops.checks is not None and rows:
        cells = {name: frame.cells(name) for name in drops.checks.columns if name in frame.names}
        drops.checks.add(table_files(plan)[file].name, cells, Places(plan, places))
    encoded = plan.spec.encode_table(frame.cells, rows, near=plan.config.near_duplicates != "off")
    targets, problems = plan.spec.encode_target_cells(frame.cells(plan.spec.target.column or ""))
    tensors: Tensors = {**encoded.tensors, "target": targets}
    if encoded.near is not None:
        tensors[NEAR_HASH] = encoded.near
    lost = _by_row(problems, encoded.problems)
    _split_columns(frame, plan, tensors, lost)
    tell_lost(frame, plan, file, lost, drops)
    drops.encode(table_files(plan)[file].name, rows - len(lost))
    if len(lost) == rows:
        return None
    tensors[FEATURE_HASH] = row_hashes(sorted(encoded.digests.items()), rows)
    tensors[ROW_HASH] = row_hashes(_row_digests(frame, plan, encoded.digests), rows)
    tensors[PLACE] = places
    if not lost:
        return tensors
    kept = np.ones(rows, np.bool_)
    kept[list(lost)] = False
    return {name: array[kept] for name, array in tensors.items()}


def _row_digests(
    frame: Frame, plan: Plan, features: Mapping[str, ColumnDigests]
) -> Iterator[tuple[str, ColumnDigests]]:
    """What every column of a row means, features or not: dates are instants, however they are written, texts tokens."""
    table = plan.spec.table
    known = {column.name for column in table.dates} | {column.name for column in table.texts} if table else set()
    for name in sorted(frame.names):
        if name in known:
            yield name, features[name]
        else:
            yield name, meaning_digests(frame.cells(name))


def _by_row(targets: Sequence[Problem], inputs: Sequence[Problem]) -> dict[int, tuple[str, Problem]]:
    """The first problem of each row: a missing target, else of the first column, else of the target."""
    lost: dict[int, tuple[str, Problem]] = {
        problem.row: ("missing_target", problem) for problem in targets if problem.value is None
    }
    for problem in (*inputs, *targets):
        lost.setdefault(problem.row, ("bad_value", problem))
    return lost


def _split_columns(frame: Frame, plan: Plan, tensors: Tensors, lost: dict[int, tuple[str, Problem]]) -> None:
    """Add `group` or `time`; a row without its time can't be put on a side."""
    split = plan.config.split
    if split.group is not None:
        digests = meaning_digests(frame.cells(split.group))
        tensors[GROUP] = row_hashes([("", digests)], len(frame.lines))
    if split.time is None:
        return
    wrong: dict[int, str] = {}
    cells, times = row_times(frame, plan, split.time, wrong)
    tensors[TIME] = times
    for row in np.flatnonzero(np.isnan(times)).tolist():
        reason = wrong.get(int(cells.codes[row]), "it is missing, and the rows are split by time")
        problem = Problem(row, split.time, cells.raw(row), reason, "Fill it in or remove the row.")
        lost.setdefault(row, ("bad_value", problem))


def row_times(frame: Frame, plan: Plan, name: str, wrong: dict[int, str]) -> tuple[Cells, NDArray[np.float64]]:
    """A column's cells, and their times: seconds since 1970 of dates, or the numbers themselves; NaN is missing.

    `wrong` takes why a value isn't a time, by its code.
    """
    if plan.time is None:
        cells = frame.cells(name)
        return cells, numbers_of(cells, wrong)
    cells = frame.cells(name)
    instants = instants_of(plan.time, cells, wrong)
    return cells, np.where(instants == NO_INSTANT, np.nan, instants / 1e6)


def tell_lost(
    frame: Frame,
    plan: Plan,
    file: int,
    lost: dict[int, tuple[str, Problem]],
    drops: DropTally,
    *,
    unreadable: bool = True,
) -> None:
    """Report what is left out, in the order of the lines; with `unreadable` also the frame's bad rows."""
    all_bad = frame.bad if unreadable else ()
    if not lost and not all_bad:
        return
    name = table_files(plan)[file].name
    raws = _raw_rows(frame, sorted(lost)[:MAX_EXAMPLES]) if lost else {}
    told: list[tuple[int, int, TableRow | int]] = [(bad.line, number, bad) for number, bad in enumerate(all_bad)]
    told += [(int(frame.lines[row]), -1, row) for row in lost]
    for line, _, entry in sorted(told, key=lambda found: found[:2]):
        if drops.full:
            drops.count(name, lost[entry][0] if isinstance(entry, int) else entry.code)
            continue
        place = describe_place(plan, line + file * FILE_STEP, file=False)
        if not isinstance(entry, int):
            reason = f"{place.capitalize()}: {entry.reason}."
            drops.add(name, place, entry.code, reason, entry.fix, raw=entry.raw or None)
            continue
        code, problem = lost[entry]
        if code == "bad_value":
            reason, fix = describe_problem(problem, place.capitalize()), problem.fix
        else:
            reason, fix = f"{place.capitalize()}: {problem.reason}.", "Fill it in."
        drops.add(name, place, code, reason, fix, raw=raws.get(entry))


def _raw_rows(frame: Frame, rows: Sequence[int]) -> dict[int, bytes]:
    """The values of some rows as JSON, for the quarantine."""
    columns: list[list[object]] = []
    for name in frame.names:
        cells = frame.cells(name)
        columns.append([cells.values[code] if code >= 0 else cells.absent for code in cells.codes[rows].tolist()])
    told = (dict(zip(frame.names, values, strict=True)) for values in zip(*columns, strict=True))
    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
    return {row: encode(values).encode("utf-8", "replace") for row, values in zip(rows, told, strict=True)}


class Places(Sequence[str]):
    """Where rows stand in their file, as texts made only when they are asked for."""

    def __init__(self, plan: Plan, places: NDArray[np.int64]) -> None:
        self._plan = plan
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [describe_place(self._plan, int(place), file=False) for place in self._places[index]]
        return describe_place(self._plan, int(self._places[index]), file=False)
