import json
import time

import boto3
import pytest
from click.testing import CliRunner

from shoal.cli import cli
from shoal.connection import project_folder


def shoal(*arguments, **options):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)


@pytest.fixture
def log(cloud):
    """A function's log with two lines of now and one of yesterday."""
    logs = boto3.session.Session("k", "s", region_name="us-east-1").client("logs", endpoint_url=cloud["aws_endpoint"])
    group = f"/aws/lambda/{cloud['stack']}-ingest-upload"
    logs.create_log_group(logGroupName=group)
    now = int(time.time() * 1000)
    for stream, message, moment in (
        ("b", "later", now - 1000),
        ("a", "sooner\n", now - 2000),
        ("a", "yesterday", now - 86_400_000),
    ):
        if message != "yesterday":
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": moment, "message": message}]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    return group


@pytest.mark.parametrize("name", ["ingest_upload", "ingest-upload", "Ingest Upload"])
def test_logs_are_shown_in_order_of_time(log, name):
    lines = shoal("logs", name).stdout.splitlines()
    assert [line.split("Z  ")[1] for line in lines] == ["sooner", "later"]


def test_logs_as_json(log):
    document = json.loads(shoal("logs", "ingest_upload", "--since", "2880", "--json").stdout)
    assert document["log_group"] == log
    assert [event["message"] for event in document["events"]] == ["yesterday", "sooner", "later"]


def test_a_function_without_a_log_is_named(cloud):
    result = shoal("logs", "nonsense")
    assert result.exit_code == 2
    assert "no log of a function 'nonsense'" in result.stderr


def test_following_shows_each_line_once(log, monkeypatch):
    looks = iter([None, None])

    def pause(seconds):
        if next(looks, "enough") == "enough":
            raise KeyboardInterrupt

    monkeypatch.setattr("shoal.cli.cloud.time.sleep", pause)
    result = shoal("logs", "-f", "ingest_upload", "--json")
    assert result.exit_code == 130
    assert [json.loads(line)["message"] for line in result.stdout.splitlines()] == ["sooner", "later"]


def test_status_of_a_stack_on_aws(cloud, api, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud["aws_endpoint"])
    result = shoal("status", "--stack", "nowhere")
    assert result.exit_code == 2
    assert "stack 'nowhere'" in result.stderr


def test_no_running_cloud_is_three_for_status_and_fine_for_down(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = shoal("status")
    assert result.exit_code == 3
    assert "shoal up -d" in result.stderr
    assert json.loads(shoal("down", "--json").stdout) == {"stopped": False}
    assert shoal("down").stdout == "No embedded cloud was running.\n"


def test_up_without_a_template_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    result = shoal("up", "-d")
    assert result.exit_code == 1
    reason, fix = result.stderr.splitlines()
    assert "template.yaml" in reason and fix.startswith("Fix: ")


def test_doctor_lists_its_checks(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    document = json.loads(shoal("doctor", "--json").stdout)
    assert {check["level"] for check in document["checks"]} <= {"ok", "note", "warning", "error"}
    assert document["checks"][0]["name"] in shoal("doctor").stdout


def test_the_project_is_found_from_a_folder_below(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert project_folder(below) == below
    (tmp_path / "template.yaml").touch()
    assert project_folder(below) == tmp_path
