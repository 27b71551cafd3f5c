"""The SAM command line, in its own virtual environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.aws import REGION, ROOT
from tests.support.python313 import python313

SAM = ROOT / ".venv-sam/bin/sam"
BUILD = ROOT / ".aws-sam/build"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a `sam` command: CPython 3.13 first on PATH, a region, no telemetry."""
    python = python313()
    path = os.environ["PATH"]
    return {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{path}" if python else path,
        "AWS_DEFAULT_REGION": REGION,
        "SAM_CLI_TELEMETRY": "0",
        **(extra or {}),
    }


def sam(*arguments: str, cwd: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run `sam`; raises with its output when it fails."""
    answer = subprocess.run(
        [str(SAM), *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
    if answer.returncode:
        raise AssertionError(f"sam {' '.join(arguments)} failed:\n{answer.stdout}\n{answer.stderr}")
    return answer


def build() -> Path:
    """Build functions and layers without a container; returns the folder of the built template."""
    sam("build", "--cached", "--parallel")
    return BUILD
