"""The data path beside its peers: raw files to shards, shards to batches, and the deployed pipeline's shards.

`make bench-data`, or `.venv/bin/python -m benchmarks.data [--only NAME …] [--repeats N] [--quick]`. Inputs are fetched
and made first, untimed. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.comparisons import COMPARISONS, compare, read_shards
from benchmarks.data.deployed import deployed_rows
from benchmarks.data.inputs import PEERS_PYTHON, Unavailable
from benchmarks.results import Row, machine, machine_line, save, table

NAMES = [*COMPARISONS, "reading", "deployed"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; returns 1 when a goal is missed or something couldn't be measured."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--repeats", type=int, help="fresh processes per contender (3)")
    parser.add_argument("--quick", action="store_true", help="one repeat; written to data-quick.json")
    options = parser.parse_args(arguments)
    if not PEERS_PYTHON.exists():
        parser.error("the peers aren't installed: run `make bench-data`")
    repeats = options.repeats or (1 if options.quick else 3)
    command = " ".join(["python -m benchmarks.data", *arguments])
    print(f"{command}\n{machine_line(machine())}", flush=True)
    rows: list[Row] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="shoal-bench-data-") as scratch:
        for name in options.only:
            try:
                rows += measure(name, Path(scratch), repeats)
            except Unavailable as error:
                missing.append(f"{name}: not measured. {error}")
    print(table(rows))
    print("\n".join(missing))
    whole = options.only == NAMES and not options.quick and not missing
    path = save("data" if whole else "data-quick", command, rows)
    print(f"written to {path.relative_to(path.parents[2])}")
    return 1 if missing or any(row.met is False for row in rows) else 0


def measure(name: str, scratch: Path, repeats: int) -> list[Row]:
    """The rows of one part."""
    print(f"{name}:", file=sys.stderr, flush=True)
    if name == "reading":
        return read_shards(scratch, repeats)
    if name == "deployed":
        return deployed_rows(scratch)
    return compare(COMPARISONS[name], scratch, repeats)


if __name__ == "__main__":
    sys.exit(main())
