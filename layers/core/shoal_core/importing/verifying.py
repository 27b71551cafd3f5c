"""Is a foreign model safe and fit to serve? Decided in a process of its own, within bounds of memory and time."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import Field

from shoal_core.errors import BadModel, TooLarge
from shoal_core.frozen import Frozen
from shoal_core.importing.bounded import Trial, run_bounded
from shoal_core.importing.limits import Limits

_SMALLER = "Serve a smaller model."
TRIAL = Trial(
    program="shoal_core.importing.trial",
    subject="The model",
    doing="load and answer one sample",
    late="didn't load and answer one sample",
    smaller=_SMALLER,
)
"""What tries a model: the module of that name."""


class Tensor(Frozen):
    """An input of a model: its name, V2 datatype, and shape with -1 for what may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Output(Tensor):
    """An output of a model, and what its numbers looked like in the trial.

    `answers`: `probabilities` (rows that sum to 1), `unit` (numbers within 0..1) or `any`.
    """

    answers: Literal["probabilities", "unit", "any"]


class VerifiedModel(Frozen):
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
        answer, _ = run_bounded(TRIAL, path, json.dumps(request).encode(), limits)
    digest = hashlib.sha256(model).hexdigest()
    return VerifiedModel.model_validate({"digest": digest, "bytes": len(model), **answer["verified"]})
