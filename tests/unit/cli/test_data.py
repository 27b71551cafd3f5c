import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from shoal.cli import cli
from shoal.cli.data import push
from shoal_core.graphs.recipes import recipe_names


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("shoal.client.POLL_SECONDS", 0.01)


@pytest.fixture
def archive(cloud, tmp_path):
    path = tmp_path / "digits.zip"
    path.write_bytes(b"1")
    return str(path)


def shoal(*arguments, **options):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)


FAILURE = {"stage": "Plan Shards", "error": "BadArchive", "reason": "digits.zip is empty.", "fix": "Add files."}


def test_push_shows_the_run_line_by_line(archive, api):
    progress = {
        "shards_done": 2,
        "shards_total": 2,
        "round": 1,
        "rounds": 3,
        "loss": 0.5,
        "validation": {"accuracy": 0.9},
    }
    api.script = [{"stage": "Merge Round", "progress": progress}, *api.script]
    result = shoal("push", archive)
    assert result.exit_code == 0
    assert "shards 2/2  round 1/3  loss 0.5000  validation accuracy 0.9000  cost $0.00012" in result.stdout
    assert "test: accuracy 0.9812, precision 0.9800, recall 0.9790, f1 0.9795" in result.stdout
    assert "inferred: task classification" in result.stdout
    assert "model digits, version 1: shoal predict digits FILE" in result.stdout
    assert result.stdout.count("Merge Round") == 1


def test_push_again_says_unchanged(archive, api):
    run_id = json.loads(shoal("push", archive, "--no-watch", "--json").stdout)["run_id"]
    assert f"unchanged: run {run_id}" in shoal("push", archive).stdout
    assert json.loads(shoal("push", archive, "--json").stdout)["unchanged"] is True


def test_push_of_a_failing_set_is_one(archive, api):
    api.script = [{"status": "failed", "failure": FAILURE}]
    result = shoal("push", archive)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].endswith("failed at Plan Shards: digits.zip is empty.")
    assert result.stderr.splitlines()[1] == "Fix: Add files."
    document = json.loads(shoal("push", archive, "--json").stdout)
    assert document["failure"] == FAILURE


def test_every_recipe_can_be_pushed():
    (option,) = [parameter for parameter in push.params if parameter.name == "recipe"]
    assert sorted(option.type.choices) == list(recipe_names())


def test_settings_become_dataset_yaml(archive, api):
    settings = ("--target", "b", "--workers", "3", "--recipe", "mlp", "--task", "regression", "--rounds", "5")
    assert shoal("push", archive, "--name", "other", *settings, "--no-watch").exit_code == 0
    stored = api.s3.get_object(Bucket=api.bucket, Key="datasets/other/dataset.yaml")["Body"].read()
    assert stored == b"recipe: mlp\nrounds: 5\ntarget: b\ntask: regression\nworkers: 3\n"


def test_every_field_can_be_set(archive, api):
    settings = ("--set", "split.test=0.2", "--set", "near_duplicates=drop", "--files", "*.png", "--task", "multilabel")
    assert shoal("push", archive, "--name", "set", *settings, "--no-watch").exit_code == 0
    stored = api.s3.get_object(Bucket=api.bucket, Key="datasets/set/dataset.yaml")["Body"].read()
    assert stored == b"files:\n- '*.png'\nnear_duplicates: drop\nsplit:\n  test: 0.2\ntask: multilabel\n"
    assert shoal("push", archive, "--set", "colour=red", "--no-watch").exit_code == 2


def test_a_source_is_pushed_as_it_is_written(api, cloud):
    result = shoal("push", "dynamodb://Things", "--schedule", "rate(1 day)", "--no-watch")
    assert result.exit_code == 0, result.stderr
    stored = api.s3.get_object(Bucket=api.bucket, Key="datasets/Things/dataset.yaml")["Body"].read()
    assert stored == b"schedule: rate(1 day)\nsource:\n  dynamodb: Things\n"


