"""Finding a CPython 3.13, as `sam build` needs one: on PATH or among pyenv's versions."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

WHY = "no CPython 3.13 on PATH or among pyenv's versions: the build for AWS can't be tested here"


def _works(python: Path) -> bool:
    # A pyenv shim is on PATH for every version and fails for those that aren't selected.
    probe = [str(python), "-c", "import sys; print(sys.implementation.name, *sys.version_info[:2])"]
    answer = subprocess.run(probe, capture_output=True, text=True, check=False)
    return answer.stdout.split() == ["cpython", "3", "13"]


@cache
def python313() -> Path | None:
    """The interpreter; None where the machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = shutil.which("python3.13")
    candidates = [Path(found)] if found else []
    candidates += sorted(pyenv.glob("3.13.*/bin/python3.13"), reverse=True)
    return next((python for python in candidates if _works(python)), None)
