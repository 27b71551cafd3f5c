"""Models that were made elsewhere, through the real cloud: by S3 alone and by commands; good ones and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tritonclient.http as triton

from tests.e2e.cloud import LocalCloud
from tests.support.aws import ROOT
from tests.unit.importing import hostile, models

SQUEEZENET = models.LIGHT / "light_squeezenet.onnx"


def test_a_light_model_by_s3_alone_answers_tensors_as_its_reference(cloud: LocalCloud) -> None:
    cloud.put("models/squeezenet/model.onnx", SQUEEZENET.read_bytes())
    run = cloud.wait(lambda run: run["model"] == {"name": "squeezenet", "version": 1}, "")
    assert run["status"] == "succeeded"
    client = triton.InferenceServerClient(cloud.status["api"].removeprefix("http://"))
    tensor = triton.InferInput("data_0", list(models.SHAPE), "FP32").set_data_from_numpy(models.light_input())
    headers = {"Authorization": f"Bearer {cloud.status['token']}"}
    answer = client.infer("squeezenet", [tensor], headers=headers).as_numpy("softmaxout_1")
    np.testing.assert_allclose(answer, models.light_output(SQUEEZENET), rtol=1e-3)
    refused = cloud.http("POST", "/models/squeezenet/predict", b"x", "image/png")
    assert refused.status == 400
    assert "model.yaml" in refused.body["fix"]


def test_a_described_model_by_the_command_line_answers_pictures(cloud: LocalCloud, tmp_path: Path) -> None:
    model, labels = tmp_path / "colors.onnx", tmp_path / "labels.txt"
    model.write_bytes(models.color_means())
    labels.write_text("red\ngreen\nblue\n")
    options = ("--image", "8", "--labels", str(labels))
    imported = json.loads(cloud.shoal("import", str(model), *options, "--json").stdout)
    assert (imported["status"], imported["model"]) == ("succeeded", {"name": "colors", "version": 1})
    picture = next((ROOT / "examples/digits/held-out").glob("*.png"))
    answer = json.loads(cloud.shoal("predict", "colors", str(picture), "--json").stdout)
    (prediction,) = answer["predictions"]
    assert prediction["label"] in ("red", "green", "blue")
    again = cloud.shoal("import", str(model), *options, "--production").stdout
    assert "version 1: production, it is the first version" in again
    (entry,) = [entry for entry in cloud.get("/audit")["entries"] if entry["subject"] == "colors/1"]
    assert entry["action"] == "model.imported"


def test_a_hostile_model_is_refused_by_name(cloud: LocalCloud, tmp_path: Path) -> None:
    path = tmp_path / "hostile.onnx"
    path.write_bytes(hostile.external("../../etc/passwd").SerializeToString())
    answer = cloud.shoal("import", str(path), check=False)
    assert answer.returncode == 1
    assert "lies outside of the file (at '../../etc/passwd'); that is never read." in answer.stderr
    shown = cloud.shoal("model", "hostile", check=False)
    assert shown.returncode == 2
    assert "its last import was refused" in shown.stderr
    assert "Fix:" in shown.stderr


def test_what_needs_too_much_memory_is_ended_in_its_own_process(cloud: LocalCloud, tmp_path: Path) -> None:
    path = tmp_path / "bomb.onnx"
    path.write_bytes(hostile.run_time_bomb().SerializeToString())
    answer = cloud.shoal("import", str(path), check=False)
    assert answer.returncode == 1
    assert "MB of memory to load and answer one sample" in answer.stderr