@pytest.mark.parametrize("arguments", [("push", "nowhere.zip"), ("watch", "none"), ("dataset", "none")])
def test_what_isnt_there_is_two_with_reason_and_fix(cloud, arguments):
    result = shoal(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    reason, fix = result.stderr.splitlines()
    assert reason.startswith("Error: ") and fix.startswith("Fix: ")
    error = json.loads(shoal(*arguments, "--json").stdout)["error"]
    assert error["reason"] and error["fix"]


def test_no_cloud_is_three(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    result = shoal("runs")
    assert result.exit_code == 3
    assert "shoal up -d" in result.stderr


def test_watch_gives_json_lines(cloud, api):
    api.runs.append(api.new_run("digits", "v1"))
    api.script = [{"stage": "Write Shard"}, {"stage": "Train Shard"}, *api.script]
    lines = [json.loads(line) for line in shoal("watch", "digits-v1", "--json").stdout.splitlines()]
    assert [line["stage"] for line in lines] == ["Train Shard", "Register Model"]


def test_watch_of_a_failed_run_is_one(cloud, api):
    api.runs.append(api.new_run("digits", "v1") | {"status": "failed", "failure": FAILURE})
    assert shoal("watch", "digits-v1").exit_code == 1
    result = shoal("watch", "digits-v1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failure"] == FAILURE


def test_ctrl_c_lets_the_run_go_on(cloud, api):
    api.runs.append(api.new_run("digits", "v1"))
    api.script = [{"stage": "Train Shard"}]
    # A test run in the background ignores SIGINT, and so do its children unless they ask for it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from shoal.cli import main; main()"
    command = [sys.executable, "-c", code, "watch", "digits-v1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert "Train Shard" in process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == "The run goes on; see it again with: shoal watch digits-v1\n"


def test_runs_are_listed(cloud, api):
    assert "No runs yet" in shoal("runs").stdout
    failed = api.new_run("b", "1") | {"status": "failed", "failure": FAILURE}
    api.runs = [failed, api.new_run("a", "1") | {"status": "succeeded", "metrics": {"accuracy": 0.5}}]
    header, first, second = shoal("runs").stdout.splitlines()
    assert header.split() == ["RUN", "DATASET", "STATUS", "STAGE", "TEST", "TIME", "COST", "CREATED"]
    assert first.split()[:5] == ["b-1", "b", "failed", "Plan", "Shards"]
    assert "accuracy 0.5000" in second
    assert [run["run_id"] for run in json.loads(shoal("runs", "--dataset", "a", "--json").stdout)["runs"]] == ["a-1"]


REPORT = {
    "schema_version": 1,
    "version": "v1",
    "task": "classification",
    "kept": 1767,
    "dropped": 2,
    "duplicates": 1,
    "samples": {"train": 1237, "validation": 265, "test": 265},
    "settings": {"workers": 2, "target": None, "image_size": [8, 8]},
    "inferred": ["workers"],
    "drops": {
        "counts": {"unreadable": 2},
        "examples": [
            {"file": "digits.zip", "place": "3/9.png", "code": "unreadable", "reason": "No PNG.", "fix": "Save."}
        ],
        "ignored": 0,
    },
    "files": [{"file": "digits.zip", "kept": 1767, "dropped": {"unreadable": 2}, "ignored": 0}],
    "columns": [],
    "warnings": ["Few samples of 3."],
}


def test_a_dataset_reports_what_was_dropped_and_why(cloud, api):
    api.latest["digits"], api.report = "v1", REPORT
    result = shoal("dataset", "digits")
    assert result.exit_code == 0
    for text in (
        "1,767 samples kept (train 1,237, validation 265, test 265)",
        "dropped 2, duplicates 1",
        "settings: workers 2, image_size 8, 8",
        "inferred: workers",
        "unreadable  2",
        "digits.zip  3/9.png  No PNG.  Save.",
        "warning: Few samples of 3.",
    ):
        assert text in result.stdout
    assert json.loads(shoal("dataset", "digits", "--json").stdout)["report"] == REPORT


def test_datasets_are_listed(cloud, api):
    assert "No datasets yet" in shoal("datasets").stdout
    api.latest["digits"] = "v1"
    assert shoal("datasets").stdout.splitlines()[1].split()[:6] == [
        "digits",
        "v1",
        "classification",
        "1,200",
        "280",
        "287",
    ]
    assert json.loads(shoal("datasets", "--json").stdout)["datasets"][0]["name"] == "digits"
