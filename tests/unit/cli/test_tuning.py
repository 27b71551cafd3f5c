import json

import pytest
from click.testing import CliRunner
from rich.console import Console

import shoal as sdk
from shoal.cli import cli
from shoal.tuning_progress import LiveTuningProgress, show_tuning
from tests.unit.sdk.fake_tunings import TUNING


@pytest.fixture(autouse=True)
def quick(monkeypatch, cloud, api):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)
    api.latest["digits"] = "v1"


def shoal(*arguments):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_a_search_shows_its_progress_table_and_winner(api, tmp_path):
    page = tmp_path / "report.html"
    result = shoal("tune", "digits", "--trials", "3", "--lanes", "2", "--report", str(page))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"search {TUNING}, dataset digits"
    progress = [line for line in lines if "searching" in line]
    assert len(progress) == 1  # time and cost alone are no news
    assert "trials 3/3  rungs 2/3 0/1 0/0  best accuracy 0.9500 (trial 1)  failed 1  left about 12.0 s" in progress[0]
    header = next(line for line in lines if line.startswith("TRIAL"))
    assert header.split() == [
        "TRIAL", "STATE", "RECIPE", "LEARNING_RATE", "NETWORK.HIDDEN", "ROUNDS", "ACCURACY", "TIME", "COST",
    ]  # fmt: skip
    rows = lines[lines.index(header) + 1 :]
    assert rows[0].split()[:4] == ["1", "winner", "mlp", "0.001234"] and "[64, 32]" in rows[0] and "1/9" in rows[0]
    assert rows[2].split()[:2] == ["2", "failed"]
    assert "trial 2 failed: It diverged. Fix: Lower it." in result.stdout
    assert "ranked by accuracy on the validation split; only the winner is evaluated on the test split" in lines
    assert f"winner: trial 1, run {TUNING}-001: succeeded, test accuracy 0.9400" in lines
    assert "model digits, version 2: shoal predict digits FILE" in lines
    assert page.read_text().startswith("<!doctype html>")


def test_with_json_the_last_document_comes_alone(api):
    result = shoal("tune", "digits", "--json", "--seed", "5", "--eta", "4", "--rungs", "2", "--minutes", "3")
    assert json.loads(result.stdout)["status"] == "succeeded"
    assert api.tunings.asked == [{"seed": 5, "eta": 4, "rungs": 2, "minutes": 3.0}]
    assert json.loads(shoal("tunings", "--json").stdout)["tunings"][0]["tuning_id"] == TUNING
    assert json.loads(shoal("tunings", TUNING, "--json").stdout)["winner"]["trial"] == 1


def test_searches_are_listed_stopped_and_resumed(api):
    assert "No searches yet" in shoal("tunings").stdout
    assert "search" in shoal("tune", "digits", "--no-watch").stdout
    assert f"{TUNING}  digits   running" in shoal("tunings", "--dataset", "digits").stdout
    stopped = shoal("tunings", TUNING, "--stop", "--watch")
    assert f"go on with it: shoal tune --resume {TUNING}" in stopped.stdout
    assert shoal("tune", "--resume", TUNING, "--trials", "20", "--no-watch").exit_code == 0
    assert api.tunings.asked[-1] == {"trials": 20}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("tune",), "No dataset is named"),
        (("tune", "nobody"), "nobody"),
        (("tune", "--resume", "none"), "none"),
        (("tune", "--resume", TUNING, "--seed", "3"), "--seed can't change"),
        (("tune", "other", "--resume", TUNING), "is of dataset 'digits'"),
        (("tune", "digits", "--space", "nothing.yaml"), "nothing.yaml can't be read"),
        (("tunings", "--stop"), "No search is named"),
        (("tunings", "none"), "none"),
        (("tunings", TUNING, "--report", "/nowhere/report.html"), "can't be written"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments, reason, api):
    api.tunings.begin("digits", {})
    result = shoal(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr and "Fix: " in result.stderr


def test_a_failed_search_says_reason_and_fix(api):
    failure = {"stage": "Search", "error": "SearchFailed", "reason": "No trial came to an end.", "fix": "Mend it."}
    api.tunings.script = [{"status": "failed", "failure": failure}]
    result = shoal("tune", "digits")
    assert result.exit_code == 1
    assert "No trial came to an end." in result.stderr and "Fix: Mend it." in result.stderr
    result = shoal("tune", "digits", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["failure"] == failure


def test_ctrl_c_lets_it_go_on(api, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sdk.Tuning, "wait", interrupted)
    result = shoal("tune", "digits")
    assert result.exit_code == 130
    assert f"see it again with: shoal tunings {TUNING} --watch" in result.stderr


def test_a_terminal_sees_rungs_leaders_time_left_and_cost(api):
    console = Console(force_terminal=True, width=120, record=True, color_system=None)
    view = show_tuning(console)
    assert isinstance(view, LiveTuningProgress)
    console.print(view)
    tuning = sdk.tune("digits", trials=3)
    view.update(tuning.refresh())
    console.print(view)
    shown = console.export_text()
    assert "waiting for the search" in shown
    assert "rung 1" in shown and "1/9 of the rounds" in shown and "2/3" in shown and "all rounds" in shown
    assert "trial 1" in shown and "0.9500" in shown and "learning_rate 0.0012345" in shown
    assert "left" in shown and "cost so far $0.00012" in shown
