"""Start of a training job's program: tie its life to the cloud's, then become it: `launcher.py PID PROGRAM ARGUMENTS`.

It imports nothing of Shoal's package, which would take longer than many a program.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

WORKERS_LAUNCHER = Path(__file__).parents[1] / "compute/launcher.py"

if __name__ == "__main__":
    runpy.run_path(str(WORKERS_LAUNCHER))["die_with_parent"](int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program of the job
