"""Encoding the windows of one work item: rows of its series in, windows with targets and content hashes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.pieces import FEATURE_HASH, GROUP, PLACE, ROW_HASH, TARGET, TIME, hash_array
from shoal_core.data.plan import Plan, SequenceSlice
from shoal_core.data.report import DropTally
from shoal_core.data.sequences.series import SeriesRows, count_drops, read_series, sequence_input
from shoal_core.data.sequences.windows import count_windows, cut_windows
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import SequenceInput
from shoal_core.data.splits import content_hash
from shoal_core.data.tables.places import describe_place
from shoal_core.store import ObjectStore

_SHOWN = 20


def encode_series(
    uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, number: int, drops: DropTally
) -> Tensors | None:
    """Encode work item `number` of a plan of windows; None when no window is left. See `samples.encode_item`.

    Windows go whose series is too short, whose target is missing, and, where the split is by time, that reach over the
    boundary between two splits: so no row of one split is seen in another. Besides the usual tensors there is `group`
    (the hash of the id) or `time` (of the row whose target is predicted), whichever the split goes by. A window's place
    is that of its last row.
    """
    rows = read_series(uploads, artifacts, plan, number, drops)
    if rows is None:
        return None
    item = plan.items[number]
    form = sequence_input(plan)
    part, parts = (item.part, item.parts) if isinstance(item, SequenceSlice) else (0, 1)
    starts = _window_starts(rows, form, part, parts)
    if part == 0:
        _tell_short(rows, plan, form, drops)
    last = starts + form.window - 1
    goal = last + form.horizon
    kept = rows.known[goal]
    _tell_windows(plan, rows, goal[~kept], "missing_target", "the target of its window is missing", drops)
    if plan.time_cuts is not None:
        inside = _side(rows.time[starts], plan) == _side(rows.time[goal], plan)
        reason = "its window reaches from one split into another"
        _tell_windows(plan, rows, goal[kept & ~inside], "crosses_splits", reason, drops)
        kept &= inside
    starts, last, goal = starts[kept], last[kept], goal[kept]
    return _tensors(rows, plan, form, starts, last, goal) if starts.size else None


def _window_starts(rows: SeriesRows, form: SequenceInput, part: int, parts: int) -> NDArray[np.int64]:
    """The first row of every window of the item's part of each series."""
    counts = count_windows(np.diff(np.append(rows.starts, len(rows))), form)
    first, stop = counts * part // parts, counts * (part + 1) // parts
    taken = stop - first
    series = np.repeat(np.arange(len(counts)), taken)
    place = np.arange(len(series)) - np.repeat(np.cumsum(taken) - taken, taken)
    return np.asarray(rows.starts[series] + (first[series] + place) * form.stride, np.int64)


def _side(times: NDArray[np.float64], plan: Plan) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(np.array(plan.time_cuts), times, side="right"), np.int64)


def _tensors(
    rows: SeriesRows,
    plan: Plan,
    form: SequenceInput,
    starts: NDArray[np.int64],
    last: NDArray[np.int64],
    goal: NDArray[np.int64],
) -> Tensors:
    windows = cut_windows(rows.numbers, starts, form.window)
    target = rows.target[goal]
    features = _window_hashes(windows, rows, starts, form)
    group, time = rows.group[starts], rows.time[goal]
    tensors: Tensors = {
        **({"sequence": windows} if form.numbers else {}),
        **({"categories": cut_windows(rows.codes, starts, form.window)} if form.categories else {}),
        TARGET: target,
        FEATURE_HASH: hash_array(features),
        ROW_HASH: hash_array(_row_hashes(features, group, time, target)),
        PLACE: rows.place[last],
    }
    if plan.config.split.group is not None:
        tensors[GROUP] = group
    if plan.config.split.time is not None:
        tensors[TIME] = time
    return tensors


def _window_hashes(
    windows: NDArray[np.float32], rows: SeriesRows, starts: NDArray[np.int64], form: SequenceInput
) -> list[bytes]:
    """Of what categories say, not of their codes: a vocabulary that grows changes no hash."""
    header = content_hash(*(name.encode("utf-8", "replace") for name in form.names))
    # One zero and one NaN, whatever bits they came with.
    plain = (windows + np.float32(0)).astype("<f4")
    plain[np.isnan(plain)] = np.nan
    if not form.categories:
        return [content_hash(b"window", header, window.tobytes()) for window in plain]
    meanings = rows.meanings.astype("<u8")
    return [
        content_hash(b"window", header, window.tobytes(), meanings[start : start + form.window].tobytes())
        for window, start in zip(plain, starts.tolist(), strict=True)
    ]


def _row_hashes(
    features: list[bytes], group: NDArray[np.uint8], time: NDArray[np.float64], target: NDArray[Any]
) -> list[bytes]:
    times = time.astype("<f8")
    return [
        content_hash(feature, group[row].tobytes(), times[row].tobytes(), target[row].tobytes())
        for row, feature in enumerate(features)
    ]


def _tell_short(rows: SeriesRows, plan: Plan, form: SequenceInput, drops: DropTally) -> None:
    needed = form.window + form.horizon
    lengths = np.diff(np.append(rows.starts, len(rows)))
    short = np.flatnonzero(lengths < needed)
    if not short.size:
        return
    count_drops(drops, plan.source_name, "short_series", int(short.size))
    for series in short[:_SHOWN].tolist():
        place = describe_place(plan, int(rows.place[rows.starts[series]]))
        reason = f"The series that begins in {place} has {int(lengths[series])} rows, and a window needs {needed}."
        drops.show(plan.source_name, place, "short_series", reason, "Add rows, or lower `sequence.window`.")


def _tell_windows(
    plan: Plan, rows: SeriesRows, goal: NDArray[np.int64], code: str, reason: str, drops: DropTally
) -> None:
    if not goal.size:
        return
    count_drops(drops, plan.source_name, code, int(goal.size))
    fix = "Fill it in." if code == "missing_target" else ""
    for row in goal[:_SHOWN].tolist():
        place = describe_place(plan, int(rows.place[row]))
        drops.show(plan.source_name, place, code, f"{place[:1].upper()}{place[1:]}: {reason}.", fix)
