"""The commands import and convert."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shoal.cli import cli
from shoal.cli.importing import described, import_model
from shoal.convert import environments
from shoal.convert.converting import run_program
from shoal.convert.families import TREES
from shoal.errors import BadRequest, ConversionFailed
from tests.unit.importing import models
from tests.unit.sdk.fake_api import FakeApi


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(models.linear_classifier())
    return path


def run(*arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(cli, arguments)
    return answer.exit_code, answer.output


def test_import_tells_what_came_of_it(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    status, text = run("import", str(model))
    assert status == 0
    assert "model net, version 1: production, first" in text
    assert "input   x FP32 [-1, 4]" in text
    assert "chosen  task: regression" in text
    assert "warning It draws random numbers." in text
    assert "/v2/models/net/infer" in text


def test_model_tells_where_a_version_comes_from(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    run("import", str(model))
    status, text = run("model", "net")
    assert status == 0, text
    assert "Version 1: imported from models/net/x/net.onnx" in text
    assert "8 parameters, operator sets ai.onnx 17, by pytorch" in text
    assert "converted from PyTorch 2.13 by torch.onnx: as the converter told, largest difference 3e-08" in text
    assert "refused 2026: It was hostile." in text


def test_options_become_a_description(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    status, text = run(
        "import", str(model), "--image", "224x192", "--mean", "0.1,0.2,0.3", "--range", "0,255", "--json"
    )
    assert status == 0, text
    (folder,) = {run["source"][0]["key"].rpartition("/")[0] for run in api.runs}
    body = api.s3.get_object(Bucket=api.bucket, Key=f"{folder}/model.yaml")["Body"].read().decode()
    assert "size: 224x192" in body
    assert "range:\n  - 0.0\n  - 255.0" in body


def test_a_backbone_is_described_by_options(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    options = ("--backbone", "backbone", "--image", "8", "--features", "k", "--pooling", "flatten")
    status, text = run("import", str(model), *options)
    assert status == 0, text
    assert "train   shoal train DATASET --recipe transfer --backbone backbone" in text
    (folder,) = {run["source"][0]["key"].rpartition("/")[0] for run in api.runs}
    assert folder.startswith("models/backbone/")
    body = api.s3.get_object(Bucket=api.bucket, Key=f"{folder}/model.yaml")["Body"].read().decode()
    assert "backbone:\n  features: k\n  pooling: flatten\n" in body
    assert described_backbone("--backbone", "net") is True
    status, text = run("model", "backbone")
    assert "a backbone: 1,280 features from 'vector'; training.fine_tune: N means" in text
    assert "410,880" in text and "320x7x7" in text


def described_backbone(*options: str) -> object:
    """What a command's options say of the backbone."""
    found = import_model.make_context("import", [*options, "net.onnx"]).params
    return described(found)["backbone"]


def test_a_refused_import_exits_with_1(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    status, text = run("import", str(model), "--name", "bad")
    assert status == 1
    assert "It is bad." in text
    status, text = run("import", str(model), "--name", "bad", "--json")
    assert status == 1
    assert json.loads(text)["failure"]["fix"] == "Mend it."


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--mean", "0.1,x", "--image", "8"), "isn't numbers"),
        (("--color", "rgb"), "no size is given"),
        (("--features", "k"), "about a backbone, and none is named"),
        (("--backbone", "net", "--name", "other"), "are two names"),
    ],
)
def test_wrong_options_exit_with_2(
    api: FakeApi, cloud: dict[str, str], model: Path, options: tuple[str, ...], named: str
) -> None:
    status, text = run("import", str(model), *options)
    assert status == 2
    assert named in text


def test_convert_refuses_what_it_doesnt_know(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"")
    (tmp_path / "net.prototxt").write_bytes(b"")
    (tmp_path / "net.txt").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for arguments, named in (
        ((str(tmp_path / "model.zip"),), "Nothing here converts 'model.zip'"),
        ((str(tmp_path / "none.h5"),), "doesn't exist"),
        ((str(tmp_path / "folder"),), "without saved_model.pb"),
        ((str(tmp_path / "net.prototxt"),), "needs its .caffemodel"),
        ((str(tmp_path / "net.txt"), str(tmp_path / "model.zip")), "has no second file"),
        ((str(tmp_path / "net.txt"), "--input", "1xa"), "Write a shape"),
    ):
        status, text = run("convert", *arguments)
        assert status == 2, text
        assert named in text


def test_another_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PYTHONS", ((3, 1),))
    with pytest.raises(BadRequest, match=r"no build for Python 3\."):
        environments.interpreter(TREES, print)


def test_a_program_compares_and_refuses_what_differs(model: Path, tmp_path: Path) -> None:
    """The comparison that every converter ends with, on answers recorded here."""
    import numpy as np

    inputs = np.array([[5, 0], [0, 3]], np.float32)
    scores = np.exp(inputs @ np.array([[1, 0, -1], [0, 1, -1]]) + [0, 0, 0.5])
    right = scores / scores.sum(axis=1, keepdims=True)
    request = {"source": str(model), "output": str(tmp_path / "out.onnx"), "samples": str(tmp_path / "s.npz")}
    request |= {"count": 1, "version": "1.0"}  # type: ignore[dict-item]
    np.savez(tmp_path / "s.npz", **{"in.0.X": inputs, "out.0.0": np.array([0, 1]), "out.0.1": right})
    told = run_program(Path(sys.executable), "checking", {"weights": None, **request}, isolated=False)
    assert told["samples"] == 2
    assert told["max_difference"] < 1e-6
    assert told["same_label"] == 1
    assert (tmp_path / "out.onnx").exists()
    (tmp_path / "out.onnx").unlink()
    np.savez(tmp_path / "s.npz", **{"in.0.X": inputs, "out.0.0": np.array([0, 1]), "out.0.1": right[:, ::-1]})
    with pytest.raises(ConversionFailed, match=r"answers differently: largest difference .* same label 50\.0%"):
        run_program(Path(sys.executable), "checking", {"weights": None, **request}, isolated=False)
    assert not (tmp_path / "out.onnx").exists()
