"""What every conversion ends with: the ONNX file beside the original, on the same samples.

Runs in a converter's environment, which has onnx, ONNX Runtime and numpy; nothing of Shoal is imported.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import inliner

IR_VERSION = 10
OPSET = 17
ML_OPSET = 3
SEED = 7
FACTS = "shoal.converted"
"""Key under which the facts of a conversion lie in the file's metadata."""


class Refused(Exception):
    """What can't be converted, with what to do about it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True)
class Request:
    """What is asked of a program.

    Attributes:
        source: The original: a file or a folder.
        weights: A second file of the original's, where it has two.
        output: Where the ONNX file goes.
        samples: An .npz file of inputs by name to compare on; made-up numbers when None.
        count: How many samples are made up.
        shapes: Input -> shape, where the original doesn't tell it; of an only input under "".
        trust: Whether a file may be loaded that executes code.
        tolerance: The largest difference that is fine, relative to the largest answer.
        version: Of the original's framework, where the program can't tell it.
    """

    source: Path
    weights: Path | None
    output: Path
    samples: Path | None
    count: int
    shapes: dict[str, list[int]] = field(default_factory=dict)
    trust: bool = False
    tolerance: float = 1e-3
    version: str = ""


@dataclass(frozen=True)
class Input:
    """One input of the original: its name in the ONNX file, numpy type, and shape of a sample, batch first."""

    name: str
    dtype: Any
    shape: tuple[int, ...]


Answer = Callable[[Mapping[str, Any]], Sequence[Any]]
"""The original's answers to inputs by name, in the order of the ONNX file's outputs."""


def made_up(inputs: Sequence[Input], request: Request) -> list[dict[str, Any]]:
    """Samples to compare on, one batch each: the user's own, or numbers that every run makes alike."""
    if request.samples is not None:
        with np.load(request.samples, allow_pickle=False) as arrays:
            given = {name: arrays[name] for name in arrays.files}
        missing = [entry.name for entry in inputs if entry.name not in given]
        if missing:
            raise Refused(f"{request.samples} has no array {missing[0]!r}.", f"It has: {', '.join(given)}.")
        rows = len(given[inputs[0].name])
        size = max(1, inputs[0].shape[0])
        return [
            {entry.name: given[entry.name][start : start + size].astype(entry.dtype) for entry in inputs}
            for start in range(0, rows - size + 1, size)
        ]
    random = np.random.default_rng(SEED)
    return [{entry.name: _random(entry, random) for entry in inputs} for _ in range(request.count)]


def _random(entry: Input, random: np.random.Generator) -> Any:  # noqa: ANN401 - an array
    if entry.dtype == np.object_:
        return np.full(entry.shape, "a", object)
    dtype = np.dtype(entry.dtype)
    if dtype.kind == "f":
        return random.random(entry.shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, entry.shape).astype(dtype)
    most = 256 if dtype.itemsize == 1 and dtype.kind == "u" else 10
    return random.integers(0, most, entry.shape).astype(dtype)


