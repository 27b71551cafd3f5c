"""Shows a search while it goes: a live view on a terminal, one line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from shoal._tunings import Tuning
from shoal.progress import REFRESH_PER_SECOND, dollars_text, seconds_text

_LEADERS = 5


def ranked(tuning: Tuning) -> list[dict[str, Any]]:
    """Trials, the best first: by their scores, of which higher is better; failed ones come last."""

    def rank(trial: dict[str, Any]) -> tuple[Any, ...]:
        results = trial.get("results") or []
        return trial["state"] == "failed", not results, *(-value for value in (results[-1]["score"] if results else ()))

    return sorted(tuning.trials, key=rank)


def facts(tuning: Tuning) -> list[str]:
    """What is known of a search's progress, as short phrases."""
    document = tuning.document
    most = document["budget"].get("trials")
    found = [f"trials {document['trials_begun']}" + (f"/{most}" if most else "")]
    found.append("rungs " + " ".join(f"{done}/{entered}" for done, entered in _rungs(tuning)))
    if document.get("best_metric") is not None:
        found.append(f"best {document['metric']} {document['best_metric']:.4f} (trial {document['best']})")
    if document.get("trials_failed"):
        found.append(f"failed {document['trials_failed']}")
    if tuning.winner is not None:
        found.append(f"winner trial {tuning.winner['trial']}")
    return found


def _rungs(tuning: Tuning) -> list[tuple[int, int]]:
    """Of each rung: trials that came to its end, and those that belong there."""
    return list(zip(tuning.document["done"], tuning.document["rungs"], strict=True))


def _stage(tuning: Tuning) -> str:
    return str(tuning.document["stage"]) if tuning.status == "running" else tuning.status


class PlainTuningProgress:
    """One line per change, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: tuple[str, ...] = ()

    def __enter__(self) -> PlainTuningProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, tuning: Tuning) -> None:
        """Write a line when something but time and cost has changed."""
        state = (_stage(tuning), *facts(tuning))
        if state == self._last:
            return
        self._last = state
        left = tuning.document.get("seconds_left")
        parts = [f"{seconds_text(tuning.seconds):>10}", f"{_stage(tuning):<10}", *facts(tuning)]
        parts += [f"left about {seconds_text(left)}"] if left is not None else []
        self._write("  ".join([*parts, f"cost {dollars_text(tuning.cost_usd)}"]))


class LiveTuningProgress(AbstractContextManager["LiveTuningProgress"]):
    """The whole search in one view that redraws itself."""

    def __init__(self, console: Console) -> None:
        self._tuning: Tuning | None = None
        self._updated = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True)

    def __enter__(self) -> LiveTuningProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, tuning: Tuning) -> None:
        """Show the search's newest state."""
        self._tuning, self._updated = tuning, time.monotonic()

    def __rich__(self) -> RenderableType:
        if self._tuning is None:
            return Text("waiting for the search …", style="dim")
        tuning = self._tuning
        title = Text.assemble((tuning.id, "bold"), "  ", _stage(tuning))
        return Group(title, self._ladder(tuning), self._leaders(tuning), self._footer(tuning))

    def _ladder(self, tuning: Tuning) -> Table:
        grid = Table.grid(padding=(0, 2))
        for number, ((done, entered), part) in enumerate(
            zip(_rungs(tuning), tuning.document["parts"], strict=True), start=1
        ):
            busy = entered > done and tuning.status == "running"
            length = "all rounds" if part == 1 else f"1/{part} of the rounds"
            bar = ProgressBar(total=max(1, entered), completed=done, width=24)
            mark: RenderableType = self._spinner if busy else Text("✓" if entered else "·", style="dim")
            grid.add_row(mark, f"rung {number}", Text(length, style="dim"), bar, f"{done}/{entered}")
        return grid

    def _leaders(self, tuning: Tuning) -> Table:
        grid = Table.grid(padding=(0, 2))
        for trial in [trial for trial in ranked(tuning) if trial.get("results")][:_LEADERS]:
            values = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial["values"].items())
            metric = f"{trial['results'][-1]['metric']:.4f}"
            grid.add_row(f"trial {trial['number']}", metric, Text(values or "as dataset.yaml says", style="dim"))
        return grid

    def _footer(self, tuning: Tuning) -> Text:
        spent = time.monotonic() - self._updated
        parts = [*facts(tuning)[2:], f"elapsed {seconds_text(tuning.seconds + (0 if tuning.finished else spent))}"]
        left = tuning.document.get("seconds_left")
        parts += [f"about {seconds_text(max(0.0, left - spent))} left"] if left is not None else []
        return Text("  ".join([*parts, f"cost so far {dollars_text(tuning.cost_usd)}"]), style="dim")


def show_tuning(console: Console) -> PlainTuningProgress | LiveTuningProgress:
    """The way to show a search that suits where the output goes."""

    def write(line: str) -> None:
        console.file.write(line + "\n")
        console.file.flush()

    return LiveTuningProgress(console) if console.is_terminal else PlainTuningProgress(write)
