"""A fresh process up to its first finished step: `python -m benchmarks.train.first_step KIND NET FOLDER STEPS BEGAN`.

KIND is shoal or pytorch, FOLDER what `kept.keep` wrote, BEGAN the moment of the start in seconds since 1970. Prints
JSON: seconds since then, and the peak of resident memory after STEPS steps, in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

BATCH = "batch.npz"


def main(kind: str, name: str, folder: Path, steps: int, began: float) -> None:
    """Train a little and tell how it went."""
    stepper = _stepper(kind, name, folder)
    with np.load(folder / BATCH) as kept:
        batch = dict(kept)
    stepper.step(batch)
    first = time.time() - began
    for _ in range(steps - 1):
        stepper.step(batch)
    print(json.dumps({"seconds": first, "bytes": _peak()}))


def _peak() -> int:
    """Most resident bytes since this program began: getrusage also counts the process that it was forked from."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _stepper(kind: str, name: str, folder: Path):
    if kind == "shoal":
        from benchmarks.train.kept import KeptStepper

        return KeptStepper(folder, 1)
    from benchmarks.train.torch_steps import TorchStepper

    return TorchStepper(name, 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
