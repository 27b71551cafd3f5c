"""`shoal convert`: a model of another framework to an ONNX file that answers as the original does."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shoal.convert.environments import PROGRAMS, Say, clean_environment, interpreter
from shoal.convert.families import CAFFE, family_of
from shoal.errors import BadRequest, ConversionFailed

SAMPLES = 32
TOLERANCE = 1e-3


def convert(
    source: Path,
    output: Path,
    *,
    weights: Path | None = None,
    inputs: Mapping[str, Sequence[int]] | None = None,
    samples: Path | None = None,
    trust: bool = False,
    tolerance: float = TOLERANCE,
    say: Say = print,
) -> dict[str, Any]:
    """Convert a model, and compare it with the original.

    Args:
        source: Its file, or a SavedModel's folder; of Caffe the .prototxt.
        output: Where the ONNX file goes.
        weights: Of Caffe the .caffemodel.
        inputs: Input -> shape of one sample, batch first, where the original doesn't tell it; of an only input "".
        samples: An .npz file of inputs by name to compare on; made-up numbers when None.
        trust: Whether a file may be loaded that executes code that lies in it.
        tolerance: The largest difference that is fine, relative to the largest answer.
        say: Is told what takes long.

    Returns:
        `from`, `by`, `version`; `samples`, `max_difference`, `same_label` and `agreeing` (shares of the samples).

    Raises:
        BadRequest: The file can't be converted here.
        ConversionFailed: The converter failed, or what it made answers differently.
    """
    family = family_of(source)
    if (weights is not None) != (family is CAFFE):
        what = "needs its .caffemodel" if weights is None else "has no second file"
        raise BadRequest(f"{source.name} {what}.", "Only Caffe has two: shoal convert NET.prototxt WEIGHTS.caffemodel.")
    for path in (weights, samples):
        if path is not None and not path.is_file():
            raise BadRequest(f"{path} doesn't exist.", "Name a file that exists.")
    if trust:
        say(f"Loading {source.name} may execute code that lies in it, as you said is fine (--trust).")
    request = {
        "source": str(source.resolve()),
        "weights": str(weights.resolve()) if weights else None,
        "output": str(output.resolve()),
        "samples": str(samples.resolve()) if samples else None,
        "count": SAMPLES,
        "shapes": {name: list(shape) for name, shape in (inputs or {}).items()},
        "trust": trust,
        "tolerance": tolerance,
    }
    return run_program(interpreter(family, say), family.program, request)


def run_program(python: Path, program: str, request: Mapping[str, Any], *, isolated: bool = True) -> dict[str, Any]:
    """Run one of the programs under `programs/` and take its answer.

    Args:
        python: The interpreter.
        program: The program's name.
        request: What it is asked.
        isolated: Whether it is another interpreter than the user's, which the user's settings must not reach.

    Raises:
        BadRequest: The output's folder doesn't exist.
        ConversionFailed: What the program says.
    """
    output = Path(str(request["output"]))
    if not output.parent.is_dir():
        raise BadRequest(f"{output.parent} doesn't exist.", "Name an output in a folder that exists.")
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request))
        # -E and -s: neither the user's settings of Python nor packages of the user's own reach the converter.
        options = ["-E", "-s"] if isolated else []
        command = [str(python), *options, str(PROGRAMS / f"{program}.py"), str(asked), str(answer)]
        environment = clean_environment() if isolated else None
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if not answer.is_file():
            last = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
            raise ConversionFailed(f"The converter ended without an answer: {last[0][:300]}", "Name another file.")
        found = json.loads(answer.read_text())
    if "converted" not in found:
        raise ConversionFailed(found["reason"], found["fix"])
    return dict(found["converted"])
