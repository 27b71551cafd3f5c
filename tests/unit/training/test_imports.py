"""Workers start cold in every round: what they import is kept small, and the onnx layer is not theirs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["rounds", "merging", "evaluating", "optimizing", "metrics", "settings", "callbacks"]
)
def test_only_starting_and_finishing_import_onnx(module):
    code = f"import sys, shoal_core.training.{module}; print(*sorted({{'onnx', 'PIL', 'boto3'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
