"""A network of one's own for a run: what is uploaded where, and what is refused before anything is sent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import shoal
from shoal._networks import MAX_NETWORK_BYTES, network_bytes
from shoal._torch_networks import TRAINABLE
from shoal.cli import cli
from shoal.errors import BadRequest, ConversionFailed
from shoal_core.training.networks import config, reading
from tests.unit.sdk.fake_api import FakeApi


@pytest.fixture
def digits(cloud: dict[str, str], api: FakeApi) -> FakeApi:
    api.latest["digits"] = "v1"
    return api


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"a network")
    return path


def body(api: FakeApi) -> dict[str, Any]:
    found = [entry for method, path, _, entry in api.requests if (method, path) == ("POST", "/datasets/digits/runs")]
    return dict(json.loads(found[-1]))


def stored(api: FakeApi) -> dict[str, str]:
    """Key -> S3 version of what is under networks/."""
    listed = api.s3.list_object_versions(Bucket=api.bucket, Prefix="networks/").get("Versions", [])
    return {f"{entry['Key']}#{place}": entry["VersionId"] for place, entry in enumerate(listed)}


def test_limits_and_names_are_the_clouds() -> None:
    assert MAX_NETWORK_BYTES == config.MAX_NETWORK_BYTES
    assert TRAINABLE == reading.TRAINABLE


def test_a_file_is_uploaded_once_and_named_by_its_sha256(digits: FakeApi, network: Path) -> None:
    sha256 = hashlib.sha256(b"a network").hexdigest()
    shoal.train("digits", network, epochs=5, trainable="head.*", batch_norm="frozen")
    settings = {"network": {"trainable": "head.*", "batch_norm": "frozen"}, "training": {"epochs": 5}}
    assert body(digits) == {"overrides": settings, "network": sha256}
    (key,) = stored(digits)
    assert key == f"networks/{sha256}.onnx#0"
    shoal.train("digits", network=str(network))
    assert body(digits) == {"overrides": {}, "network": sha256}
    assert list(stored(digits)) == [key]


def test_settings_of_a_recipes_network_are_no_network(digits: FakeApi) -> None:
    shoal.train("digits", recipe="mlp", network={"hidden": [5]})
    assert body(digits) == {"overrides": {"recipe": "mlp", "network": {"hidden": [5]}}}
    with pytest.raises(BadRequest, match="no setting 'trainable'"):
        shoal.train("digits", trainable="*")


def test_what_is_no_network_is_refused_before_anything_is_sent(digits: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"1")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2 * 1024**3)
    for given, message in [
        (tmp_path / "net.pt", "isn't an ONNX file.*shoal convert net.pt"),
        (tmp_path / "empty.onnx", r"empty\.onnx is empty"),
        (tmp_path / "none.onnx", "can't be read"),
        (tmp_path / "huge.onnx", r"2,147,483,648 bytes; .* 134,217,728"),
        (5, "A int isn't a network"),
    ]:
        with pytest.raises(BadRequest, match=message):
            shoal.train("digits", given)
    assert not stored(digits) and not digits.requests


class Module:
    """What makes something a PyTorch module here."""

    def named_parameters(self) -> list[object]:
        return []

    def parameters(self) -> list[object]:
        return []


def test_a_module_needs_torch_and_its_exporter(digits: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise BadRequest("PyTorch isn't installed here.", "Do this where the module was made.")

    monkeypatch.setattr("shoal._torch_networks.import_torch", none)
    with pytest.raises(BadRequest, match="PyTorch isn't installed here"):
        shoal.train("digits", Module())
    assert ("GET", "/datasets/digits/inputs") in {(method, path) for method, path, _, _ in digits.requests}
    monkeypatch.setattr("shoal._torch_networks.import_torch", object)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadRequest, match="exporter needs onnxscript"):
        shoal.train("digits", Module())


class KerasModel:
    """What Keras' models offer."""

    error: Exception | None = None

    def export(self, path: str, format: str, verbose: bool) -> None:
        if self.error:
            raise self.error
        Path(path).write_bytes(f"keras as {format}".encode())


KerasModel.__module__ = "keras.src.models"


class OwnModel(KerasModel):
    """A user's subclass."""


def test_a_keras_model_is_exported_by_keras(digits: FakeApi) -> None:
    for model in (KerasModel(), OwnModel()):
        assert network_bytes(shoal.connect().connection, "digits", None, model) == b"keras as onnx"
    model = KerasModel()
    model.error = ImportError("tf2onnx is needed")
    with pytest.raises(BadRequest, match=r"can't export to ONNX here: tf2onnx is needed\."):
        shoal.train("digits", model)
    model.error = ValueError("no such layer")
    with pytest.raises(ConversionFailed, match=r"no such layer.*shoal convert MODEL\.keras"):
        shoal.train("digits", model)


def test_the_command_line_takes_a_file_and_shows_what_it_is_given(digits: FakeApi, network: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, arguments, catch_exceptions=False)

    result = run("train", "digits", "--network", str(network), "--no-watch", "--set", "network.trainable=head.*")
    assert result.exit_code == 0, result.output
    assert body(digits)["overrides"] == {"network": {"trainable": "head.*"}} and body(digits)["network"]
    shown = run("inputs", "digits").stdout
    assert "N, 1, 8, 8" in shown and "answers: 10 logits for each sample (classification)" in shown
    assert json.loads(run("inputs", "digits", "--json", "--version", "v1").stdout)["outputs"] == 10
    assert shoal.network_inputs("digits")["inputs"][0]["name"] == "image"
    refused = run("train", "digits", "--network", "none.onnx")
    assert refused.exit_code == 2 and "can't be read" in refused.stderr
