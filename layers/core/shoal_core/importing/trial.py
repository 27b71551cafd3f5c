"""The process that reads, checks and runs a foreign model once: `python -m shoal_core.importing.trial MODEL`.

It has no credentials, may write no file, and ends by the kernel's hand where it takes more memory or CPU time than
allowed. The request comes on stdin (JSON: `shapes`, `hints`, `limits`), the answer goes to stdout (JSON: `verified`, or
`error`, `reason` and `fix`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shoal_core.errors import BadModel, ShoalError, TooLarge
from shoal_core.importing.bounded import limit_process
from shoal_core.importing.checking import check_structure
from shoal_core.importing.limits import Limits
from shoal_core.importing.verifying import TRIAL
from shoal_core.serving.protocol import datatype_of, dtype_of

_MEMORY = "The model needs more than"
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "out of memory", "MemoryError")
# Sizes that are tried for dimensions that are free and not the batch.
_FREE_SIZES = (8, 1, 64, 224)
_SEED = 7
_LONGEST_NAME = 200
_MOST_DIMENSIONS = 16
Feeds = dict[str, NDArray[Any]]


def try_model(
    data: bytes, shapes: Mapping[str, Sequence[int]], limits: Limits, hints: Sequence[Sequence[int]] = ()
) -> dict[str, Any]:
    """Check a model's structure, load it, and run it on made-up samples.

    Args:
        data: One ONNX file.
        shapes: Input -> its shape for one sample, where the graph leaves it open.
        limits: What is allowed.
        hints: Shapes without the batch that an input may have, where it leaves sizes open.

    Returns:
        The fields of `verifying.VerifiedModel`, without digest and size.

    Raises:
        BadModel: It can't be served; names what keeps it.
        TooLarge: Over a limit.
    """
    structure = check_structure(data, limits)
    session = _session(data)
    inputs, outputs = (
        [_signature(value, kind) for value in values]
        for values, kind in ((session.get_inputs(), "Input"), (session.get_outputs(), "Output"))
    )
    if not inputs:
        raise BadModel("The model has no inputs.", "Export it with the inputs that a request would hold.")
    feeds, results = _first_that_runs(session, inputs, {**_hinted(inputs, hints), **shapes})
    warnings = _findings(session, feeds, results)
    for signature, result in zip(outputs, results, strict=True):
        signature["answers"] = _answers(result)
    return {
        **asdict(structure),
        "inputs": inputs,
        "outputs": outputs,
        "batch": _batch(session, inputs, feeds, results),
        "sample_shapes": {name: list(array.shape) for name, array in feeds.items()},
        "warnings": warnings,
    }


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no other common base.
        raise _refusal("ONNX Runtime can't load the model", error) from error


def _signature(value: Any, kind: str) -> dict[str, Any]:  # noqa: ANN401 - onnxruntime.NodeArg has no stub
    datatype = datatype_of(value.type)
    if datatype is None:
        raise BadModel(
            f"{kind} {value.name[:100]!r} is a {value.type[:100]}, not a tensor.",
            "Export tensors only; of scikit-learn with `options={'zipmap': False}`.",
        )
    shape = [size if isinstance(size, int) else -1 for size in value.shape]
    if len(value.name) > _LONGEST_NAME or len(shape) > _MOST_DIMENSIONS:
        raise TooLarge(
            f"{kind} {value.name[:40]!r} has a name of {len(value.name):,} letters and {len(shape)} dimensions; "
            f"{_LONGEST_NAME} and {_MOST_DIMENSIONS} are allowed.",
            "Export the model with another signature.",
        )
    return {"name": value.name, "datatype": datatype, "shape": shape}


def _first_that_runs(
    session: onnxruntime.InferenceSession, inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]
) -> tuple[Feeds, list[NDArray[Any]]]:
    """One sample that the model answers, and the answer."""
    first: Exception | None = None
    for feeds in _samples(inputs, shapes):
        try:
            return feeds, _run(session, feeds)
        except BadModel as error:
            first = first or error
            if error.reason.startswith(_MEMORY):
                raise
    raise first if first is not None else BadModel("The model can't be tried.")


def _hinted(inputs: Sequence[Mapping[str, Any]], hints: Sequence[Sequence[int]]) -> dict[str, Sequence[int]]:
    """Input -> the first hint that fits what its shape fixes, as one sample."""
    found: dict[str, Sequence[int]] = {}
    for entry in inputs:
        own = entry["shape"][1:]
        for hint in reversed(hints):
            if len(hint) == len(own) and all(a in (-1, b) for a, b in zip(own, hint, strict=True)):
                found[entry["name"]] = [max(1, entry["shape"][0]), *hint]
    return found


def _samples(inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> Iterator[Feeds]:
    free = any(-1 in entry["shape"][1:] and entry["name"] not in shapes for entry in inputs)
    for size in _FREE_SIZES if free else _FREE_SIZES[:1]:
        yield {entry["name"]: _sample(entry, shapes.get(entry["name"]), size, 1) for entry in inputs}


def _sample(entry: Mapping[str, Any], shape: Sequence[int] | None, free: int, batch: int) -> NDArray[Any]:
    """Values that any model of that type takes: numbers in [0, 1), ids 0 and 1, short texts."""
    declared = entry["shape"]
    if shape is None:
        shape = [size if size >= 0 else (batch if axis == 0 else free) for axis, size in enumerate(declared)]
    random = np.random.default_rng(_SEED)
    if entry["datatype"] == "BYTES":
        return np.full(tuple(shape), "a", object)
    dtype = dtype_of(entry["datatype"])
    values = random.random(tuple(shape)) if dtype.kind == "f" else random.integers(0, 2, tuple(shape))
    sample: NDArray[Any] = values.astype(dtype)
    return sample


def _run(session: onnxruntime.InferenceSession, feeds: Feeds) -> list[NDArray[Any]]:
    try:
        results: list[NDArray[Any]] = session.run(None, feeds)
    except Exception as error:  # as above
        shown = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise _refusal(f"The model doesn't answer a sample of {shown[:300]}", error) from error
    return results


def _refusal(what: str, error: Exception) -> ShoalError:
    text = " ".join(str(error).split())[:400]
    if isinstance(error, MemoryError) or any(mark in text for mark in _OUT_OF_MEMORY):
        return TRIAL.too_much_memory(_allowed_megabytes)
    return BadModel(f"{what}: {text}.", "Name the shape of one sample (`sample` in model.yaml), or export it again.")


def _findings(session: onnxruntime.InferenceSession, feeds: Feeds, results: Sequence[NDArray[Any]]) -> list[str]:
    """What isn't wrong, but ought to be known."""
    found = []
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in results):
        found.append("An answer to a made-up sample isn't a finite number.")
    again = _run(session, feeds)
    if any(not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(results, again, strict=True)):
        found.append("The same sample is answered differently twice: the model draws random numbers.")
    return found


