"""One contender in a process of its own: `python -m MODULE JOB SOURCE OUT WORKERS` prints one line of JSON at the end.

Only the standard library, since the peers' environment has nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Task:
    """What a contender is asked for, and what it has measured.

    Attributes:
        source: The input.
        out: An empty folder for what it makes.
        workers: Processes, or threads where the contender works with threads; it is bound to as many cores.
        seconds: Time inside `clock`.
        measured: Whatever else it tells.
    """

    source: Path
    out: Path
    workers: int
    seconds: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Time what is inside: from the input on the disk to the result on the disk."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    @contextmanager
    def processes(self) -> Iterator[Callable[[Callable[..., Any], Iterable[Any]], list[Any]]]:
        """A `map` over as many processes as workers, which are up before the clock starts; one works right here."""
        if self.workers == 1:
            yield lambda function, items: [function(item) for item in items]
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
            list(pool.map(time.sleep, [0.5] * self.workers))  # each takes one, so all have started
            yield lambda function, items: list(pool.map(function, items))


Job = Callable[[Task], None]


def main(jobs: dict[str, Job]) -> None:
    """Run the job that the command line names; what libraries print goes to the error stream."""
    name, source, out, workers = sys.argv[1:5]
    task = Task(Path(source), Path(out), int(workers))
    with contextlib.redirect_stdout(sys.stderr):
        jobs[name](task)
    print(json.dumps({"seconds": task.seconds, **task.measured}), flush=True)
