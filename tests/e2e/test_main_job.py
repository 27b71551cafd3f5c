"""The main job by hand, with nothing of ours in the loop: boto3 puts, plain HTTP predicts."""

from __future__ import annotations

import base64
import csv
import io
import json

import pytest

from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import DIGITS, PENGUINS
from tests.support.aws import ROOT

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))


def test_digits_from_upload_to_predictions(digits: LocalCloud) -> None:
    (run,) = digits.runs("digits")
    assert run["metrics"]["accuracy"] >= 0.97
    assert run["settings"]["workers"] >= 2
    assert run["progress"]["round"] > 3
    right = 0
    for image in HELD_OUT:
        answer = digits.http("POST", "/models/digits/predict", image.read_bytes(), "image/png")
        assert answer.status == 200
        right += answer.body["predictions"][0]["label"] == image.name[0]
    assert right >= 0.95 * len(HELD_OUT)


def test_every_stage_tells_its_time_memory_and_cost(digits: LocalCloud) -> None:
    (run,) = digits.runs("digits")
    names = [stage["name"] for stage in run["stages"]]
    assert names == [
        "Plan Shards",
        "Write Shard",
        "Assign Samples",
        "Pack Shard",
        "Commit Dataset",
        "Start Training",
        "Train Shard",
        "Merge Round",
        "Optimize Model",
        "Evaluate Model",
        "Register Model",
    ]
    assert sum(stage["gb_seconds"] for stage in run["stages"]) == pytest.approx(run["gb_seconds"], abs=0.01)
    assert 0 < run["cost_usd"] < 0.05
    assert max(stage["finished_at"] for stage in run["stages"]) <= run["finished_at"]


def test_inferred_settings_are_shown(digits: LocalCloud) -> None:
    (run,) = digits.runs("digits")
    assert {"task", "recipe", "workers", "rounds", "image_size"} <= set(run["inferred"])
    assert run["settings"]["image_size"] == [8, 8]
    assert run["settings"]["recipe"] == "cnn"


def test_the_same_bytes_again_start_nothing(digits: LocalCloud) -> None:
    digits.put("datasets/digits/digits.zip", DIGITS)
    digits.put("datasets/digits/marker.csv", b"")  # a refused upload, to know that the event before it was handled
    digits.wait(lambda run: run["status"] == "failed", "digits")
    assert [run["status"] for run in digits.runs("digits")] == ["failed", "succeeded"]


def test_the_report_tells_what_was_kept(digits: LocalCloud) -> None:
    version = next(run for run in digits.runs("digits") if run["status"] == "succeeded")["version"]
    report = digits.get(f"/datasets/digits/versions/{version}/report")
    assert sum(entry["kept"] for entry in report["files"]) == 1767
    assert report["files"][0]["file"] == "digits.zip"


def test_openapi_and_health_need_no_token(cloud: LocalCloud) -> None:
    assert cloud.http("GET", "/healthz", token="").body["status"] == "ok"
    document = cloud.http("GET", "/openapi.json", token="").body
    assert "/models/{name}/predict" in document["paths"]


def rows(drop: str) -> list[dict[str, str]]:
    table = csv.DictReader(io.StringIO(PENGUINS.decode()))
    return [{name: value for name, value in row.items() if name != drop} for row in table]


def test_a_table_with_missing_values_and_categories_is_classified(cloud: LocalCloud) -> None:
    cloud.put("datasets/penguins/dataset.yaml", b"target: species\n")
    cloud.put("datasets/penguins/penguins.csv", PENGUINS)
    run = cloud.succeeded("penguins")
    assert run["settings"]["task"] == "classification"
    assert run["metrics"]["accuracy"] >= 0.95
    body = json.dumps({"instances": rows("species")[:3]}).encode()
    answer = cloud.http("POST", "/models/penguins/predict", body, "application/json")
    assert [prediction["label"] for prediction in answer.body["predictions"]] == ["Adelie"] * 3


def test_the_same_table_with_a_number_as_target_is_a_regression(cloud: LocalCloud) -> None:
    cloud.put("datasets/weights/dataset.yaml", b"target: body_mass_g\n")
    cloud.put("datasets/weights/penguins.csv", PENGUINS)
    run = cloud.succeeded("weights")
    assert run["settings"]["task"] == "regression"
    assert run["metrics"]["r2"] >= 0.75
    body = json.dumps(rows("body_mass_g")[:2]).encode()
    answer = cloud.http("POST", "/models/weights/predict", body, "application/json")
    assert all(2500 < prediction["value"] < 6500 for prediction in answer.body["predictions"])


def test_training_options_of_dataset_yaml_reach_the_run(cloud: LocalCloud) -> None:
    options = b"training: {optimizer: adamw, loss: huber, schedule: plateau, clip_norm: 1.0, ema: 0.5}\n"
    cloud.put("datasets/options/dataset.yaml", b"target: body_mass_g\n" + options)
    cloud.put("datasets/options/penguins.csv", PENGUINS)
    run = cloud.succeeded("options")
    asked = {"optimizer": "adamw", "loss": "huber", "schedule": "plateau", "clip_norm": 1.0, "ema": 0.5}
    assert asked.items() <= run["settings"]["training"].items()
    assert run["metrics"]["r2"] >= 0.7


def test_the_command_line_pushes_watches_and_predicts(cloud: LocalCloud) -> None:
    cloud.shoal("push", str(ROOT / "examples/penguins/penguins.csv"), "--name", "cli", "--target", "species", "--watch")
    (listed,) = [
        entry for entry in json.loads(cloud.shoal("models", "--json").stdout)["models"] if entry["name"] == "cli"
    ]
    assert listed["production"] == 1
    answer = json.loads(cloud.shoal("predict", "cli", json.dumps(rows("species")[0]), "--json").stdout)
    assert answer["predictions"][0]["label"] == "Adelie"
    assert "test: accuracy" in cloud.shoal("watch", cloud.runs("cli")[0]["run_id"]).stdout
    assert "succeeded" in cloud.shoal("runs").stdout
    lines = cloud.shoal("logs", "train_shard").stdout.splitlines()
    assert any("REPORT RequestId" in line for line in lines)


def test_two_images_as_json(digits: LocalCloud) -> None:
    instances = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in HELD_OUT[:2]]
    answer = digits.http("POST", "/models/digits/predict", json.dumps(instances).encode(), "application/json")
    assert len(answer.body["predictions"]) == 2


def test_doctor_shows_events_that_were_given_up(cloud: LocalCloud) -> None:
    queues = cloud.client("sqs")
    (url,) = queues.list_queues(QueueNamePrefix="shoal-failed-events")["QueueUrls"]

    def look() -> dict[str, str]:
        checks = json.loads(cloud.shoal("doctor", "--json", check=False).stdout)["checks"]
        return next(check for check in checks if check["name"] == "queue shoal-failed-events")

    assert look()["level"] == "ok"
    queues.send_message(QueueUrl=url, MessageBody="{}")
    assert look()["level"] == "warning"
    assert "upload again" in look()["fix"]
    queues.purge_queue(QueueUrl=url)
    assert look()["level"] == "ok"
