"""Shows a run while it goes: a live view on a terminal, one line per change elsewhere, JSON lines for machines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from shoal._runs import STAGES, Run

LOOP = ("Train Shard", "Merge Round")
REFRESH_PER_SECOND = 8


def seconds_text(seconds: float) -> str:
    """A duration for people: "8.4 s", "3 min 05 s", "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def dollars_text(dollars: float) -> str:
    """An amount of US dollars; small ones keep two significant digits."""
    if dollars >= 0.01 or dollars <= 0:
        return f"${dollars:.2f}"
    return f"${float(f'{dollars:.2g}'):.8f}".rstrip("0")


def stage_name(stage: str) -> str:
    """A stage as the state machine writes it: `train_shard` and `Train Shard` are the same."""
    return stage.replace("_", " ").title()


def facts(run: Run) -> list[str]:
    """What is known about a running run's progress, as short phrases."""
    progress = run.progress
    found = []
    if progress.get("shards_total"):
        found.append(f"shards {progress.get('shards_done') or 0}/{progress['shards_total']}")
    if progress.get("packs_total"):
        found.append(f"packed {progress.get('packs_done') or 0}/{progress['packs_total']}")
    if progress.get("rounds") and progress.get("round") is not None:
        found.append(f"round {progress['round']}/{progress['rounds']}")
    if progress.get("loss") is not None:
        found.append(f"loss {progress['loss']:.4f}")
    validation = progress.get("validation") or {}
    # Of anomalies there is a threshold, and no answer that could be right.
    wanted = ("loss", "roc_auc") if "threshold" in validation else ("accuracy", "micro_f1", "mae", "rmse", "r2")
    for name, value in sorted(validation.items()):
        if isinstance(value, int | float) and name in wanted:
            found.append(f"validation {name} {value:.4f}")
    return found


class PlainProgress:
    """One line per change, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, run: Run) -> None:
        """Write a line when something but time and cost has changed."""
        state = (run.status, run.stage, *facts(run))
        if state == self._last:
            return
        self._last = state
        what = run.status if run.finished or not run.stage else stage_name(run.stage)
        parts = [f"{seconds_text(run.seconds):>10}", f"{what:<15}", *facts(run), f"cost {dollars_text(run.cost_usd)}"]
        self._write("  ".join(parts))


class JsonProgress:
    """One JSON document per change and line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, run: Run) -> None:
        """Write the run as the API tells it."""
        self._write(json.dumps(run.document, sort_keys=True))


class LiveProgress(AbstractContextManager["LiveProgress"]):
    """The whole run in one view that redraws itself."""

    def __init__(self, console: Console) -> None:
        self._run: Run | None = None
        self._updated = time.monotonic()
        self._first_round: tuple[float, int] | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, run: Run) -> None:
        """Show the run's newest state."""
        self._run, self._updated = run, time.monotonic()
        round_ = run.progress.get("round")
        if round_ is not None and self._first_round is None:
            self._first_round = (self._updated, int(round_))

    def seconds_left(self) -> float | None:
        """Seconds that the rounds still to come take at most (early stopping may spare some); None when unknown."""
        progress = self._run.progress if self._run else {}
        if self._first_round is None or not progress.get("rounds") or (self._run and self._run.finished):
            return None
        done = int(progress.get("round") or 0) - self._first_round[1]
        if done <= 0 or progress.get("round") == progress["rounds"]:
            return None
        pace = (self._updated - self._first_round[0]) / done
        spent = time.monotonic() - self._updated
        return max(0.0, pace * (int(progress["rounds"]) - int(progress.get("round") or 0)) - spent)

    def __rich__(self) -> RenderableType:
        if self._run is None:
            return Text("waiting for the run …", style="dim")
        run = self._run
        title = Text.assemble((run.id, "bold"), "  dataset ", (run.dataset, "bold"), "  ", run.status)
        return Group(title, self._stages(run), Text("  ".join(facts(run))), self._footer(run))

    def _stages(self, run: Run) -> Table:
        table = Table.grid(padding=(0, 2))
        times = {stage_name(str(item.get("name"))): item for item in run.stages}
        current = stage_name(run.stage)
        # A run by request has no data to prepare.
        first = 0 if run.document.get("request") is None else STAGES.index("Start Training")
        for name in STAGES[first:]:
            seconds = times.get(name, {}).get("seconds")
            mark, style = self._mark(run, name, current, seconds is not None)
            spent = seconds_text(float(seconds)) if seconds is not None else ""
            table.add_row(mark, Text(name, style=style), Text(spent, style="dim"), _bar(run, name))
        return table

    def _mark(self, run: Run, name: str, current: str, started: bool) -> tuple[RenderableType, str]:
        failed = stage_name(str((run.failure or {}).get("stage") or ""))
        if name == failed:
            return Text("✗", style="red"), "red"
        if run.status == "running" and (name == current or (name in LOOP and current in LOOP)):
            return self._spinner, "bold"
        passed = current in STAGES and STAGES.index(name) < STAGES.index(current)
        if run.status == "succeeded" or passed or (started and not run.finished):
            return Text("✓", style="green"), ""
        return Text("·", style="dim"), "dim"

    def _footer(self, run: Run) -> Text:
        elapsed = run.seconds + (0 if run.finished else time.monotonic() - self._updated)
        parts = [f"elapsed {seconds_text(elapsed)}"]
        left = self.seconds_left()
        if left is not None:
            parts.append(f"at most {seconds_text(left)} of training left")
        parts.append(f"cost so far {dollars_text(run.cost_usd)}")
        return Text("  ".join(parts), style="dim")


def _bar(run: Run, name: str) -> RenderableType:
    progress: Mapping[str, Any] = run.progress
    done, total = {
        "Write Shard": (progress.get("shards_done"), progress.get("shards_total")),
        "Pack Shard": (progress.get("packs_done"), progress.get("packs_total")),
        "Train Shard": (progress.get("round"), progress.get("rounds")),
    }.get(name, (None, None))
    return ProgressBar(total=float(total), completed=float(done or 0), width=24) if total else Text("")


Progress = PlainProgress | JsonProgress | LiveProgress


def show(console: Console, *, as_json: bool = False) -> Progress:
    """The way to show a run that suits where the output goes."""

    def write(line: str) -> None:
        console.file.write(line + "\n")
        console.file.flush()

    if as_json:
        return JsonProgress(write)
    return LiveProgress(console) if console.is_terminal else PlainProgress(write)
