"""Reading the rows of chosen series from all of a plan's tables, in the order of id and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.plan import Plan, SequenceSlice, TableParts
from shoal_core.data.report import Drops, DropTally
from shoal_core.data.sequences.windows import sequence_numbers
from shoal_core.data.spec import SequenceInput
from shoal_core.data.splits import hash_words
from shoal_core.data.tables.columns import Encoded, Problem, encode_categories, list_problems, meaning_digests
from shoal_core.data.tables.encoding import Places, read_frames, row_times, tell_lost
from shoal_core.data.tables.frames import Frame
from shoal_core.data.tables.hashing import Words, row_hashes
from shoal_core.data.tables.places import FILE_STEP, describe_place, table_files
from shoal_core.data.tables.reading import TableReader, with_partition
from shoal_core.errors import BadInput
from shoal_core.store import ObjectStore

BUCKETS = 4096
"""Ids fall into so many buckets by their hash; a work item takes a range of them."""
_BUCKET_SHIFT = np.uint64(52)
_NUMBER_FIX = "Correct the value or leave it out."


@dataclass
class SeriesRows:
    """Rows of some series, ordered by id (its hash), time and place.

    Attributes:
        group: uint8 [N,16], the hash of each row's id.
        time: float64 [N], seconds since 1970, or numbers.
        place: int64 [N], see `tables.places`.
        numbers: float32 [N, F], NaN is missing.
        codes: int64 [N, K], the codes of categories.
        meanings: uint64 [N, 2K], the digests of what categories say, whatever their codes.
        target: The encoded targets [N].
        known: bool [N], whether a row has a target.
        starts: int64 [S], the first row of each series.
    """

    group: NDArray[np.uint8]
    time: NDArray[np.float64]
    place: NDArray[np.int64]
    numbers: NDArray[np.float32]
    codes: NDArray[np.int64]
    meanings: Words
    target: NDArray[Any]
    known: NDArray[np.bool_]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)


def read_series(
    uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, number: int, drops: DropTally
) -> SeriesRows | None:
    """Read all rows of the series of work item `number`; None when there is none.

    Every item reads the tables as a whole and keeps the rows of its own ids, so memory is bounded by those. What is
    wrong with a row is told by the item that it belongs to; what belongs to no series, by the first item.

    Rows that repeat another one in id, time, inputs and target are left out.
    """
    item = plan.items[number]
    if not isinstance(item, SequenceSlice):
        raise BadInput(f"Work item {number} of {plan.dataset!r} holds no series.", "Upload the data again.")
    parts = [
        kept
        for frame, file in sequence_frames(uploads, artifacts, plan)
        if (kept := _keep(frame, file, plan, item, drops, first=number == 0)) is not None
    ]
    if not parts:
        return None
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    ordered = _ordered(joined)
    repeated = _repeated(ordered)
    if repeated.any():
        if item.part == 0:
            _tell_repeated(plan, ordered["place"][repeated], drops)
        ordered = {name: array[~repeated] for name, array in ordered.items()}
    return SeriesRows(**ordered, starts=_starts(ordered["group"]))


def sequence_frames(uploads: ObjectStore, artifacts: ObjectStore, plan: Plan) -> Iterator[tuple[Frame, int]]:
    """All frames of a plan's tables, each with the number of its file."""
    with TableReader() as reader:
        for read in plan.reads:
            for part in read.parts if isinstance(read, TableParts) else (read,):
                partition = table_files(plan)[part.file].partition
                for frame in read_frames(uploads, artifacts, reader, plan, part):
                    yield with_partition(frame, partition), part.file


def row_groups(frame: Frame, form: SequenceInput) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The hash of each row's id (uint8 [N,16]), the same in every format, and which rows lack an id."""
    rows = len(frame.lines)
    if form.id is None:
        return np.zeros((rows, 16), np.uint8), np.zeros(rows, np.bool_)
    digests = meaning_digests(frame.cells(form.id))
    return row_hashes([("", digests)], rows), np.logical_not(digests.rows().any(axis=1))


