"""What was measured once and is found again: one file for each data set, seed and number of workers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.data.inputs import ROOT
from benchmarks.results import OUT, machine, machine_line

CELLS = OUT / "cells"


@dataclass(frozen=True)
class Cell:
    """What one measurement is of.

    Attributes:
        what: Such as `shoal` or the reference's name.
        data: The data set.
        seed: Of its split and of the run.
        workers: None where the defaults say.
        quick: Whether it is a run over a part of the data.
    """

    what: str
    data: str
    seed: int
    workers: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        """Of its file."""
        workers = "" if self.workers is None else f"-workers-{self.workers}"
        return f"{self.data}-{self.what}-seed-{self.seed}{workers}{'-quick' if self.quick else ''}"


def measured(cell: Cell, measure: Callable[[], Mapping[str, Any]], *, again: bool = False) -> dict[str, Any]:
    """A cell as it was measured, here and now where it wasn't yet; `again` measures in any case."""
    path = CELLS / f"{cell.name}.json"
    if path.exists() and not again:
        kept: dict[str, Any] = json.loads(path.read_text())
        print(f"  {cell.name}: {kept['score']:.4f}, found ({kept['commit']}, {kept['at']})", flush=True)
        return kept
    found = {**asdict(cell), **origin(), **measure()}
    CELLS.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    temporary.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)
    print(f"  {cell.name}: {found['score']:.4f}, measured", flush=True)
    return found


def origin() -> dict[str, str]:
    """Where a cell comes from: the commit, whether the tree differed from it, the machine, the day."""
    return {"commit": commit(), "machine": machine_line(machine()), "at": datetime.now(UTC).strftime("%Y-%m-%d")}


def commit() -> str:
    """The commit that is checked out, with `+` where the tree differs; `unknown` outside of a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "layers", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def origins(cells: list[dict[str, Any]]) -> list[str]:
    """Which cells come from which commit and machine, a line each."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        key = (cell["commit"], cell["at"], cell["machine"])
        name = Cell(**{field: cell[field] for field in ("what", "data", "seed", "workers", "quick")}).name
        groups.setdefault(key, []).append(name)
    return [f"commit {commit}, {at}, {machine}: {', '.join(names)}" for (commit, at, machine), names in groups.items()]
