"""One virtual environment per family of converters, under the user's cache; the user's own interpreter stays as it is.

What goes into one is pinned with hashes in `locks/`; a new lock makes a new environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

from shoal._shards import cache_folder
from shoal.convert.families import Family
from shoal.errors import BadRequest, ConversionFailed

LOCKS = Path(__file__).parent / "locks"
PROGRAMS = Path(__file__).parent / "programs"
PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Versions of Python that all locked converters have wheels for."""

Say = Callable[[str], None]


def interpreter(family: Family, say: Say) -> Path:
    """The Python of a family's environment, which is made when it isn't there.

    Args:
        family: The converters.
        say: Is told what takes long.

    Raises:
        BadRequest: This Python is newer or older than the converters.
        ConversionFailed: The environment can't be made.
    """
    if sys.version_info[:2] not in PYTHONS:
        names = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise BadRequest(
            f"The converters have no build for Python {sys.version_info[0]}.{sys.version_info[1]}.",
            f"Run shoal with one of Python {names}.",
        )
    lock = LOCKS / f"{family.lock}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    name = f"{family.lock}-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    folder = cache_folder(None) / "converters" / name
    if not folder.is_dir():
        say(f"Installing the converters for {family.title} into {folder} (once; {family.size} to download)")
        _make(folder, lock)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(folder: Path, lock: Path) -> None:
    """Make an environment beside its place, and move it there when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(part)
        # Wheels only: nothing of a package runs while it is installed.
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:")
        command = [str(python_of(part)), "-m", "pip", "install", *options, "-r", str(lock)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
        if ended.returncode:
            last = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")][-1:] or ["no reason told"]
            raise ConversionFailed(
                f"The converters can't be installed: {last[0][:300]}",
                "Check the network and pip's settings, then try again.",
            )
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody else was first, with the same
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """The user's environment without what would lead another Python to the user's own packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {**{name: value for name, value in os.environ.items() if name not in hidden}, "PYTHONNOUSERSITE": "1"}
