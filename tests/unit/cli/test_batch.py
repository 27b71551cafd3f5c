import json

import pytest
from click.testing import CliRunner

from shoal.cli import cli
from tests.unit.sdk.test_batches import CSV, finish


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for module in ("_runs", "_batches"):
        monkeypatch.setattr(f"shoal.{module}.POLL_SECONDS", 0.01)


@pytest.fixture
def table(cloud, tmp_path):
    (tmp_path / "project/.shoal/cloud.json").write_text(json.dumps({**cloud, "artifacts_bucket": cloud["bucket"]}))
    path = tmp_path / "birds.csv"
    path.write_text("id\n1\n")
    return str(path)


def shoal(*arguments):
    return CliRunner().invoke(cli, ("batch", *arguments), catch_exceptions=False)


def done(api, job, **changes):
    finish(api, job, {"output/part-00000.csv": CSV.encode(), "predictions.csv": CSV.encode()}, "predictions.csv")
    api.batch_script = [{"stage": "Commit Batch", "pieces_done": 3}, {**api.batch_script[0], "version": 2, **changes}]


def test_a_job_is_started_and_shown(table, api):
    result = shoal("digits", table, "--name", "birds")
    assert result.exit_code == 0
    assert "job digits/birds; see it with: shoal batch show digits/birds" in result.stdout
    assert "digits/birds" in shoal("list").stdout
    assert json.loads(shoal("list", "--model", "digits", "--json").stdout)["batches"][0]["id"] == "digits/birds"


def test_waiting_shows_progress_time_left_cost_and_where_the_output_is(table, api, tmp_path):
    shown = [{"file": "birds.csv", "place": "line 3", "code": "bad_value", "reason": "Bad.", "fix": "Mend it."}]
    done(api, "digits/birds", records=2, errors=1, shown=shown, pieces_done=4, seconds_left=None)
    result = shoal("digits", table, "--name", "birds", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "pieces 3/4  records 100  left 6.0 s  cost $0.00002" in result.stdout
    assert "1 of 2 records answered by version 2" in result.stdout
    assert "birds.csv line 3: Bad. Fix: Mend it." in result.stdout
    assert "output batches/digits/birds/predictions.csv" in result.stdout
    assert (tmp_path / "out/predictions.csv").read_text() == CSV
    assert "bad_value" in shoal("errors", "digits/birds").stdout
    assert json.loads(shoal("show", "digits/birds", "--json").stdout)["status"] == "succeeded"


def test_a_failed_job_says_reason_and_fix(table, api):
    failure = {"stage": "Plan Batch", "error": "BadTable", "reason": "It is empty.", "fix": "Fill it."}
    api.batch_script = [{"status": "failed", "failure": failure}]
    result = shoal("digits", table, "--name", "birds", "--wait")
    assert result.exit_code == 1
    assert "failed at Plan Batch: It is empty." in result.stderr and "Fix: Fill it." in result.stderr
    assert "Fix: Fill it." in shoal("show", "digits/birds").stdout


@pytest.mark.parametrize(
    "arguments", [("nobody", "TABLE"), ("digits", "nothing.csv"), ("show", "digits"), ("show", "a/b")]
)
def test_what_does_not_exist_is_a_usage_error(arguments, table):
    result = shoal(*(table if argument == "TABLE" else argument for argument in arguments))
    assert result.exit_code == 2
    assert "Fix: " in result.stderr


def test_help_names_the_commands(table):
    assert {"start", "list", "show", "errors"} <= set(shoal("--help").stdout.split())
