"""The main job: upload to served prediction, the predict handler over ONNX Runtime, the predict function's start-up.

`make bench`, or `.venv/bin/python -m benchmarks.main_job [--quick] [--repeats N] [--calls N] [--starts N]`. It starts
embedded clouds of its own in empty folders and stops them; nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import serving
from benchmarks.pipeline import Journey, fresh_cloud, travel
from benchmarks.results import Row, machine, machine_line, median_row, percentile, save, table
from tests.e2e.cloud import LocalCloud

DATASET = "digits"
# What the first version promises, on two cores.
UPLOAD_GOAL, ACCURACY_GOAL, READY_GOAL = "< 60", ">= 0.97", "< 5"
PARTS = {
    "process": "interpreter starts",
    "runtime": "import awslambdaric",
    "import": "import",
    "load": "load the model",
    "predict": "first prediction",
    "total": "from nothing to the first prediction",
}


@dataclass(frozen=True)
class Effort:
    """How often everything is measured."""

    repeats: int
    calls: int
    starts: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; returns 1 when a goal is missed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repeat, few calls; written to main_job-quick.json")
    parser.add_argument("--repeats", type=int, help="cold clouds, each with a cold and a warm upload (3)")
    parser.add_argument("--calls", type=int, help="calls of the handler and over HTTP (2,000)")
    parser.add_argument("--starts", type=int, help="fresh processes per side (7)")
    options = parser.parse_args(arguments)
    repeats, calls, starts = (1, 300, 2) if options.quick else (3, 2000, 7)
    effort = Effort(options.repeats or repeats, options.calls or calls, options.starts or starts)
    command = " ".join(["python -m benchmarks.main_job", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    rows = measure(effort)
    print(table(rows))
    path = save("main_job-quick" if options.quick else "main_job", command, rows)
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if any(row.met is False for row in rows) else 0


def measure(effort: Effort) -> list[Row]:
    """All rows."""
    ready: list[float] = []
    cold: list[Journey] = []
    warm: list[Journey] = []
    served: list[Row] = []
    for number in range(1, effort.repeats + 1):
        _tell(f"cloud {number} of {effort.repeats}: start, upload, upload again under another name")
        with fresh_cloud() as (cloud, seconds):
            ready.append(seconds)
            cold.append(travel(cloud, DATASET))
            warm.append(travel(cloud, f"{DATASET}-again"))
            _tell(f"ready in {seconds:.1f} s, cold {cold[-1].predicted:.1f} s, warm {warm[-1].predicted:.1f} s")
            if number == effort.repeats:
                served = serving_rows(cloud, effort)
    return [
        median_row("cloud with nothing in it, `shoal up -d` to ready", "s", ready, goal=READY_GOAL),
        *journey_rows("cold", cold, UPLOAD_GOAL),
        *journey_rows("warm", warm),
        median_row("test accuracy", "", [journey.accuracy for journey in (*cold, *warm)], goal=ACCURACY_GOAL),
        *served,
    ]


def journey_rows(heat: str, journeys: Sequence[Journey], goal: str = "") -> list[Row]:
    """Rows of uploads to a cloud of one heat: the whole, then its parts in order."""

    def row(name: str, seconds: Callable[[Journey], float], goal: str = "") -> Row:
        return median_row(f"{heat}: {name}", "s", [seconds(journey) for journey in journeys], goal=goal)

    def stage(name: str) -> Row:
        return row(f"stage {name}", lambda journey: journey.stages[name])

    return [
        row("upload to served prediction", lambda journey: journey.predicted, goal),
        row("PutObject", lambda journey: journey.put),
        row("PutObject done to planning begun", lambda journey: journey.planning - journey.put),
        *map(stage, journeys[0].stages),
        row("run done to first prediction", lambda journey: journey.predicted - journey.trained),
    ]


def serving_rows(cloud: LocalCloud, effort: Effort) -> list[Row]:
    """Rows of the predict function, with the model that the last cold upload made."""
    worker = serving.Worker.of(cloud)
    model, _ = serving.model_bytes(cloud, DATASET)
    _tell(f"handler: {effort.calls:,} calls of each kind")
    calls = serving.handler_calls(worker, effort.calls)
    _tell(f"HTTP: {effort.calls:,} calls")
    over_http = serving.http_calls(cloud, worker, DATASET, effort.calls)
    _tell(f"start-up: {effort.starts} fresh processes per side")
    ours, floor = serving.start_ups(worker, model, effort.starts)
    return [
        *call_rows("handler, PNG", calls["image"], calls["raw"]),
        *call_rows("handler, JSON", calls["json"], calls["raw"]),
        *call_rows("handler, PNG, over decode by hand", calls["image"], calls["plain"], "decode + session.run"),
        *call_rows("HTTP, PNG, one client", over_http["http"], over_http["raw"]),
        *start_up_rows(ours, floor),
    ]


def call_rows(name: str, ours: Sequence[float], peer: Sequence[float], peer_name: str = "session.run") -> list[Row]:
    """Median and 99th percentile of both, and what ours adds to the median."""
    return [
        median_row(f"{name}: median", "ms", ours, peer),
        Row(f"{name}: p99", "ms", percentile(ours, 0.99), percentile(peer, 0.99)),
        Row(f"{name}: median added to {peer_name}", "ms", statistics.median(ours) - statistics.median(peer)),
    ]


def start_up_rows(ours: Sequence[dict[str, float]], floor: Sequence[dict[str, float]]) -> list[Row]:
    """Each part of a start-up, over the same part of plain ONNX Runtime's where it has that part."""
    return [
        median_row(
            f"predict start-up: {title}",
            "ms",
            [parts[part] for parts in ours],
            [parts[part] for parts in floor] if part in floor[0] else None,
        )
        for part, title in PARTS.items()
    ]


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
