"""How good models are that Shoal's defaults train, on real data: `make bench-quality`.

`.venv/bin/python -m benchmarks.quality [--only SET …] [--seeds N] [--at-once N] [--quick] [--again]`. Every data set is
split, trained and scored by the product's own functions, with what it chooses when nothing is said; a reference is
trained on the same samples. What was measured is kept in `benchmarks/out/cells` and found again, so an interrupted run
goes on; the result says from which commit and machine each number comes. One whole run takes hours on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.data.inputs import PEERS_PYTHON, Unavailable
from benchmarks.quality.cells import CELLS, Cell, measured, origins
from benchmarks.quality.measuring import Effort, committed, referred, trained
from benchmarks.quality.sets import SETS, RealSet
from benchmarks.quality.training import at_once
from benchmarks.results import Row, machine, machine_line, median_row, save, table, without_goals

SEEDS = 3


def cells_of(data: RealSet, seed: int, effort: Effort) -> list[dict[str, Any]]:
    """The product's cell and the reference's, measured where they weren't yet."""
    ours = Cell("shoal", data.name, seed, quick=effort.quick)
    theirs = Cell(data.reference, data.name, seed, quick=effort.quick)
    if not effort.again and all((CELLS / f"{cell.name}.json").exists() for cell in (ours, theirs)):
        return [measured(cell, dict) for cell in (ours, theirs)]
    with committed(data, seed, effort) as place:
        return [
            measured(ours, lambda: trained(data, place, effort, {}), again=effort.again),
            measured(theirs, lambda: referred(data, place, effort, seed), again=effort.again),
        ]


def rows_of(data: RealSet, ours: Sequence[float], theirs: Sequence[float], more: Sequence[float] = ()) -> list[Row]:
    """A data set's rows: the median over the seeds, and how far it lies below the reference's.

    `more` are scores of the reference when it learns from the validation samples as well.
    """
    scale, unit = (100.0, "%") if data.metric == "accuracy" else (1.0, "R²")
    mine, other = ([scale * score for score in scores] for scores in (ours, theirs))
    goal = f">= {data.floor:g}" if data.floor is not None else ""
    rows = [median_row(f"{data.title}: beside {data.beside}", unit, mine, other, goal)]
    if data.within is not None:
        share = statistics.median(mine) / statistics.median(other)
        goal = f">= {1 - data.within:g}" if data.within else "> 1"
        rows.append(Row(f"{data.title}: share of the score of {data.beside}", "", share, None, goal))
    if more:
        title = f"{data.title}: beside {data.beside}, which learns from the validation samples as well"
        rows.append(median_row(title, unit, mine, [scale * score for score in more]))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what isn't there yet, print and save; returns 1 when a goal is missed or something can't be measured."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.partition("\n")[0])
    names = list(SETS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SET", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many, from 0 ({SEEDS})")
    parser.add_argument("--at-once", type=int, default=1, help="processes that a round's workers share (1)")
    parser.add_argument("--quick", action="store_true", help="a part of each set, one epoch, one seed: that it runs")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    options = parser.parse_args(arguments)
    if not PEERS_PYTHON.exists():
        parser.error("the references aren't installed: run `make bench-quality`")
    seeds = 1 if options.quick else options.seeds
    command = " ".join(["python -m benchmarks.quality", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    rows: list[Row] = []
    cells: list[dict[str, Any]] = []
    missing: list[str] = []
    with at_once(options.at_once) as run:
        effort = Effort(options.quick, run, options.again or options.quick)
        for name in options.only:
            try:
                found = [cells_of(SETS[name], seed, effort) for seed in range(seeds)]
            except Unavailable as error:
                missing.append(f"{name}: not measured. {error}")
                continue
            cells += [cell for pair in found for cell in pair]
            ours, theirs = zip(*([cell["score"] for cell in pair] for pair in found), strict=True)
            more = [pair[1]["more"] for pair in found if "more" in pair[1]]
            rows += rows_of(SETS[name], ours, theirs, more)
    rows = without_goals(rows) if options.quick else rows
    print(table(rows))
    print("\n".join(missing))
    whole = options.only == names and not options.quick and seeds == SEEDS and not missing
    path = save("quality" if whole else "quality-quick", command, rows, origins=origins(cells))
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if missing or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
