"""Training beside PyTorch, same networks, batch and threads: `make bench-train`.

`.venv-torch/bin/python -m benchmarks.train [--only PART …] [--repeats N] [--at-once N] [--quick]`. Steps
are timed in turns, ours and PyTorch's, in the processor time of this process, which other work on the machine disturbs
least. Nothing else should run on it meanwhile. Accuracy by the number of workers is measured once and found again
(`benchmarks/out/cells`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data.inputs import PEERS_PYTHON, Unavailable
from benchmarks.quality.cells import origins
from benchmarks.quality.measuring import Effort
from benchmarks.quality.training import at_once
from benchmarks.results import Row, machine, machine_line, median_row, save, table, without_goals
from benchmarks.train import exchange, simulation, workers
from benchmarks.train.kept import KeptStepper, keep
from benchmarks.train.networks import NETS, Batch
from benchmarks.train.racing import racing_rows
from benchmarks.train.recipe_steps import recipe_rows
from benchmarks.train.throughput import throughput_rows
from benchmarks.train.torch_steps import TorchStepper

BATCH = 64
STEPS = 12
LIMIT = 1.25
"""No network's step may take longer than this share of PyTorch's; five of seven may not take longer at all."""
STARTED = ("cnn", "mlp")


def step_rows(scratch: Path, threads: int, repeats: int) -> list[Row]:
    """Milliseconds of processor time for a step of each network."""
    rows: list[Row] = []
    for name, net in NETS.items():
        ours = KeptStepper(keep(name, scratch / name, BATCH), threads, net.recipe)
        theirs = TorchStepper(name, threads)
        if ours.parameters() != theirs.parameters():
            raise AssertionError(f"{name}: {ours.parameters():,} parameters beside {theirs.parameters():,}")
        batch = net.batch(BATCH)
        for stepper in (ours, theirs):
            _milliseconds(stepper, batch)  # the first steps allocate
        pairs = [(_milliseconds(ours, batch), _milliseconds(theirs, batch)) for _ in range(repeats)]
        mine, other = zip(*pairs, strict=True)
        title = f"step, {name}, {threads} thread{'s' * (threads > 1)}"
        rows.append(median_row(title, "ms cpu", mine, other))
        ratios = [a / b for a, b in pairs]
        rows.append(median_row(f"{title}: ratio", "", ratios, goal=f"<= {LIMIT}"))
    ahead = sum(row.ours <= 1 for row in rows if row.name.endswith("ratio"))
    rows.append(Row(f"networks that aren't slower, {threads} thread{'s' * (threads > 1)}", "", ahead, 7, ">= 5"))
    return rows


def thread_rows(scratch: Path, repeats: int) -> list[Row]:
    """Milliseconds by the clock for a step of ours with two threads, beside one."""
    rows: list[Row] = []
    for name, net in NETS.items():
        folder, batch = keep(name, scratch / name, BATCH), net.batch(BATCH)
        two, one = (KeptStepper(folder, threads) for threads in (2, 1))
        clocked = [[_milliseconds(each, batch, time.perf_counter) for each in (two, one)] for _ in range(repeats + 1)]
        mine, other = zip(*clocked[1:], strict=True)  # the first steps allocate
        rows.append(median_row(f"step, {name}: two threads beside one", "ms", mine, other))
    faster = statistics.median(row.peer / row.ours for row in rows if row.peer)
    rows.append(Row("times as fast with two threads, median of the networks", "", faster))
    return rows


def start_rows(scratch: Path, repeats: int) -> list[Row]:
    """A fresh process up to its first finished step, and its peak of resident memory."""
    rows: list[Row] = []
    for name in STARTED:
        folder = keep(name, scratch / name, BATCH)
        found: dict[str, list[dict[str, float]]] = {"shoal": [], "pytorch": []}
        for _ in range(repeats):
            for kind, told in found.items():
                told.append(_fresh(kind, name, folder))
        for key, unit, scale, goal, title in (
            ("seconds", "s", 1.0, "<= 0.2", "cold start to the first finished step"),
            ("bytes", "MB", 1e6, "<= 0.5", "peak of resident memory"),
        ):
            mine, other = ([each[key] / scale for each in told] for told in found.values())
            rows.append(median_row(f"{title}, {name}", unit, mine, other))
            rows.append(
                Row(f"{title}, {name}: ratio", "", statistics.median(mine) / statistics.median(other), None, goal)
            )
    return rows


def _milliseconds(
    stepper: KeptStepper | TorchStepper, batch: Batch, clock: Callable[[], float] = time.process_time
) -> float:
    began = clock()
    for _ in range(STEPS):
        stepper.step(batch)
    return 1000 * (clock() - began) / STEPS


def _fresh(kind: str, name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.train.first_step", kind, name, str(folder), str(STEPS)]
    done = subprocess.run([*command, repr(time.time())], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@dataclass
class Session:
    """What the parts share.

    Attributes:
        scratch: A folder.
        repeats: Of timings.
        effort: Of runs for accuracy.
        cells: What rows that weren't measured now come from.
    """

    scratch: Path
    repeats: int
    effort: Effort
    cells: list[dict[str, Any]] = field(default_factory=list)

    @property
    def races(self) -> int:
        """Epochs take minutes: three of either side."""
        return min(3, self.repeats)


def accuracy_by_workers(
    session: Session, seeds: Mapping[str, Sequence[int]] = workers.SEEDS, remark: str = ""
) -> list[Row]:
    """The rows of `workers`, one data set and seed when it only has to run."""
    if session.effort.quick:
        seeds = {"cuts": seeds["cuts"][:1]}
    rows, cells = workers.workers_rows(session.effort, seeds, remark)
    session.cells += cells
    return rows


def simulated(session: Session) -> list[Row]:
    """The rows of `simulation`, from times that are measured first."""
    folder = keep(STARTED[0], session.scratch / "simulated", BATCH)
    start = statistics.median(_fresh("shoal", STARTED[0], folder)["seconds"] for _ in range(session.repeats))
    rows, measured = simulation.measured_rows(STARTED[0], folder, 1, start, session.repeats)
    embedded = simulation.embedded_link(measured.checkpoint)
    rows.append(Row("a request of the embedded cloud's S3", "ms", 1000 * embedded.latency))
    rows.append(Row("bandwidth of the embedded cloud's S3", "MB/s", embedded.bandwidth / 1e6))
    return rows + simulation.simulation_rows(measured, [embedded, simulation.AWS])


PARTS: Mapping[str, Callable[[Session], list[Row]]] = {
    "steps-1": lambda session: step_rows(session.scratch, 1, session.repeats),
    "steps-2": lambda session: step_rows(session.scratch, 2, session.repeats),
    "threads": lambda session: thread_rows(session.scratch, session.repeats),
    "recipes": lambda session: recipe_rows(session.effort, session.races),
    "start": lambda session: start_rows(session.scratch, session.repeats),
    "data": lambda session: throughput_rows(session.scratch, session.races, quick=session.effort.quick),
    "race": lambda session: racing_rows(session.scratch, quick=session.effort.quick),
    "exchange": lambda session: exchange.exchange_rows(exchange.exchange_place(session.scratch, 1_024)),
    "workers": accuracy_by_workers,
    "workers-other": lambda session: accuracy_by_workers(session, workers.OTHER_SEEDS, ", not chosen on"),
    "simulation": simulated,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; returns 1 when a goal is missed or something couldn't be measured."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.partition("\n")[0])
    names = list(PARTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--at-once", type=int, default=1, help="processes that a round's workers share there (1)")
    parser.add_argument("--quick", action="store_true", help="that it runs; written to train-quick.json")
    parser.add_argument("--again", action="store_true", help="measure accuracy also where it was measured before")
    options = parser.parse_args(arguments)
    if not PEERS_PYTHON.exists():
        parser.error("the tables' reader isn't installed: run `make bench-train`")
    command = " ".join(["python -m benchmarks.train", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    quick, rows, missing = options.quick, [], []
    with tempfile.TemporaryDirectory(prefix="shoal-bench-train-") as scratch, at_once(options.at_once) as run:
        effort = Effort(quick, run, options.again or quick)
        session = Session(Path(scratch), 1 if quick else options.repeats, effort)
        for part in options.only:
            print(f"{part}:", file=sys.stderr, flush=True)
            try:
                rows += PARTS[part](session)
            except Unavailable as error:
                missing.append(f"{part}: not measured. {error}")
    rows = without_goals(rows) if quick else rows
    print(table(rows))
    print("\n".join(missing))
    whole = options.only == names and not quick and not missing
    path = save("train" if whole else "train-quick", command, rows, origins=origins(session.cells))
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if missing or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