def finish(
    model: Any,  # noqa: ANN401 - a ModelProto, of which there are no types here
    answer: Answer,
    samples: Sequence[Mapping[str, Any]],
    request: Request,
    facts: Mapping[str, Any],
    trees: bool = False,
) -> dict[str, Any]:
    """Bring a converted model into the form that is served, compare it with the original, and write it.

    Args:
        model: The converted model.
        answer: The original's answers.
        samples: What both are asked.
        request: What was asked for.
        facts: The original's framework and the versions of what converted it.
        trees: Whether a sample may now and then fall on the other side of a split, where float32 rounds: then 99 of
            100 samples have to agree, else all.

    Returns:
        The facts, with the largest difference, the share of equal labels and how many samples agree.

    Raises:
        Refused: The answers differ.
    """
    model = inliner.inline_local_functions(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    del model.metadata_props[:]
    compared = _compared(model.SerializeToString(), answer, samples, request)
    told = {**facts, **compared}
    needed = 0.99 if trees else 1.0
    if compared["agreeing"] < needed or compared["same_label"] < 0.99:
        raise Refused(
            f"The converted model answers differently: largest difference {compared['max_difference']:.3g}, "
            f"same label {compared['same_label']:.1%}, {compared['agreeing']:.1%} of {compared['samples']} samples "
            f"within {request.tolerance:g} of the largest answer.",
            "Compare on samples of your own (--samples FILE.npz), or export the model by its framework's own means.",
        )
    model.metadata_props.add(key=FACTS, value=json.dumps(told, sort_keys=True))
    onnx.checker.check_model(model, full_check=True)
    request.output.write_bytes(model.SerializeToString(deterministic=True))
    return told


def _compared(data: bytes, answer: Answer, samples: Sequence[Mapping[str, Any]], request: Request) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    largest, labels, agreeing, total = 0.0, 0, 0, 0
    for sample in samples:
        expected = [np.asarray(array) for array in answer(sample)]
        found = session.run(None, dict(sample))
        if len(expected) != len(found):
            raise Refused(
                f"The original has {len(expected)} outputs, the converted model {len(found)}.", "Export it again."
            )
        rows = max(1, len(next(iter(sample.values()))))
        close: Any = np.ones(rows, bool)
        same: Any = np.ones(rows, bool)
        ties = _ties(expected, rows, request.tolerance)
        for one, two in zip(expected, found, strict=True):
            difference, row_close, row_same = _rows(one, np.asarray(two), rows, request.tolerance)
            if one.size == rows and one.dtype.kind in "iubOU" and len(expected) > 1:
                # A label beside the scores that it comes from: of two that are equally likely, either is right.
                difference, row_close, row_same = 0.0, row_close | ties, row_close | ties
            largest = max(largest, difference)
            close &= row_close
            same &= row_same
        total, agreeing, labels = total + rows, agreeing + int(close.sum()), labels + int(same.sum())
    share = max(1, total)
    return {"max_difference": largest, "same_label": labels / share, "agreeing": agreeing / share, "samples": total}


def _ties(expected: Sequence[Any], rows: int, tolerance: float) -> Any:  # noqa: ANN401 - an array of bools
    """Per sample, whether its two highest scores are equal but for rounding."""
    for array in expected:
        if array.dtype.kind == "f" and array.size > rows and array.size % rows == 0:
            best = np.sort(array.reshape(rows, -1).astype(np.float64), axis=1)
            return best[:, -1] - best[:, -2] <= tolerance * max(1e-6, float(np.abs(best).max()))
    return np.zeros(rows, bool)


def _rows(expected: Any, found: Any, rows: int, tolerance: float) -> tuple[float, Any, Any]:  # noqa: ANN401 - arrays
    """The largest difference of an output, and per sample whether it is close and whether its largest is the same."""
    if expected.size != found.size:
        raise Refused(
            f"An output of the original has shape {list(expected.shape)}, the converted {list(found.shape)}.",
            "Export the model by its framework's own means.",
        )
    same_rows = rows if expected.size % rows == 0 else 1
    one: Any = expected.reshape(same_rows, -1)
    two: Any = found.reshape(same_rows, -1)
    if one.dtype.kind not in "fiub" or two.dtype.kind not in "fiub":
        equal: Any = np.array([str(a) == str(b) for a, b in zip(one.reshape(-1), two.reshape(-1), strict=True)])
        equal = equal.reshape(same_rows, -1).all(axis=1)
        return 0.0, np.broadcast_to(equal, rows), np.broadcast_to(equal, rows)
    one, two = one.astype(np.float64), two.astype(np.float64)
    # NaN and infinity have to be where the original has them.
    difference = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, np.abs(one - two))
    difference = np.where(np.isfinite(difference), difference, np.inf)
    scale = max(1e-6, float(np.abs(one[np.isfinite(one)]).max(initial=0.0)))
    close = (difference <= tolerance * scale).all(axis=1)
    same: Any = close
    if one.shape[1] > 1:
        chosen = two.argmax(axis=1)[:, np.newaxis]
        # Of classes that are equally likely, either is right.
        same = np.take_along_axis(one, chosen, 1)[:, 0] >= one.max(axis=1) - tolerance * scale
    return float(difference.max(initial=0.0)), np.broadcast_to(close, rows), np.broadcast_to(same, rows)


def shape_for(request: Request, name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
    """The shape of one sample: what is open is told by the request, the batch is 1.

    Raises:
        Refused: Nobody tells it.
    """
    given = request.shapes.get(name) or request.shapes.get("")
    if given is not None:
        return tuple(given)
    if any(size is None or size < 0 for size in shape[1:]):
        raise Refused(f"The original leaves the shape of input {name!r} open: {list(shape)}.", "Add --input SHAPE.")
    return (1, *(int(size) for size in shape[1:] if size is not None))


def run(convert: Callable[[Request], dict[str, Any]]) -> None:
    """A program's main: the request's file is the first argument, the answer's the second."""
    asked = json.loads(Path(sys.argv[1]).read_bytes())
    for name in ("source", "weights", "output", "samples"):
        asked[name] = Path(asked[name]) if asked.get(name) else None
    answer: dict[str, Any]
    try:
        answer = {"converted": convert(Request(**asked))}
    except Refused as error:
        answer = {"reason": error.reason, "fix": error.fix}
    except Exception as error:  # noqa: BLE001 - converters raise what they like; the last line of it is told
        traceback.print_exc()
        text = " ".join(str(error).split())[:400]
        answer = {
            "reason": f"{type(error).__name__}: {text}",
            "fix": "The converter can't do it; see its output above.",
        }
    Path(sys.argv[2]).write_text(json.dumps(answer))