def buckets_of(group: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The bucket of each row: int64 [N]."""
    return (hash_words(group)[0] >> _BUCKET_SHIFT).astype(np.int64)


def sequence_input(plan: Plan) -> SequenceInput:
    """What a plan's windows are. Raises `BadInput` for a plan of something else."""
    if plan.spec.sequence is None:
        raise BadInput(f"The plan of {plan.dataset!r} has no windows.", "Upload the data again.")
    return plan.spec.sequence


def count_drops(drops: DropTally, file: str, code: str, count: int) -> None:
    """Count what was left out `count` times at once."""
    drops.extend(Drops(counts={code: count}, files={file: {code: count}}))


def _keep(
    frame: Frame, file: int, plan: Plan, item: SequenceSlice, drops: DropTally, *, first: bool
) -> dict[str, NDArray[Any]] | None:
    """The rows of a frame that belong to the item, as arrays; tells what is wrong with them."""
    form = sequence_input(plan)
    rows = len(frame.lines)
    place = frame.lines + file * FILE_STEP
    if first and drops.checks is not None and rows:
        checked = {name: frame.cells(name) for name in drops.checks.columns if name in frame.names}
        drops.checks.add(table_files(plan)[file].name, checked, Places(plan, place))
    group, nameless = row_groups(frame, form)
    bucket = buckets_of(group)
    mine: NDArray[np.bool_] = (bucket >= item.first) & (bucket < item.last) & ~nameless
    lost: dict[int, tuple[str, Problem]] = {}
    time = _times(frame, plan, form, lost)
    numbers = _numbers(form, frame, lost)
    codes, meanings = _categories(form, frame, lost)
    column = plan.spec.target.column or ""
    target, problems = plan.spec.encode_target_cells(frame.cells(column))
    known = np.ones(rows, np.bool_)
    for problem in problems:
        # A row without a target still is part of windows; one with a wrong target is a mistake as a whole.
        known[problem.row] = False
        if problem.value is not None:
            lost.setdefault(problem.row, ("bad_value", problem))
    told = {row: found for row, found in lost.items() if mine[row]} if item.part == 0 else {}
    if first:
        told |= _nameless(form, nameless)
    tell_lost(frame, plan, file, told, drops, unreadable=first)
    mine[list(lost)] = False
    if not mine.any():
        return None
    found: dict[str, NDArray[Any]] = {
        "group": group,
        "time": time,
        "place": place,
        "numbers": numbers,
        "codes": codes,
        "meanings": meanings,
        "target": target,
        "known": known,
    }
    return {name: array[mine] for name, array in found.items()}


def _numbers(form: SequenceInput, frame: Frame, lost: dict[int, tuple[str, Problem]]) -> NDArray[np.float32]:
    """A frame's numbers, float32 [N, F]; `lost` takes the rows in which something else stands."""
    numbers = np.empty((len(frame.lines), len(form.numbers)), np.float32)
    for index, name in enumerate(form.number_names):
        cells = frame.cells(name)
        wrong: dict[int, str] = {}
        numbers[:, index] = sequence_numbers(cells, wrong)
        for problem in list_problems(name, cells, wrong, _NUMBER_FIX):
            lost.setdefault(problem.row, ("bad_value", problem))
    return numbers


def _categories(
    form: SequenceInput, frame: Frame, lost: dict[int, tuple[str, Problem]]
) -> tuple[NDArray[np.int64], Words]:
    """The codes of a frame's categories, int64 [N, K], and what they say, uint64 [N, 2K]."""
    rows, done = len(frame.lines), Encoded({}, [], {})
    codes = np.zeros((rows, len(form.categories)), np.int64)
    meanings = np.zeros((rows, 2 * len(form.categories)), np.uint64)
    for index, column in enumerate(form.categories):
        codes[:, index] = encode_categories(column, frame.cells(column.name), done, True)
        meanings[:, 2 * index : 2 * index + 2] = done.digests[column.name].rows()
    for problem in done.problems:
        lost.setdefault(problem.row, ("bad_value", problem))
    return codes, meanings


def _times(frame: Frame, plan: Plan, form: SequenceInput, lost: dict[int, tuple[str, Problem]]) -> NDArray[np.float64]:
    wrong: dict[int, str] = {}
    cells, times = row_times(frame, plan, form.time, wrong)
    for row in np.flatnonzero(np.isnan(times)).tolist():
        code = int(cells.codes[row])
        value = cells.raw(row) if code in wrong else None
        reason = wrong.get(code, f"the time {form.time!r} is missing")
        problem = Problem(row, form.time, value, reason, "Fill it in or remove the row.")
        lost[row] = ("bad_value" if code in wrong else "missing_time", problem)
    return times.astype(np.float64)


def _nameless(form: SequenceInput, nameless: NDArray[np.bool_]) -> dict[int, tuple[str, Problem]]:
    reason = f"the id {form.id!r} is missing"
    rows = np.flatnonzero(nameless).tolist()
    return {row: ("missing_id", Problem(row, form.id or "", None, reason, "Fill it in.")) for row in rows}


def _ordered(rows: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    high, low = hash_words(rows["group"])
    order = np.lexsort((rows["place"], rows["time"], low, high))
    return {name: array[order] for name, array in rows.items()}


def _starts(group: NDArray[np.uint8]) -> NDArray[np.int64]:
    changes = (group[1:] != group[:-1]).any(axis=1)
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(changes) + 1))


def _repeated(rows: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which rows are the same as an earlier one of their id and time."""
    tied = (rows["time"][1:] == rows["time"][:-1]) & (rows["group"][1:] == rows["group"][:-1]).all(axis=1)
    repeated = np.zeros(len(rows["time"]), np.bool_)
    seen: set[tuple[bytes, bytes, bool]] = set()
    # Zero has two signs.
    numbers = rows["numbers"] + np.float32(0)
    for row in (np.flatnonzero(tied) + 1).tolist():
        if row == 1 or not tied[row - 2]:
            seen = {_content(rows, numbers, row - 1)}
        content = _content(rows, numbers, row)
        repeated[row] = content in seen
        seen.add(content)
    return repeated


def _content(rows: dict[str, NDArray[Any]], numbers: NDArray[np.float32], row: int) -> tuple[bytes, bytes, bool]:
    known = bool(rows["known"][row])
    inputs = numbers[row].tobytes() + rows["meanings"][row].tobytes()
    return inputs, rows["target"][row].tobytes() if known else b"", known


def _tell_repeated(plan: Plan, places: NDArray[np.int64], drops: DropTally) -> None:
    for number in np.unique(places // FILE_STEP).tolist():
        inside = places[places // FILE_STEP == number]
        name = table_files(plan)[number].name
        count_drops(drops, name, "duplicate_row", len(inside))
        for place in np.sort(inside)[:20].tolist():
            text = describe_place(plan, place, file=False)
            drops.show(name, text, "duplicate_row", f"{text.capitalize()}: an equal row has its id and time.")
