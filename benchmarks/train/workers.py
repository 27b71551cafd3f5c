"""Final accuracy with more workers, beside one worker on the same samples, by equal epochs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.quality.cells import CELLS, Cell, measured
from benchmarks.quality.measuring import Effort, committed, trained
from benchmarks.quality.sets import SETS
from benchmarks.results import Row

SEEDS: Mapping[str, Sequence[int]] = {name: range(3) for name in ("cuts", "reviews", "fashion", "mnist")}
"""The sets and seeds that the rule for many workers was chosen on."""
OTHER_SEEDS: Mapping[str, Sequence[int]] = {
    "churn": range(3),
    "digits": range(3),
    "cuts": range(3, 6),
    "fashion": range(3, 6),
}
"""Such as it wasn't."""
WORKERS = (1, 4, 8)
WITHIN = 0.5
"""Points of accuracy that more workers may cost."""


def workers_rows(
    effort: Effort, seeds: Mapping[str, Sequence[int]], remark: str = ""
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Mean accuracy over the seeds by number of workers, the points lost, and the cells behind them."""
    rows: list[Row] = []
    cells: list[dict[str, Any]] = []
    for name, chosen in seeds.items():
        found = {workers: [cell_of(name, seed, workers, effort) for seed in chosen] for workers in WORKERS}
        cells += [cell for group in found.values() for cell in group]
        scores = {workers: [100 * cell["score"] for cell in group] for workers, group in found.items()}
        one = statistics.fmean(scores[1])
        title = SETS[name].title + remark
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
