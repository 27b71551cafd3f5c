"""Final accuracy with more workers, beside one worker on the same samples, by equal epochs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.quality.cells import CELLS, Cell, measured
from benchmarks.quality.measuring import Effort, committed, trained
from benchmarks.quality.sets import SETS
from benchmarks.results import Row

DATA = ("cuts", "reviews", "fashion", "mnist")
WORKERS = (1, 4, 8)
WITHIN = 0.5
"""Points of accuracy that more workers may cost."""


def workers_rows(effort: Effort, seeds: int, only: Sequence[str] = DATA) -> tuple[list[Row], list[dict[str, Any]]]:
    """Mean accuracy over the seeds by number of workers, the points lost, and the cells behind them."""
    rows: list[Row] = []
    cells: list[dict[str, Any]] = []
    for name in only:
        found = {workers: [cell_of(name, seed, workers, effort) for seed in range(seeds)] for workers in WORKERS}
        cells += [cell for group in found.values() for cell in group]
        scores = {workers: [100 * cell["score"] for cell in group] for workers, group in found.items()}
        one = statistics.fmean(scores[1])
        title = SETS[name].title
        for workers in WORKERS[1:]:
            many = scores[workers]
            rows.append(Row(f"{title}: W = {workers} beside W = 1", "%", statistics.fmean(many), one, "", tuple(many)))
            lost = one - statistics.fmean(many)
            rows.append(Row(f"{title}: points that W = {workers} costs", "", lost, None, f"<= {WITHIN}"))
    return rows, cells


def cell_of(name: str, seed: int, workers: int, effort: Effort) -> dict[str, Any]:
    """One run; all numbers of workers train on the same shards."""
    cell = Cell("shoal", name, seed, workers, effort.quick)
    if not effort.again and (CELLS / f"{cell.name}.json").exists():
        return measured(cell, dict)
    data = SETS[name]
    with committed(data, seed, effort, f"workers: {max(WORKERS)}\n") as place:
        return measured(cell, lambda: trained(data, place, effort, {"workers": workers}), again=effort.again)
