"""How good models are that Shoal's defaults train, on real data: `make bench-quality`.

`.venv/bin/python -m benchmarks.quality [--only SET …] [--alone SET …] [--seeds N] [--at-once N] [--quick] [--again]`.
Every data set is split, trained and scored by the product's own functions, with what it chooses when nothing is said; a
reference is trained on the same samples. What was measured is kept in `benchmarks/out/cells` and found again, so an
interrupted run goes on; the result says from which commit and machine each number comes. One whole run takes hours on
two cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.data.driving import Place
from benchmarks.data.inputs import PEERS_PYTHON, Unavailable
from benchmarks.quality.cells import CELLS, Cell, measured, origins
from benchmarks.quality.measuring import Effort, committed, referred, trained
from benchmarks.quality.sets import SETS, RealSet
from benchmarks.quality.training import at_once
from benchmarks.results import Row, machine, machine_line, median_row, save, table, without_goals

SEEDS = 3


def cells_of(data: RealSet, seed: int, effort: Effort, alone: bool = False) -> list[dict[str, Any]]:
    """The product's cell and, unless it's `alone`, the reference's, measured where they weren't yet."""
    wanted: list[tuple[Cell, Callable[[Place], dict[str, Any]]]] = [
        (Cell("shoal", data.name, seed, quick=effort.quick), lambda place: trained(data, place, effort, {}))
    ]
    if not alone:
        theirs = Cell(data.reference, data.name, seed, quick=effort.quick)
        wanted.append((theirs, lambda place: referred(data, place, effort, seed)))
    if not effort.again and all((CELLS / f"{cell.name}.json").exists() for cell, _ in wanted):
        return [measured(cell, dict) for cell, _ in wanted]
    with committed(data, seed, effort) as place:
        return [measured(cell, partial(measure, place), again=effort.again) for cell, measure in wanted]


def rows_of(data: RealSet, ours: Sequence[float], theirs: Sequence[float], more: Sequence[float] = ()) -> list[Row]:
    """A data set's rows: the median over the seeds, and how far it lies below the reference's, where one was trained.

    `more` are scores of the reference when it learns from the validation samples as well.
    """
    scale, unit = (100.0, "%") if data.metric == "accuracy" else (1.0, "R²")
    mine, other = ([scale * score for score in scores] for scores in (ours, theirs))
    goal = f">= {data.floor:g}" if data.floor is not None else ""
    if not theirs:
        return [median_row(data.title, unit, mine, None, goal)]
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
    parser.add_argument("--alone", nargs="+", choices=names, default=[], metavar="SET", help="train no reference there")
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
    every: list[dict[str, Any]] = []
    missing: list[str] = []
    with at_once(options.at_once) as run:
        effort = Effort(options.quick, run, options.again or options.quick)
        for name in options.only:
            try:
                found = [cells_of(SETS[name], seed, effort, name in options.alone) for seed in range(seeds)]
            except Unavailable as error:
                missing.append(f"{name}: not measured. {error}")
                continue
            every += [cell for cells in found for cell in cells]
            ours = [cells[0]["score"] for cells in found]
            references = [cell for cells in found for cell in cells[1:]]
            more = [cell["more"] for cell in references if "more" in cell]
            rows += rows_of(SETS[name], ours, [cell["score"] for cell in references], more)
    rows = without_goals(rows) if options.quick else rows
    print(table(rows))
    print("\n".join(missing))
    whole = options.only == names and not (options.quick or options.alone or missing) and seeds == SEEDS
    path = save("quality" if whole else "quality-quick", command, rows, origins=origins(every))
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if missing or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
