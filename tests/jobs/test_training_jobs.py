"""Runs that train as SageMaker jobs in the embedded cloud, from an upload to a served model. PyTorch really runs."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.cloud import LocalCloud, local_cloud
from tests.support.aws import ROOT

pytestmark = pytest.mark.torch

DIGITS = ROOT / "examples/digits/digits.zip"
PENGUINS = (ROOT / "examples/penguins/penguins.csv").read_bytes()
PATIENCE = 180.0
JOB = b"compute: {service: sagemaker, instance: ml.m5.large}\nrounds: 15\ntraining: {epochs: 15, patience: 0}\n"
SCRIPT = '''
"""A logistic regression by the hand of a user: SageMaker's channels and variables, and nothing of Shoal."""
import argparse, json, os, pathlib
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

arguments = argparse.ArgumentParser()
for name in ("epochs", "classes", "seed", "batch_size"):
    arguments.add_argument(f"--{name}", type=int)
for name in ("learning_rate",):
    arguments.add_argument(f"--{name}", type=float)
for name in ("optimizer", "task"):
    arguments.add_argument(f"--{name}")
given = arguments.parse_args()
assert json.loads(os.environ["SM_HPS"])["epochs"] == given.epochs == int(os.environ["SM_HP_EPOCHS"])
assert json.loads(os.environ["SM_CHANNELS"]) == ["manifest", "test", "train", "validation"]
manifest = json.loads((pathlib.Path(os.environ["SM_CHANNEL_MANIFEST"]) / "manifest.json").read_text())
shards = [load_file(path) for path in sorted(pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).glob("*.safetensors"))]
x, y = (np.concatenate([shard[name] for shard in shards]) for name in ("numbers", "target"))
mean, std = np.nanmean(x, 0), np.nanstd(x, 0)
x = np.nan_to_num((x - mean) / std)
w, b = np.zeros((x.shape[1], given.classes), np.float32), np.zeros(given.classes, np.float32)
for step in range(given.epochs * 20):
    scores = np.exp(x @ w + b - (x @ w + b).max(1, keepdims=True))
    error = scores / scores.sum(1, keepdims=True) - np.eye(given.classes)[y]
    w, b = (w - 0.5 * x.T @ error / len(x)).astype(np.float32), (b - 0.5 * error.mean(0)).astype(np.float32)
print("trained on", len(x), "penguins")
pathlib.Path(os.environ["SM_CHECKPOINT_DIR"], "weights.npy").write_bytes(w.tobytes())
constants = {"mean": mean, "std": std, "w": w, "b": b, "zero": np.zeros(1)}
nodes = [("Sub", ["numbers", "mean"], "centred"), ("Div", ["centred", "std"], "scaled"), ("IsNaN", ["scaled"], "nan"),
         ("Where", ["nan", "zero", "scaled"], "filled"), ("Gemm", ["filled", "w", "b"], "logits"),
         ("Softmax", ["logits"], "probabilities")]
