"""Contenders in fresh processes: seconds as they tell them, memory as the operating system does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data.inputs import PEERS_PYTHON, ROOT

SAMPLING_SECONDS = 0.05
DEADLINE = 600.0


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: a job of a module, run in our environment or the peers', and its input."""

    name: str
    module: str
    job: str
    ours: bool = False
    most_repeats: int = 99
    source: Path = Path()


@dataclass(frozen=True)
class Measurement:
    """One fresh process.

    Attributes:
        seconds: The job's own clock: the interpreter's start, imports and the start of processes aren't in it.
        peak_mb: Most resident memory of the process and all below it at one time, in 10^6 bytes.
        told: What else the contender told.
    """

    seconds: float
    peak_mb: float
    told: dict[str, Any]


def run(contender: Contender, out: Path, workers: int) -> Measurement:
    """Run a contender on as many cores as it has workers, into the empty folder `out`."""
    python = sys.executable if contender.ours else str(PEERS_PYTHON)
    command = [python, "-m", contender.module, contender.job, str(contender.source), str(out), str(workers)]
    # Threads of libraries follow the workers, so that nobody has more cores than the others.
    threads = {name: str(workers) for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "cache"), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        with _bound(workers):
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **threads, **offline}, stdout=printed, stderr=errors
            )
        memory = _Memory(process.pid)
        memory.start()
        try:
            _, status, usage = _wait(process)
        finally:
            memory.stop()
        printed.seek(0)
        errors.seek(0)
        if status:
            raise RuntimeError(f"{contender.name} failed: {errors.read().decode(errors='replace')[-2000:]}")
        told = json.loads(printed.read().splitlines()[-1])
    # The kernel's own mark catches what falls between two samples, for the largest single process.
    peak = max(memory.peak, usage.ru_maxrss * 1024)
    return Measurement(told.pop("seconds"), peak / 1e6, told)


@contextlib.contextmanager
def _bound(workers: int) -> Iterator[None]:
    """What this thread starts meanwhile has as many cores as workers."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:workers])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int, Any]:
    timer = threading.Timer(DEADLINE, process.kill)
    timer.start()
    try:
        found = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(found[1])
    return found


class _Memory(threading.Thread):
    """Samples the resident memory of a process and everything below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(SAMPLING_SECONDS):
            with contextlib.suppress(psutil.Error):
                self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        total = 0
        for process in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def stop(self) -> None:
        self._over.set()
        self.join()


def interleaved(
    contenders: Sequence[Contender], workers: int, repeats: int, scratch: Path
) -> dict[str, list[Measurement]]:
    """Every contender in turn, again and again, so that a slow minute of the machine is everybody's.

    Each one's last output is kept in `scratch/JOB-WORKERS`.
    """
    found: dict[str, list[Measurement]] = {contender.name: [] for contender in contenders}
    for repeat in range(repeats):
        for contender in contenders:
            if repeat >= contender.most_repeats:
                continue
            out = scratch / f"{contender.job}-{workers}"
            _empty(out)
            found[contender.name].append(run(contender, out, workers))
            last = found[contender.name][-1]
            print(
                f"  {workers} x {contender.name}: {last.seconds:.2f} s, {last.peak_mb:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return found


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
