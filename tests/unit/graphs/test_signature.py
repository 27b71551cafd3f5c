import subprocess
import sys

import pytest
from pydantic import ValidationError

from shoal_core.graphs.signature import (
    Classification,
    ImageInput,
    NetworkSignature,
    NumbersInput,
    Regression,
    SequenceInput,
)
from tests.unit.graphs.networks import IMAGES, MIXED, REGRESSION, SEQUENCES, TABLE, TEXTS

NUMBERS = NumbersInput(mean=(0.0,), std=(1.0,), missing=(False,))


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"numbers": NUMBERS, "image": IMAGES.image},
        {"tokens": TEXTS.tokens, "sequence": SEQUENCES.sequence},
        {"image": IMAGES.image, "sequence": SEQUENCES.sequence},
    ],
    ids=["nothing", "both", "text and sequence", "image and sequence"],
)
def test_a_network_takes_an_image_or_a_table(inputs):
    with pytest.raises(ValidationError, match="either an image"):
        NetworkSignature(task=Classification(classes=2), **inputs)


def test_statistics_fit_the_columns():
    with pytest.raises(ValidationError, match="per column"):
        NumbersInput(mean=(0.0,), std=(1.0, 1.0), missing=(False,))
    with pytest.raises(ValidationError, match="per channel"):
        ImageInput(shape=(3, 8, 8), mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("values", [{"mean": float("nan")}, {"std": float("inf")}, {"std": -1.0}])
def test_statistics_are_finite(values):
    with pytest.raises(ValidationError):
        Regression(**values)


def test_fills_and_bounds_fit_the_columns():
    values = {"mean": (0.0, 0.0), "std": (1.0, 1.0), "missing": (False, True)}
    with pytest.raises(ValidationError, match="fill and bounds"):
        NumbersInput(**values, fill=(0.0,))
    with pytest.raises(ValidationError, match="low bound"):
        SequenceInput(**values, steps=4, bounds=(None, (2.0, 1.0)))


def test_columns_of_tokens_lie_side_by_side():
    assert (MIXED.tokens.length, MIXED.tokens.offsets) == (11, (0, 8))


@pytest.mark.parametrize(
    "signature",
    [IMAGES, TABLE, REGRESSION, TEXTS, SEQUENCES, MIXED],
    ids=["image", "table", "regression", "text", "sequence", "mixed"],
)
def test_json_round_trip(signature):
    assert NetworkSignature.model_validate_json(signature.model_dump_json()) == signature


def test_outputs():
    assert (TABLE.outputs, REGRESSION.outputs, MIXED.outputs) == (3, 1, 4)


def test_importing_it_brings_no_heavy_package():
    heavy = "{'onnx', 'onnxruntime', 'numpy'}"
    program = f"import sys, shoal_core.graphs.signature; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
