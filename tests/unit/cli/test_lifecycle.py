"""What the commands about versions in service ask of the API, and what they show."""

import json

import pytest
from click.testing import CliRunner

import shoal
from shoal.cli import cli

CANARY = {
    "version": 2, "percent": 25.0, "steps": [5.0, 25.0, 100.0], "step": 2, "every_seconds": 300, "started_at": "2026",
    "step_at": "2026", "max_errors": 0.01, "max_latency_ms": None, "max_slowdown": 2.0, "min_requests": 20,
}  # fmt: skip


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def asked(api, method="POST"):
    found = [request for request in api.requests if request[0] == method]
    return found[-1][1], json.loads(found[-1][3] or b"null")


def test_rollback_and_aliases(cloud, api):
    assert "version 3 serves; it was 1" in run("rollback", "digits", "--to", "3").stdout
    assert asked(api) == ("/models/digits/aliases/production", {"version": 3})
    run("rollback", "digits", "--json")
    assert asked(api) == ("/models/digits/aliases/production", {})
    assert "staging is version 2; it was 1" in run("alias", "set", "digits", "staging", "2").stdout
    assert asked(api) == ("/models/digits/aliases/staging", {"version": 2})
    assert "is gone" in run("alias", "remove", "digits", "staging").stdout
    assert asked(api, "DELETE")[0] == "/models/digits/aliases/staging"


def test_a_canary_is_asked_for_in_words(cloud, api):
    api.traffic |= {"canary": CANARY, "shares": [{"version": 1, "percent": 75.0}, {"version": 2, "percent": 25.0}]}
    api.traffic["aliases"]["canary"] = 2
    api.traffic["measured"] = {
        "canary": {"requests": 120, "errors": 1, "mean_ms": 4.25},
        "production": {"requests": 9000, "errors": 0, "mean_ms": None},
    }
    options = ("--steps", "5,25%, 100", "--every", "30s", "--max-errors", "0.5%", "--max-latency", "0.2s")
    lines = run("canary", "digits", "2", *options).stdout.splitlines()
    path, body = asked(api)
    assert path == "/models/digits/canary"
    assert body == {
        "version": 2, "steps": [5.0, 25.0, 100.0], "every_seconds": 30, "max_errors": 0.005, "max_latency_ms": 200.0,
        "max_slowdown": 2.0, "min_requests": 20,
    }  # fmt: skip
    assert lines[1].split() == ["1", "production", "75", "%", "9,000", "0", "-"]
    assert lines[2].split() == ["2", "canary,", "candidate", "25", "%", "120", "1", "4.25"] or "candidate" in lines[2]
    assert lines[3] == (
        "Canary: version 2 at 25 %, step 2 of 5, 25, 100 %, each for 300 s at least; at most 1.00% errors."
    )
    run("canary", "digits", "--stop")
    assert asked(api, "DELETE")[0] == "/models/digits/canary"


@pytest.mark.parametrize(
    "arguments",
    [
        ("canary", "digits"),
        ("canary", "digits", "2", "--every", "soon"),
        ("canary", "digits", "2", "--steps", "a,b"),
        ("canary", "digits", "2", "--max-latency", "fast"),
        ("ab", "digits", "1", "2", "--weights", "1"),
        ("ab", "digits", "1", "1"),
        ("ab", "digits", "1", "2", "--weights", "nan,1"),
        ("canary", "digits", "2", "--steps", "inf"),
        ("shadow", "digits"),
        ("card", "digits@x"),
    ],
)
def test_what_cant_be_asked_is_two(cloud, api, arguments):
    before = len(api.requests)
    run(*arguments, code=2)
    assert not [request for request in api.requests[before:] if request[0] == "POST"]


def test_a_split_and_a_shadow(cloud, api):
    api.traffic |= {"split": True, "shadow": {"version": 2, "percent": 10.0, "started_at": "2026"}}
    api.traffic["measured"] = {"shadow": {"requests": 50, "agreement": 0.98}}
    shown = run("ab", "digits", "1", "2", "--weights", "80,20").stdout
    assert asked(api) == ("/models/digits/ab", {"weights": {"1": 80.0, "2": 20.0}})
    assert "Shoal-Key" in shown
    shown = run("shadow", "digits", "2", "--percent", "10").stdout
    assert asked(api) == ("/models/digits/shadow", {"version": 2, "percent": 10.0})
    assert "98.00% agree of 50 requests" in shown
    for command in ("ab", "shadow"):
        run(command, "digits", "--stop")
        assert asked(api, "DELETE")[0] == f"/models/digits/{command}"
    assert json.loads(run("traffic", "digits", "--json").stdout) == api.traffic


def test_a_card(cloud, api, tmp_path):
    assert run("card", "digits").stdout.startswith("# digits, version 1")
    assert json.loads(run("card", "digits@1", "--json").stdout) == {"model": "digits", "version": 1}
    page = tmp_path / "card.html"
    run("card", "digits@1", "--html", str(page))
    assert page.read_bytes().startswith(b"<!doctype html>")
    run("card", "digits@7", code=2)


def test_the_sdk_sends_a_key_and_a_version(cloud, api):
    model = shoal.model("digits")
    assert model.predict({"a": 1}, version="staging", key="user-7").label == "3"
    assert model.traffic() == api.traffic
    assert model.card() == {"model": "digits", "version": 1}
    assert model.canary(2, steps=(10, 100))["production"] == 1
    assert model.stop_canary() == model.stop_ab() == model.stop_shadow() == api.traffic
