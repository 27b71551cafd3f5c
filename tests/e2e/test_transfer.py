"""Transfer learning through the real cloud: a network that knows digits becomes a backbone, heads are trained on it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.e2e.cloud import LocalCloud
from tests.e2e.shards import artifacts_bucket
from tests.support.aws import ROOT

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
SETTINGS = """
recipe: transfer
backbone: digit-net
workers: 2
rounds: 3
training: {epochs: 40}
"""


@pytest.fixture(scope="module")
def backbone(digits: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> LocalCloud:
    """The cloud with the network of its digits, as training exported it, as a backbone."""
    run = digits.get("/models/digits")["versions"][-1]["run_id"]
    path = tmp_path_factory.mktemp("backbone") / "pretrained.onnx"
    found = digits.client("s3").get_object(Bucket=artifacts_bucket(digits), Key=f"runs/{run}/model.onnx")
    path.write_bytes(found["Body"].read())
    options = ("--backbone", "digit-net", "--image", "8", "--color", "grey", "--range", "0,255")
    told = digits.shoal("import", str(path), *options).stdout
    assert "the last layer (Gemm) in front of output 'probabilities' is cut off" in told
    assert "shoal train DATASET --recipe transfer --backbone digit-net" in told
    assert "a backbone: 128 features" in digits.shoal("model", "digit-net").stdout
    return digits


@pytest.fixture(scope="module")
def parity(few_digits: bytes) -> bytes:
    """A question that the backbone was never asked: is the digit even?"""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(few_digits)) as source, zipfile.ZipFile(buffer, "w") as target:
        for index, name in enumerate(source.namelist()):
            label = "odd" if int(name.split("/")[-2]) % 2 else "even"
            target.writestr(zipfile.ZipInfo(f"{label}/{index}.png"), source.read(name))
    return buffer.getvalue()


def stages(run: dict[str, object]) -> dict[str, int]:
    return {stage["name"]: stage["invocations"] for stage in run["stages"]}  # type: ignore[attr-defined]


def test_from_a_backbone_to_a_served_head_and_to_tuned_blocks(
    backbone: LocalCloud, parity: bytes, tmp_path: Path
) -> None:
    archive, settings = tmp_path / "parity.zip", tmp_path / "dataset.yaml"
    archive.write_bytes(parity)
    settings.write_text(SETTINGS)
    pushed = json.loads(backbone.shoal("push", str(archive), "--config", str(settings), "--json").stdout)
    assert pushed["status"] == "succeeded", pushed["failure"]
    shown = pushed["settings"]
    assert (shown["recipe"], shown["backbone"], shown["image_size"]) == ("transfer", "digit-net@1", [8, 8])
    assert "Nothing is varied" in shown["reasons"]["augment"]
    assert stages(pushed)["Compute Features"] >= 2
    assert pushed["metrics"]["accuracy"] >= 0.85
    lineage = backbone.get("/models/parity")["versions"][0]["lineage"]
    assert lineage["pretrained"]["name"] == "digit-net"
    right = 0
    for path in HELD_OUT:
        answer = backbone.http("POST", "/models/parity/predict", path.read_bytes(), "image/png")
        right += answer.body["predictions"][0]["label"] == ("odd" if int(path.name[0]) % 2 else "even")
    assert right >= 0.8 * len(HELD_OUT)

    head = json.loads(backbone.shoal("train", "parity", "--set", "network.hidden=[16]", "--json").stdout)
    assert head["status"] == "succeeded", head["failure"]
    assert "Compute Features" not in stages(head), "the features were there"

    fields = ("--set", "training.fine_tune=1", "--set", "training.fine_tune_from=2")
    tuned = json.loads(backbone.shoal("train", "parity", *fields, "--json").stdout)
    assert tuned["status"] == "succeeded", tuned["failure"]
    assert "are trained from round 2 on" in tuned["settings"]["reasons"]["backbone"]
    assert stages(tuned)["Compute Features"] >= 2
    refused = backbone.shoal("train", "parity", "--backbone", "digits", check=False)
    assert refused.returncode == 1
    assert "it isn't a backbone" in refused.stderr
