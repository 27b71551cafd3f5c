"""Programs that read and run what strangers made, each in a process of its own: no credentials, no files, and bounds of
memory and CPU time.

A program is a module that is run with the path of a file. Its request comes on stdin. It answers on stdout with a line
of JSON (`error`, `reason` and `fix` where it refuses), and bytes behind it where it has some.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal_core import errors
from shoal_core.errors import BadModel, ShoalError
from shoal_core.importing.limits import MB, Limits


@dataclass(frozen=True)
class Trial:
    """A program, and what to say of it.

    Attributes:
        program: The module.
        subject: What is tried, as in "The model".
        doing: What it was to do, as in "to load it".
        late: What it didn't do in time, as in "didn't load".
        smaller: What to do where it takes too much.
        refusal: The error that says so.
    """

    program: str
    subject: str
    doing: str
    late: str
    smaller: str
    refusal: type[ShoalError] = BadModel

    def too_much_memory(self, megabytes: int) -> ShoalError:
        """The refusal of what needs more memory than there is."""
        reason = f"{self.subject} needs more than {megabytes:,} MB of memory to {self.doing}."
        return self.refusal(reason, self.smaller)


def run_bounded(trial: Trial, path: Path, request: bytes, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """Run a program on a file.

    Args:
        trial: The program.
        path: The file, in a folder of its own, where the program runs.
        request: Its stdin.
        limits: Of memory and time.

    Returns:
        The line of JSON, and what comes behind it.

    Raises:
        ShoalError: What the program refused with, or the trial's refusal where it took too much or crashed.
    """
    # No credentials, no settings of AWS: only what Python needs to find its modules.
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        ended = subprocess.run(
            [sys.executable, "-m", trial.program, str(path)],
            input=request,
            capture_output=True,
            cwd=path.parent,
            env=environment,
            timeout=limits.wall_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise trial.refusal(
            f"{trial.subject} {trial.late} within {limits.wall_seconds} s.",
            f"Look for a loop that doesn't end. {trial.smaller}",
        ) from error
    if ended.returncode:
        raise _ended_badly(trial, ended.returncode, ended.stderr.decode("utf-8", "replace"), path, limits)
    line, _, rest = ended.stdout.partition(b"\n")
    answer = json.loads(line)
    if "error" in answer:
        kind: type[ShoalError] = getattr(errors, answer["error"])
        raise kind(answer["reason"], answer["fix"])
    return answer, rest


def _ended_badly(trial: Trial, status: int, stderr: str, path: Path, limits: Limits) -> ShoalError:
    """The refusal of what was ended by the kernel, or crashed."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return trial.refusal(
            f"{trial.subject} takes more than {limits.cpu_seconds} s of CPU time to {trial.doing}.",
            f"Look for a loop that doesn't end. {trial.smaller}",
        )
    if "bad_alloc" in stderr or "MemoryError" in stderr or "std::length_error" in stderr:
        return trial.too_much_memory(_allowed(limits, path.stat().st_size) // MB)
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    last = " ".join(stderr.split())[-300:]
    reason = f"{trial.subject}'s trial ended with {name}{f': {last}' if last else ''}."
    return trial.refusal(reason, "Export it again.")


def limit_process(limits: Limits, file_bytes: int) -> int:
    """Bind this process: from here on the kernel ends what takes too much.

    Returns:
        Megabytes that it may take on top of what it has.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _set_limit(resource.RLIMIT_CPU, math.ceil(used) + limits.cpu_seconds)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    allowed = _allowed(limits, file_bytes)
    if sys.platform == "linux":  # the address space of other systems' processes isn't told, or isn't limited
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _set_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + allowed)
    return allowed // MB


def _allowed(limits: Limits, file_bytes: int) -> int:
    return limits.memory_bytes + 3 * file_bytes


def _set_limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (most, most))
