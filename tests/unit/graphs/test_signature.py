import subprocess
import sys

import pytest
from pydantic import ValidationError

from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature, NumbersInput, Regression
from tests.unit.graphs.networks import IMAGES, REGRESSION, TABLE

NUMBERS = NumbersInput(mean=(0.0,), std=(1.0,), missing=(False,))


@pytest.mark.parametrize("inputs", [{}, {"numbers": NUMBERS, "image": IMAGES.image}], ids=["nothing", "both"])
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


@pytest.mark.parametrize("signature", [IMAGES, TABLE, REGRESSION], ids=["image", "table", "regression"])
def test_json_round_trip(signature):
    assert NetworkSignature.model_validate_json(signature.model_dump_json()) == signature


def test_outputs():
    assert (TABLE.outputs, REGRESSION.outputs) == (3, 1)


def test_importing_it_brings_no_heavy_package():
    heavy = "{'onnx', 'onnxruntime', 'numpy'}"
    program = f"import sys, shoal_core.graphs.signature; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
