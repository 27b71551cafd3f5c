"""Foreign models: what is told of good ones, and every hostile one refused by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.backend.test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.errors import BadModel, ShoalError, TooLarge
from shoal_core.importing.checking import check_structure
from shoal_core.importing.limits import MB, Limits
from shoal_core.importing.verifying import verify_model
from tests.unit.importing import hostile

LIGHT = Path(onnx.backend.test.__file__).parent / "data/light"
# Tests need no minutes to see that a loop doesn't end, nor a gigabyte to see that a tensor doesn't fit.
SMALL = Limits(cpu_seconds=1, wall_seconds=60, memory_bytes=512 * MB)


def refused(model: onnx.ModelProto | bytes, limits: Limits = SMALL, inside: bool = False) -> ShoalError:
    """The refusal; `inside` asks for what the structure alone tells, without a process, which takes a second."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises((BadModel, TooLarge)) as caught:
        check_structure(data, limits) if inside else verify_model(data, limits=limits)
    assert caught.value.fix
    return caught.value


def test_a_good_model_is_described():
    found = verify_model(hostile.good().SerializeToString(), limits=SMALL)
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in found.inputs] == [("x", "FP32", (-1, 4))]
    assert found.outputs[0].answers == "probabilities"
    assert found.operators == {"MatMul": 1, "Softmax": 1}
    assert (found.parameters, found.batch, found.opsets, found.warnings) == (12, None, {"ai.onnx": 17}, ())


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("make", [hostile.external, hostile.external_in_a_constant])
def test_external_data_is_never_read(make, location):
    error = refused(make(location), inside=True)
    assert repr(location) in error.reason
    assert "outside of the file" in error.reason


def test_a_symlink_beside_the_model_is_never_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "'weights.bin'" in refused(hostile.symlink(tmp_path)).reason


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (hostile.custom_domain, "Operator 'Run' .* of domain 'evil.corp'"),
        (hostile.microsoft_domain, "Operator 'Gelu' .* of domain 'com.microsoft'"),
        (hostile.three_gigabytes, r"Initialiser 'w' declares 3,221,225,472 bytes \(805306368\)"),
        (hostile.three_gigabytes_of_input, "Tensor 'x' declares 3,221,225,472 bytes"),
        (hostile.too_few_bytes, "Initialiser 'w' declares 48 bytes, and the file holds 40"),
        (hostile.sparse_bomb, "Sparse initialiser 'w' declares 4,294,967,296 bytes"),
        (lambda: hostile.nested(12), "nested deeper than 8 levels"),
        (lambda: hostile.nested_bytes(10_000), "can't be read as ONNX"),
        (hostile.own_function, r"functions of its own \('F'\)"),
        (hostile.wrong_graph, "ONNX's checker refuses the model: .*nothing"),
        (hostile.old_opset, "operator set ai.onnx 6; 7 to 22 are supported"),
        (hostile.new_opset, "operator set ai.onnx 24; 7 to 22 are supported"),
        (hostile.new_ir, "IR version 13; 3 to 10 are supported"),
        (hostile.two_formats, "in ONNX Runtime's own format"),
    ],
)
def test_a_hostile_structure_is_refused_by_name(make, named):
    assert re.search(named, refused(make(), inside=True).reason)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: hostile.external("../../etc/passwd"), "outside of the file"),
        (hostile.constant_bomb, "needs more than 512 MB of memory"),
        (hostile.run_time_bomb, "needs more than 512 MB of memory"),
        (hostile.endless_loop, "takes more than 1 s of CPU time"),
        (hostile.long_name, "Input 'x{40}' has a name of 100,000 letters"),
        (hostile.zip_map, r"Output 'y' is a seq\(map\(int64,tensor\(float\)\)\), not a tensor"),
    ],
)
def test_a_hostile_run_is_ended_and_refused_by_name(make, named):
    assert re.search(named, refused(make()).reason)


def test_limits_of_size_and_nodes():
    assert "3 nodes" in refused(hostile.many_nodes(5), replace(SMALL, nodes=3), inside=True).reason
    assert "are allowed" in refused(hostile.good(), replace(SMALL, model_bytes=20)).reason
    assert "empty" in refused(b"").reason


def test_wall_clock_ends_what_uses_no_processor():
    assert "within 1 s" in refused(hostile.endless_loop(), replace(SMALL, wall_seconds=1, cpu_seconds=60)).reason


def test_random_answers_are_told():
    found = verify_model(hostile.random_numbers().SerializeToString(), limits=SMALL)
    assert any("random" in warning for warning in found.warnings)


def test_the_trial_has_no_credentials_and_writes_no_file(tmp_path, monkeypatch):
    """What the process sees and may do, asked of one with the same limits."""
    program = (
        "from pathlib import Path\n"
        "from shoal_core.importing import bounded\n"
        "from shoal_core.importing.limits import Limits\n"
        "bounded.limit_process(Limits(), 0)\n"
        f"Path({str(tmp_path / 'written')!r}).write_bytes(b'1')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").stat().st_size
    seen: dict[str, str] = {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (seen.update(k["env"]), run(*a, **k))[1])
    verify_model(hostile.good().SerializeToString(), limits=SMALL)
    assert "PATH" in seen
    assert not [name for name in seen if name.startswith(("AWS", "SHOAL"))]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in seen.values()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_truncated_file_is_refused_or_whole(data):
    whole = hostile.good().SerializeToString()
    cut = data.draw(st.integers(1, len(whole) - 1))
    assert refused(whole[:cut], inside=True).reason


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_refused_with_a_reason(junk):
    assert refused(junk, inside=True).reason
