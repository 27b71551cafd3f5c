"""Training beside PyTorch, same networks, batch and threads: `make bench-train`.

`.venv-torch/bin/python -m benchmarks.train [--only PART …] [--repeats N] [--quick]`. Steps are timed in turns, ours and
PyTorch's, in the processor time of this process, which other work on the machine disturbs least. Nothing else should
run on it meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Row, machine, machine_line, median_row, save, table
from benchmarks.train.kept import KeptStepper, keep
from benchmarks.train.networks import NETS, Batch
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
        ours = KeptStepper(keep(name, scratch / name, BATCH), threads)
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


def _milliseconds(stepper: KeptStepper | TorchStepper, batch: Batch) -> float:
    began = time.process_time()
    for _ in range(STEPS):
        stepper.step(batch)
    return 1000 * (time.process_time() - began) / STEPS


def _fresh(kind: str, name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.train.first_step", kind, name, str(folder), str(STEPS)]
    done = subprocess.run([*command, repr(time.time())], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; returns 1 when a goal is missed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parts = {
        "steps-1": lambda s, n: step_rows(s, 1, n),
        "steps-2": lambda s, n: step_rows(s, 2, n),
        "start": start_rows,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=list(parts), default=list(parts), metavar="PART", help=", ".join(parts)
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two repeats; written to train-quick.json")
    options = parser.parse_args(arguments)
    command = " ".join(["python -m benchmarks.train", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="shoal-bench-train-") as scratch:
        for part in options.only:
            rows += parts[part](Path(scratch), 2 if options.quick else options.repeats)
    print(table(rows))
    whole = options.only == list(parts) and not options.quick
    path = save("train" if whole else "train-quick", command, rows)
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
