"""Planning windows of time series: series by bucket, windows by item, and the times between which splits change.

The rows of one id may lie anywhere in the tables. So ids fall into 4,096 buckets by their hash, and a work item is a
range of buckets: it reads the tables as a whole and keeps its own rows. Reading costs items times tables, which is why
there are only as many items as the windows' bytes ask for; memory is bounded by the rows of a range. A series of very
many windows is shared by several items, each of which cuts a part of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.config_types import SPLITS
from shoal_core.data.cutting import ENCODED_BYTES, MAX_ITEMS, count_items, cut_evenly
from shoal_core.data.plan import Plan, SequenceSlice
from shoal_core.data.sequences.series import BUCKETS, buckets_of, row_groups, sequence_frames, sequence_input
from shoal_core.data.spec import SequenceInput
from shoal_core.data.splits import hash_words
from shoal_core.data.tables.encoding import row_times
from shoal_core.data.tables.planning import plan_tables
from shoal_core.errors import BadDataset
from shoal_core.store import ObjectStore

MIN_GROUPS = 20
"""With at least so many ids, windows are split by id when nothing else is asked for."""
MAX_ITEM_CELLS = 64 * 1024**2
"""Numbers that the rows of an item may hold: 256 MB."""
MAX_TIMES = 2**21
"""Beyond so many rows, the times of every second one are kept, then of every fourth one, and so on."""


@dataclass
class _Survey:
    """What one pass over ids and times tells: rows per bucket, and an even sample of the rows' ids and times."""

    rows: int = 0
    step: int = 1
    buckets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))
    ids: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    groups: set[int] = field(default_factory=set)

    def add(self, group: NDArray[np.uint8], time: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        """Count the good rows of a frame."""
        group, time = group[good], time[good]
        words = hash_words(group)[0]
        self.buckets += np.bincount(buckets_of(group), minlength=BUCKETS)
        if len(self.groups) < MIN_GROUPS:
            self.groups.update(np.unique(words).tolist())
        chosen = (np.arange(self.rows, self.rows + len(time)) % self.step) == 0
        self.rows += len(time)
        self.ids, self.times = np.append(self.ids, words[chosen]), np.append(self.times, time[chosen])
        while len(self.times) > MAX_TIMES:
            self.ids, self.times, self.step = self.ids[::2], self.times[::2], self.step * 2


def plan_sequences(
    uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, files: Sequence[SourceFile]
) -> Plan:
    """Plan windows over tables; `sequence` is set in the settings.

    By default, windows are split by id when there are at least `MIN_GROUPS` ids, else by time. Split by time, windows
    that reach over a boundary are left out, so no row of one split is seen in another.

    Raises:
        BadTable: A file can't be read.
        BadDataset: Nothing can be learnt from them, or the series are too short or too long.
        BadConfig: Settings that their columns don't allow.
    """
    plan = plan_tables(uploads, artifacts, request, files)
    plan = plan.model_copy(update={"reads": plan.items, "items": ()})
    form = sequence_input(plan)
    survey = _Survey()
    for frame, _ in sequence_frames(uploads, artifacts, plan):
        if len(frame.lines):
            group, nameless = row_groups(frame, form)
            times = row_times(frame, plan, form.time, {})[1]
            survey.add(group, times, ~nameless & ~np.isnan(times))
    if not survey.rows:
        raise BadDataset(
            f"No row of {plan.source_name!r} has a time in {form.time!r}"
            + (f" and an id in {form.id!r}." if form.id else "."),
            "Name the right columns in `sequence`.",
        )
    config, told = _split(plan.config, form, survey)
    cuts = _cuts(survey, form, config, plan.source_name) if config.split.time is not None else None
    inferred = {"split.group", "split.time"} if config.split != plan.config.split else set()
    named = {name for name in inferred if getattr(config.split, name.partition(".")[2]) is not None}
    return plan.model_copy(
        update={
            "config": config,
            "cuts": None if cuts is None else tuple(cut if math.isfinite(cut) else None for cut in cuts),
            "items": _items(survey, form, config, plan.source_name),
            "inferred": tuple(sorted({*plan.inferred, *named})),
            "warnings": (*plan.warnings, *told),
        }
    )


def _split(config: DatasetConfig, form: SequenceInput, survey: _Survey) -> tuple[DatasetConfig, list[str]]:
    """The settings with how windows are split, and what to tell about it."""
    split = config.split
    if split.group is None and split.time is None:
        by = {"group": form.id} if len(survey.groups) >= MIN_GROUPS else {"time": form.time}
        split = split.model_copy(update=by)
    if split.group is not None:
        told = f"All windows of one {form.id!r} are in one split."
    else:
        told = (
            f"Windows are split by {form.time!r}: the newest are for testing. Those that reach from one split into "
            "another are left out, so that no row of one is seen in another."
        )
    return config.model_copy(update={"split": split}), [told]


def _cuts(survey: _Survey, form: SequenceInput, config: DatasetConfig, name: str) -> tuple[float, float]:
    """The times at which validation and test begin.

    They are quantiles of the rows' times, moved back where a split would be too short for one window of the longest
    series; infinity where a split isn't asked for.

    Raises:
        BadDataset: Not even so is there a window for every split.
    """
    needed = math.ceil((form.window + form.horizon) / survey.step)
    shares = (1 - config.split.validation - config.split.test, config.split.validation, config.split.test)
    order = np.lexsort((survey.times, survey.ids))
    ids, times = survey.ids[order], survey.times[order]
    ends = math.inf
    cuts = {SPLITS[1]: math.inf, SPLITS[2]: math.inf}
    for side in (2, 1):
        if not shares[side]:
            cuts[SPLITS[side]] = ends
            continue
        quantile = float(np.quantile(times, 1 - sum(shares[side:]), method="lower"))
        cut = min(quantile, _latest_start(ids, times, ends, needed))
        # Rows of one time stay together.
        cuts[SPLITS[side]] = ends = cut
    if _latest_start(ids, times, ends, needed) == -math.inf:
        raise BadDataset(
            f"The series of {name!r} are too short: no window of {form.window} rows is left for training, validation "
            "and testing each.",
            "Add rows, lower `sequence.window`, or set `split.validation` or `split.test` to 0.",
        )
    return cuts[SPLITS[1]], cuts[SPLITS[2]]


def _latest_start(ids: NDArray[np.uint64], times: NDArray[np.float64], end: float, needed: int) -> float:
    """The latest time from which on, and before `end`, some series has the rows that a window needs."""
    inside = times < end
    ids, times = ids[inside], times[inside]
    if len(ids) < needed:
        return -math.inf
    # The rows of a series are neighbours: the needed-th from its end is the first row of its newest window.
    lasts = np.flatnonzero(np.append(ids[1:] != ids[:-1], True))
    firsts = lasts - (needed - 1)
    fits = firsts >= 0
    fits[fits] = ids[firsts[fits]] == ids[lasts[fits]]
    return float(times[firsts[fits]].max()) if fits.any() else -math.inf


def _items(survey: _Survey, form: SequenceInput, config: DatasetConfig, name: str) -> tuple[SequenceSlice, ...]:
    """Ranges of buckets with about equal numbers of rows; a range of one bucket may be shared by several items."""
    # A row's bytes over four: a code and its digest take as much as six numbers.
    width = len(form.numbers) + 6 * len(form.categories)
    window_bytes = form.window * (4 * len(form.numbers) + 8 * len(form.categories))
    windows = survey.rows // form.stride
    if windows * window_bytes > 2 * MAX_ITEMS * ENCODED_BYTES:
        raise BadDataset(
            f"{name!r} makes about {windows:,} windows of {window_bytes:,} bytes.",
            "Raise `sequence.stride`, so that windows overlap less.",
        )
    pieces = count_items(windows, survey.rows * width * 4, window_bytes, config.workers)
    ranges: list[tuple[int, int]] = []
    loads: list[float] = []
    for first, last in cut_evenly(survey.buckets.tolist(), pieces):
        rows = int(survey.buckets[first:last].sum())
        if not rows:
            continue
        if rows * width > MAX_ITEM_CELLS:
            raise BadDataset(
                f"{name!r} has a series, or a few, of {rows:,} rows with {width} columns: too many to be read at once.",
                f"Keep it to {MAX_ITEM_CELLS // width:,} rows, or give parts of it different ids.",
            )
        ranges.append((first, last))
        loads.append(rows / form.stride * window_bytes)
    return tuple(
        SequenceSlice(first=first, last=last, part=part, parts=parts)
        for (first, last), parts in zip(ranges, _shares(loads), strict=True)
        for part in range(parts)
    )


def _shares(loads: Sequence[float]) -> list[int]:
    """How many items share each range of so many bytes: of 128 MB, or more where that made over `MAX_ITEMS` items."""
    most = 2.0 * ENCODED_BYTES
    while True:
        shares = [max(1, math.ceil(load / most)) for load in loads]
        if sum(shares) <= MAX_ITEMS:
            return shares
        most *= 1.1
