"""Searches by Python: begun, waited for, stopped, resumed, and their page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import shoal
from tests.unit.sdk.fake_api import FakeApi
from tests.unit.sdk.fake_tunings import TUNING


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)


@pytest.fixture
def client(cloud: dict[str, str], api: FakeApi) -> shoal.Client:
    api.latest["digits"] = "v1"
    return shoal.connect()


def test_a_search_is_waited_for_and_its_winner_is_a_model(client: shoal.Client, api: FakeApi, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("training.learning_rate: {log_uniform: [1.0e-4, 0.1]}\n")
    tuning = shoal.tune("digits", trials=3, lanes=2, seed=7, space=space)
    assert api.tunings.asked == [
        {"trials": 3, "lanes": 2, "seed": 7, "space": {"training.learning_rate": {"log_uniform": [1e-4, 0.1]}}}
    ]
    assert (tuning.id, tuning.status, tuning.winner, tuning.model, tuning.best) == (TUNING, "running", None, None, None)
    seen: list[str] = []
    assert tuning.wait(on_progress=lambda found: seen.append(found.status)) is tuning
    assert seen == ["running", "running", "succeeded"]
    assert tuning.model == {"name": "digits", "version": 2}
    assert tuning.best is not None and tuning.best["number"] == 1 and len(tuning.trials) == 3
    assert tuning.page() == b"<!doctype html><title>search</title>"
    assert repr(tuning) == f"Tuning({TUNING!r}, status='succeeded')"
    assert [found.id for found in shoal.tunings("digits")] == [TUNING] and shoal.tunings("other") == []


def test_a_search_is_stopped_and_resumed(client: shoal.Client, api: FakeApi) -> None:
    tuning = client.tune("digits", space={"training.epochs": {"int": [1, 3]}}, dollars=0.5)
    assert tuning.stop().status == "stopping"
    assert tuning.wait().status == "stopped"
    found = shoal.tuning(TUNING)
    assert found.resume(trials=20, lanes=1).status == "running"
    assert api.tunings.asked[-1] == {"trials": 20, "lanes": 1}


def test_a_failed_search_raises_its_reason_and_a_slow_one_goes_on(client: shoal.Client, api: FakeApi) -> None:
    api.tunings.script = [{"status": "running"}]
    tuning = client.tune("digits")
    with pytest.raises(shoal.WaitTimedOut, match=r"Search .* is still running") as slow:
        tuning.wait(timeout=0.05)
    assert slow.value.fix == f"shoal tunings {TUNING}"
    failure = {"stage": "Conclude Tuning", "error": "SearchFailed", "reason": "No trial came to an end.", "fix": "X."}
    api.tunings.script = [{"status": "failed", "failure": failure}]
    with pytest.raises(shoal.TuningFailed, match="No trial came to an end") as failed:
        tuning.wait()
    assert failed.value.tuning is tuning and failed.value.fix == "X."


@pytest.mark.parametrize(
    ("space", "error", "reason"),
    [
        ("nothing.yaml", shoal.NotFound, "can't be read"),
        ("list.yaml", shoal.BadRequest, "holds no fields"),
        ("broken.yaml", shoal.BadRequest, "isn't valid YAML"),
        ({"training.epochs": {1, 2}}, shoal.BadRequest, "isn't JSON"),
    ],
)
def test_a_space_that_cant_be_read_is_refused_before_anything_is_sent(
    space: Any, error: type[Exception], reason: str, client: shoal.Client, api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(error, match=reason):
        client.tune("digits", space=tmp_path / space if isinstance(space, str) else space)
    assert not api.tunings.asked


def test_what_isnt_there_is_told(client: shoal.Client) -> None:
    with pytest.raises(shoal.NotFound):
        client.tune("nobody")
    with pytest.raises(shoal.NotFound):
        client.tuning("none")


def test_the_body_holds_what_was_asked_for_only(client: shoal.Client, api: FakeApi) -> None:
    client.tune("digits")
    method, path, content_type, body = api.requests[-1]
    assert (method, path, content_type) == ("POST", "/datasets/digits/tunings", "application/json")
    assert json.loads(body) == {}
