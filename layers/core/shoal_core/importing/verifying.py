"""Is a foreign model safe and fit to serve? Decided in a process of its own, within bounds of memory and time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shoal_core import errors
from shoal_core.errors import BadModel, ShoalError, TooLarge
from shoal_core.importing.limits import MB, Limits

_PROGRAM = "shoal_core.importing.trial"
_SMALLER = "Serve a smaller model."


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Record):
    """An input of a model: its name, V2 datatype, and shape with -1 for what may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Output(Tensor):
    """An output of a model, and what its numbers looked like in the trial.

    `answers`: `probabilities` (rows that sum to 1), `unit` (numbers within 0..1) or `any`.
    """

    answers: Literal["probabilities", "unit", "any"]


class VerifiedModel(_Record):
    """What verification found out about a model.

    Attributes:
        digest: sha256 of the file.
        bytes: Its size.
        ir_version: Version of the file format.
        opsets: Operator domain -> version.
        producer: What wrote the file.
        operators: Operator -> how often it is used.
        parameters: Numbers in the initialisers.
        metadata: The file's own texts.
        inputs: What it takes.
        outputs: What it answers.
        batch: How many samples one call holds; None is any number.
        sample_shapes: Input -> shape of the sample that was tried.
        warnings: What isn't wrong but ought to be known.
    """

    digest: str
    bytes: int
    ir_version: int
    opsets: dict[str, int]
    producer: str
    operators: dict[str, int]
    parameters: int
    metadata: dict[str, str] = Field(default_factory=dict)
    inputs: tuple[Tensor, ...]
    outputs: tuple[Output, ...]
    batch: int | None
    sample_shapes: dict[str, tuple[int, ...]]
    warnings: tuple[str, ...] = ()


def verify_model(
    model: bytes,
    shapes: Mapping[str, Sequence[int]] | None = None,
    limits: Limits | None = None,
    hints: Sequence[Sequence[int]] = (),
) -> VerifiedModel:
    """Check a foreign model and run it once, in a process of its own.

    Needs onnx, ONNX Runtime and numpy. Nothing is unpickled, and no other file is read.

    Args:
        model: One ONNX file.
        shapes: Input -> shape of one sample, where the graph leaves it open.
        limits: What is allowed; Shoal's own when None.
        hints: Shapes without the batch that an input may have, where it leaves sizes open and `shapes` says nothing.

    Raises:
        BadModel: It can't be served: not valid, an operator, reference or version that isn't allowed, a run that
            fails, or one that takes too much memory or time. Names what it is.
        TooLarge: The file, a tensor or the graph is over a limit.
    """
    limits = limits or Limits()
    if not model:
        raise BadModel("The model's file is empty (0 bytes).", "Upload it again.")
    if len(model) > limits.model_bytes:
        raise TooLarge(f"The model has {len(model):,} bytes; {limits.model_bytes:,} are allowed.", _SMALLER)
    request = {
        "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
        "hints": [list(hint) for hint in hints],
        "limits": asdict(limits),
    }
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        answer = _tried(path, json.dumps(request).encode(), limits)
    digest = hashlib.sha256(model).hexdigest()
    return VerifiedModel.model_validate({"digest": digest, "bytes": len(model), **answer})


def _tried(path: Path, request: bytes, limits: Limits) -> dict[str, object]:
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
            [sys.executable, "-m", _PROGRAM, str(path)],
            input=request,
            capture_output=True,
            cwd=path.parent,
            env=environment,
            timeout=limits.wall_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadModel(
            f"The model didn't load and answer one sample within {limits.wall_seconds} s.",
            "Look for a loop that doesn't end, or serve a smaller model.",
        ) from error
    if ended.returncode:
        raise _ended_badly(ended.returncode, ended.stderr.decode("utf-8", "replace"), path.stat().st_size, limits)
    answer = json.loads(ended.stdout)
    if "verified" in answer:
        return dict(answer["verified"])
    kind: type[ShoalError] = getattr(errors, answer["error"])
    raise kind(answer["reason"], answer["fix"])


def _ended_badly(status: int, stderr: str, size: int, limits: Limits) -> BadModel:
    """The refusal of a model whose trial was ended by the kernel, or crashed."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return BadModel(
            f"The model takes more than {limits.cpu_seconds} s of CPU time to load and answer one sample.",
            "Look for a loop that doesn't end, or serve a smaller model.",
        )
    if "bad_alloc" in stderr or "MemoryError" in stderr or "std::length_error" in stderr:
        megabytes = (limits.memory_bytes + 3 * size) // MB
        return BadModel(
            f"The model needs more than {megabytes:,} MB of memory to load and answer one sample.", _SMALLER
        )
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    last = " ".join(stderr.split())[-300:]
    return BadModel(f"The model's trial ended with {name}{f': {last}' if last else ''}.", "Export the model again.")