def _answers(result: NDArray[Any]) -> str:
    """What an output's numbers look like: `probabilities` (rows sum to 1), `unit` (within 0..1), or `any`."""
    if result.dtype.kind != "f" or not result.size or result.ndim < 1:
        return "any"
    if not (np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1 + 1e-6):
        return "any"
    while result.ndim > 2 and result.shape[-1] == 1:  # [N, C, 1, 1] of a network that ends in a convolution
        result = result[..., 0]
    sums = result.sum(axis=-1, dtype=np.float64)
    return "probabilities" if result.shape[-1] > 1 and np.allclose(sums, 1, atol=1e-3) else "unit"


def _batch(
    session: onnxruntime.InferenceSession,
    inputs: Sequence[Mapping[str, Any]],
    feeds: Feeds,
    results: Sequence[NDArray[Any]],
) -> int | None:
    """How many samples a call holds: None is any number, as two in one call show."""
    sizes = {entry["shape"][0] if entry["shape"] else 0 for entry in inputs}
    if sizes != {-1}:
        return max(sizes)
    twice = {name: np.concatenate([array, array]) for name, array in feeds.items()}
    try:
        both = _run(session, twice)
    except BadModel:
        return 1
    pairs = zip(results, both, strict=True)
    return None if all(one.ndim and two.shape[0] == 2 * one.shape[0] for one, two in pairs) else 1


_allowed_megabytes = 0


def main() -> None:
    """Try the model that the first argument names."""
    global _allowed_megabytes
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(**{**request["limits"], "ir_versions": tuple(request["limits"]["ir_versions"])})
    data = Path(sys.argv[1]).read_bytes()
    _allowed_megabytes = limit_process(limits, len(data))
    answer: dict[str, Any]
    try:
        answer = {"verified": try_model(data, request["shapes"], limits, request["hints"])}
    except ShoalError as error:
        answer = {"error": type(error).__name__, "reason": error.reason, "fix": error.fix}
    except MemoryError:
        refusal = TRIAL.too_much_memory(_allowed_megabytes)
        answer = {"error": type(refusal).__name__, "reason": refusal.reason, "fix": refusal.fix}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
