"""What a benchmark found: rows of ours beside a peer and a goal, shown as a table and kept as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

OUT = Path(__file__).resolve().parent / "out"
_GOAL = re.compile(r"(<=|>=|<|>) (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Row:
    """One number, and what it is measured against.

    Attributes:
        name: What was measured, unique in its benchmark.
        unit: Such as `s`, `ms`; empty for a share.
        ours: Shoal's number.
        peer: The same of what a user would have without Shoal, measured in the same run; None where there is none.
        goal: What `ours` must be, such as `< 60`; empty where nothing is asked.
        samples: The measurements that `ours` is the median of; empty when it is something else.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    goal: str = ""
    samples: tuple[float, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.goal and not _GOAL.fullmatch(self.goal):
            raise ValueError(f"Row {self.name!r}: the goal {self.goal!r} isn't a comparison such as '< 60'.")

    @property
    def ratio(self) -> float | None:
        """`ours` over `peer`."""
        return self.ours / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        found = _GOAL.fullmatch(self.goal)
        if found is None:
            return None
        limit = float(found[2])
        return {
            "<": self.ours < limit,
            "<=": self.ours <= limit,
            ">": self.ours > limit,
            ">=": self.ours >= limit,
        }[found[1]]

    def to_json(self) -> dict[str, Any]:
        """The row as `benchmarks/out/NAME.json` has it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ratio,
            "goal": self.goal or None,
            "met": self.met,
        }


def median_row(name: str, unit: str, ours: Sequence[float], peer: Sequence[float] | None = None, goal: str = "") -> Row:
    """A row of medians."""
    return Row(name, unit, statistics.median(ours), statistics.median(peer) if peer else None, goal, tuple(ours))


def without_goals(rows: Sequence[Row]) -> list[Row]:
    """The rows of a run that only shows that everything runs."""
    return [replace(row, goal="") for row in rows]


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 to 1) of all samples don't exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def machine() -> dict[str, Any]:
    """The machine and the versions that the numbers depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def machine_line(found: dict[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']} GB, {found['system']}, "
        f"Python {found['python']}, onnxruntime {found['onnxruntime']}"
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as an aligned table; RANGE is the least and the greatest of the samples behind a median."""
    header = ("", "UNIT", "OURS", "PEER", "RATIO", "GOAL", "MET", "N", "RANGE")
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    left = {0, 1}
    lines = (
        "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    peer = "" if row.peer is None else number(row.peer)
    count, spread = "", ""
    if len(row.samples) > 1:
        count, spread = f"{len(row.samples):,}", f"{number(min(row.samples))} .. {number(max(row.samples))}"
    return (row.name, row.unit, number(row.ours), peer, ratio, row.goal, met, count, spread)


def number(value: float) -> str:
    """A number as tables show it: whole from 100 on, else three or four digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


def save(name: str, command: str, rows: Sequence[Row], folder: Path = OUT, origins: Sequence[str] = ()) -> Path:
    """Write `folder/NAME.json` whole or not at all; returns its path.

    `origins` say where numbers come from that weren't measured in this very run, a line each.

    Raises:
        ValueError: Two rows of one name.
    """
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise ValueError(f"Benchmark {name!r} has two rows of one name.")
    document = {
        "benchmark": name,
        "command": command,
        "machine": machine(),
        "rows": [row.to_json() for row in rows],
    }
    if origins:
        document["origins"] = list(origins)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)
    return path
