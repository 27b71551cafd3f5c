"""The Python that stands for a training job's container image: one that has PyTorch."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "SHOAL_TORCH_PYTHON"
FOLDER = ".venv-torch"


class NoInterpreter(Exception):
    """Nothing here can stand for the image; the reason says what would."""


def interpreter_for(image: str) -> Path:
    """The interpreter for an image: with PyTorch where its name says so, else the best there is.

    Looked for in this order: what `SHOAL_TORCH_PYTHON` names, the cloud's own, `.venv-torch` in the working folder.

    Raises:
        NoInterpreter: The image is PyTorch's, and no interpreter here has it.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise NoInterpreter(f"{VARIABLE} is {named!r}, which isn't there")
        return Path(named)
    if find_spec("torch") is not None:
        return Path(sys.executable)
    local = Path.cwd() / FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if local.is_file():
        return local
    if "pytorch" not in image:
        return Path(sys.executable)
    raise NoInterpreter(
        "no PyTorch is installed for training jobs on this machine: run `make .venv-torch/stamp`, or name by "
        f"{VARIABLE} a Python that has torch, numpy, pydantic and boto3, and start the cloud again"
    )
