"""Serving beside its peers: the handler, the cold start, HTTP, batch jobs, streams, a switch of versions, the layer.

`make bench-serve`, or `.venv/bin/python -m benchmarks.serve [--only NAME …] [--quick]`. A part whose module isn't there
is left out by name. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pipeline import ROOT
from benchmarks.results import Row, machine, machine_line, save, table
from benchmarks.serve.cold_start import cold_start_rows
from benchmarks.serve.handler import handler_rows
from benchmarks.serve.http import http_rows
from benchmarks.serve.served import Served, served_model
from benchmarks.serve.servers import peer_server, without_peers

PEERS = ("fastapi", "bentoml", "mlserver")
LAYER = ROOT / ".aws-sam" / "build" / "OnnxRuntimeLayer"


@dataclass(frozen=True)
class Effort:
    """How much is measured: calls of the handler, starts, and seconds and turns of load."""

    calls: int
    starts: int
    seconds: float
    repeats: int


WHOLE = Effort(calls=3000, starts=11, seconds=5.0, repeats=3)
QUICK = Effort(calls=200, starts=2, seconds=0.5, repeats=1)


def over_http(served: Served, effort: Effort) -> list[Row]:
    """Our endpoint beside every peer that is installed."""
    installed = tuple(peer for peer in PEERS if not without_peers((peer,)))
    request = (served.model, served.image, served.v2_json())
    rows: list[Row] = []
    for peer in installed:
        with peer_server(peer, *request) as target:
            ours = served.target("v2" if peer == "mlserver" else "image")
            goals = ("<= 1.5", "") if peer == "fastapi" else ("< 1", "> 1")
            rows += http_rows([(ours, target, *goals)], effort.seconds, effort.repeats)
    return rows


def cold(served: Served, effort: Effort) -> list[Row]:
    """Our start beside those of the peers that are installed."""
    installed = tuple(peer for peer in ("fastapi", "bentoml") if not without_peers((peer,)))
    return cold_start_rows(served, effort.starts, installed)


def switches(served: Served, effort: Effort) -> list[Row]:
    """How long it takes until every request has the version that an alias was moved to."""
    from benchmarks.serve.served import NAME
    from benchmarks.serve.switch import measure_switches

    versions = _two_versions(served)
    found = measure_switches(served.cloud, NAME, versions, served.image, "image/png", max(2, effort.repeats))
    return [
        Row("alias switch: until every new request has the new version", "s", found.seconds, None, "<= 5"),
        Row("alias switch: failed requests", "", float(found.errors), None, "<= 0"),
        Row("alias switch: requests meanwhile", "", float(found.requests)),
        Row("alias switch: slowest request", "ms", found.slowest_ms),
    ]


def _two_versions(served: Served) -> tuple[int, int]:
    """Two versions of the model; the second is made here, with another seed."""
    from benchmarks.pipeline import DIGITS
    from benchmarks.serve.served import NAME, SIDE

    settings = ("--set", f"image_size={SIDE}", "--set", "seed=7")
    served.cloud.shoal("push", str(DIGITS), "--name", NAME, "--rounds", "1", *settings, "--json")
    first, second = sorted(entry["version"] for entry in served.cloud.get(f"/models/{NAME}")["versions"])[-2:]
    production = int(served.cloud.get(f"/models/{NAME}")["aliases"]["production"])
    return (first, second) if production == second else (second, first)


def batches(effort: Effort) -> list[Row]:
    """A batch job beside a loop in one process."""
    from benchmarks.serve.batch import measure

    with tempfile.TemporaryDirectory(prefix="shoal-bench-batch-") as scratch:
        return measure(Path(scratch), effort.repeats)


def streams(effort: Effort) -> list[Row]:
    """Records a second, and from end to end."""
    from benchmarks.serve.stream import measure  # type: ignore[import-not-found, unused-ignore]

    with tempfile.TemporaryDirectory(prefix="shoal-bench-stream-") as scratch:
        return list(measure(Path(scratch), effort.repeats))


def layer(effort: Effort) -> list[Row]:
    """The unzipped size of the layer that predictions need; `make build` makes it."""
    if not LAYER.exists():
        raise FileNotFoundError(f"{LAYER.relative_to(ROOT)}: run `make build`")
    size = sum(path.lstat().st_size for path in LAYER.rglob("*") if path.is_file())
    return [Row("layer of onnxruntime and numpy, unzipped", "MB", size / 2**20, None, "<= 75")]


SERVED: dict[str, Callable[[Served, Effort], list[Row]]] = {
    "handler": lambda served, effort: handler_rows(served, effort.calls),
    "cold_start": cold,
    "http": over_http,
    "switch": switches,
}
ALONE: dict[str, Callable[[Effort], list[Row]]] = {"batch": batches, "stream": streams, "layer": layer}
NAMES = [*SERVED, *ALONE]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; returns 1 when a goal is missed or something couldn't be measured."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="that it runs, not how fast; written to serve-quick.json")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else WHOLE
    command = " ".join(["python -m benchmarks.serve", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    missing = without_peers(PEERS)
    rows, failed = measure_all(options.only, effort)
    print(table(rows))
    print("\n".join([*missing, *failed]))
    whole = options.only == NAMES and not options.quick and not missing and not failed
    path = save("serve" if whole else "serve-quick", command, rows)
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if missing or failed or any(row.met is False for row in rows) else 0


def measure_all(names: Sequence[str], effort: Effort) -> tuple[list[Row], list[str]]:
    """The rows of the parts, and why others have none; one part's failure doesn't end the rest."""
    rows: list[Row] = []
    failed: list[str] = []

    def part(name: str, measure: Callable[[], list[Row]]) -> None:
        print(f"{name}:", file=sys.stderr, flush=True)
        try:
            rows.extend(measure())
        except Exception as error:  # noqa: BLE001 - told at the end, and the exit status is 1
            failed.append(f"{name}: not measured. {type(error).__name__}: {error}")

    if any(name in SERVED for name in names):
        with served_model() as served:
            for name in (name for name in SERVED if name in names):
                part(name, lambda name=name: SERVED[name](served, effort))  # type: ignore[misc]
    for name in (name for name in ALONE if name in names):
        if name != "layer" and importlib.util.find_spec(f"benchmarks.serve.{name}") is None:
            failed.append(f"{name}: not measured, its module isn't there.")
            continue
        part(name, lambda name=name: ALONE[name](effort))  # type: ignore[misc]
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
