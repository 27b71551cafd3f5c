import json

import pytest
from click.testing import CliRunner

from shoal.cli import cli

FAILURE = {"stage": "Start Training", "error": "BadConfig", "reason": "cnn needs images.", "fix": "Use mlp."}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def digits(cloud, api):
    api.latest["digits"] = "v1"


def shoal(*arguments, **options):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)


def test_train_follows_the_run_to_its_end(api):
    step = {"stage": "Merge Round", "progress": {"round": 1, "rounds": 3, "loss": 0.5}}
    api.script = [step, *api.script]
    result = shoal("train", "digits", "--recipe", "mlp", "--workers", "2", "--set", "training.epochs=5")
    assert result.exit_code == 0
    assert "run digits-v1-requested, dataset digits" in result.stdout
    assert "round 1/3  loss 0.5000" in result.stdout and "test: accuracy 0.9812" in result.stdout
    body = next(json.loads(body) for method, path, _, body in api.requests if method == "POST")
    assert body == {"overrides": {"recipe": "mlp", "workers": 2, "training": {"epochs": 5}}}


def test_train_only_starts_it_or_tells_it_as_json(api):
    api.script = [{"stage": "Start Training"}, *api.script]
    started = json.loads(shoal("train", "digits", "--no-watch", "--json").stdout)
    assert (started["run_id"], started["status"], started["unchanged"]) == ("digits-v1-requested", "running", False)
    ended = json.loads(shoal("train", "digits", "--version", "v1", "--json").stdout)
    assert (ended["status"], ended["unchanged"]) == ("succeeded", True)
    assert "unchanged: run digits-v1-requested" in shoal("train", "digits").stdout


def test_a_run_that_fails_is_one(api):
    api.script = [{"status": "failed", "failure": FAILURE}]
    result = shoal("train", "digits")
    assert result.exit_code == 1 and "failed at Start Training: cnn needs images." in result.stderr
    result = shoal("train", "digits", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["failure"] == FAILURE


def test_what_isnt_a_setting_of_a_run_is_told(api):
    result = shoal("train", "digits", "--set", "split.test=0.2")
    assert result.exit_code == 2 and "no setting 'split'" in result.stderr


def test_ctrl_c_lets_the_run_go_on(api, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("shoal._runs.Run.wait", interrupted)
    result = shoal("train", "digits")
    assert result.exit_code == 130 and "shoal watch digits-v1-requested" in result.stderr


def test_workers_of_a_run(api):
    shoal("train", "digits", "--no-watch")
    result = shoal("workers", "digits-v1-requested", "3")
    assert "2 workers, 3 from the next round on" in result.stdout
    assert json.loads(shoal("workers", "digits-v1-requested", "3", "--json").stdout)["workers"] == 3
    assert shoal("workers", "digits-v1-requested", "0").exit_code == 2


def test_a_quote_is_a_table_or_json(api):
    result = shoal("train", "digits", "--compute", "auto", "--set", "compute.count=2", "--quote")
    assert result.exit_code == 0
    assert "lambda" in result.stdout and "1.5" in result.stdout and "$0.0100" in result.stdout
    assert "unknown" in result.stdout and "trains on lambda: Short." in result.stdout
    (body,) = [json.loads(body) for method, path, _, body in api.requests if path.endswith("/quote")]
    assert body == {"overrides": {"compute": {"service": "auto", "count": 2}}}
    assert json.loads(shoal("train", "digits", "--quote", "--json").stdout)["service"] == "lambda"
    refused = shoal("train", "digits", "--network", "net.onnx", "--quote")
    assert refused.exit_code == 2 and "network of your own" in refused.stderr