graph = helper.make_graph(
    [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes], "net",
    [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["N", x.shape[1]])],
    [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", given.classes])],
    [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnx.save(model, pathlib.Path(os.environ["SM_MODEL_DIR"], "model.onnx"))
'''


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with local_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def few_digits() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(DIGITS) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(name for name in source.namelist() if name.endswith(".png"))[::4]:
            target.writestr(zipfile.ZipInfo(name), source.read(name))
    return buffer.getvalue()


def programs(cloud: LocalCloud) -> list[psutil.Process]:
    """The processes of training jobs."""
    found = []
    for process in psutil.Process(cloud.status["pid"]).children(recursive=True):
        try:
            if "TRAINING_JOB_NAME" in process.environ():
                found.append(process)
        except psutil.Error:
            continue  # it ended while it was looked at
    return found


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it took too long")


def rounds(cloud: LocalCloud, run_id: str) -> list[str]:
    bucket = cloud.status["bucket"].replace("uploads", "artifacts")
    listed = cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"runs/{run_id}/rounds/")
    return [entry["Key"] for entry in listed.get("Contents", [])]


def run_of(cloud: LocalCloud, dataset: str) -> dict[str, Any]:
    return dict(cloud.get(f"/runs/{cloud.runs(dataset)[0]['run_id']}"))


def test_an_upload_becomes_a_served_model_by_a_job_on_spare_capacity(cloud: LocalCloud, few_digits: bytes) -> None:
    """The program is killed after its first round, as a spot instance is taken away: it goes on where it was."""
    cloud.put("datasets/digits/dataset.yaml", JOB.replace(b"large", b"large, spot: true") + b"recipe: linear\n")
    cloud.put("datasets/digits/digits.zip", few_digits)
    until(lambda: cloud.runs("digits"))
    run_id = cloud.runs("digits")[0]["run_id"]
    until(lambda: rounds(cloud, run_id))
    (program,) = programs(cloud)
    program.kill()
    cloud.succeeded("digits")

    run = run_of(cloud, "digits")
    assert [entry["round"] for entry in run["rounds"]] == list(range(1, 16))
    assert run["metrics"]["accuracy"] > 0.8
    assert run["settings"]["compute"]["instance"] == "ml.m5.large"
    (job,) = run["jobs"]
    assert (job["status"], job["spot"], job["count"]) == ("Completed", True, 1)
    assert job["cost_usd"] == pytest.approx(0.115 * job["seconds"] / 3600)
    assert run["cost_usd"] > job["cost_usd"]
    described = cloud.client("sagemaker").describe_training_job(TrainingJobName=job["name"])
    assert described["TrainingJobStatus"] == "Completed"
    assert described["ModelArtifacts"]["S3ModelArtifacts"].endswith(f"{job['name']}/output/model.tar.gz")

    with zipfile.ZipFile(io.BytesIO(few_digits)) as archive:
        name = archive.namelist()[0]
        answer = cloud.http("POST", "/models/digits/predict", archive.read(name), "image/png")
    assert (answer.status, answer.body["predictions"][0]["label"]) == (200, name.split("/")[-2])


def test_a_script_of_ones_own_leaves_a_model_that_is_verified_and_served(cloud: LocalCloud, tmp_path: Path) -> None:
    cloud.put("datasets/penguins/dataset.yaml", b"target: species\n")
    cloud.put("datasets/penguins/penguins.csv", PENGUINS)
    cloud.succeeded("penguins")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    asked = ("train", "penguins", "--script", str(script), "--set", "training.epochs=5")
    run = json.loads(cloud.shoal(*asked, "--set", "compute.instance=ml.m5.large", "--json").stdout)
    assert run["status"] == "succeeded", run["failure"]
    assert run["metrics"]["accuracy"] > 0.9
    assert run["settings"]["compute"]["script_sha256"]
    assert "trained on" in cloud.shoal("logs", "training-jobs").stdout
    bucket = cloud.status["bucket"].replace("uploads", "artifacts")
    kept = cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"runs/{run['run_id']}/job/checkpoints/")
    assert [entry["Key"].rpartition("/")[2] for entry in kept["Contents"]] == ["weights.npy"]

    script.write_text("import sys\nsys.exit('no such luck')\n")
    answer = cloud.shoal("train", "penguins", "--script", str(script), "--json", check=False)
    failure = json.loads(answer.stdout)["failure"]
    assert (failure["stage"], failure["error"]) == ("Follow Job", "JobFailed")
    assert "exit code 1" in failure["reason"]


@pytest.mark.parametrize(
    ("instance", "error", "reason"),
    [
        ("ml.m5.nothing", "sagemaker.sagemakerException", "InstanceType is 'ml.m5.nothing'"),
        ("ml.p4d.24xlarge", "sagemaker.sagemakerException", "not authorized to perform: sagemaker:CreateTrainingJob"),
    ],
)
def test_an_instance_that_isnt_one_or_isnt_allowed_is_refused(
    cloud: LocalCloud, instance: str, error: str, reason: str
) -> None:
    cloud.put("datasets/refused/dataset.yaml", f"compute: {{service: sagemaker, instance: {instance}}}".encode())
    cloud.put("datasets/refused/penguins.csv", PENGUINS)
    failure = cloud.wait(
        lambda run: run["status"] == "failed" and run["settings"]["compute"]["instance"] == instance, "refused"
    )["failure"]
    assert (failure["stage"], failure["error"]) == ("Start Training", error)
    assert reason in failure["reason"]
    assert "compute" in failure["fix"] or "stack" in failure["fix"]


def test_a_job_that_the_cloud_lost_is_made_again(cloud: LocalCloud) -> None:
    cloud.put("datasets/lost/dataset.yaml", JOB)
    cloud.put("datasets/lost/penguins.csv", PENGUINS)
    until(lambda: cloud.runs("lost"))
    run_id = cloud.runs("lost")[0]["run_id"]
    until(lambda: len(rounds(cloud, run_id)) > 2)
    (program,) = programs(cloud)
    cloud.kill()
    until(lambda: not program.is_running())  # it doesn't outlive the cloud
    cloud.up()
    cloud.succeeded("lost")
    first, second = run_of(cloud, "lost")["jobs"]
    assert first["detail"].startswith("InternalServerError")
    assert (first["name"][-2:], second["name"][-2:], second["status"]) == ("-1", "-2", "Completed")


def test_a_quote_tells_both_and_auto_follows_it(cloud: LocalCloud) -> None:
    quote = json.loads(cloud.shoal("train", "penguins", "--compute", "auto", "--quote", "--json").stdout)
    assert quote["service"] == "lambda"
    assert [entry["service"] for entry in quote["quotes"]] == ["lambda", "sagemaker"]
    assert all(entry["minutes"] > 0 and entry["dollars"] > 0 for entry in quote["quotes"])
    assert "assumed" in quote["quotes"][1]["how"]
