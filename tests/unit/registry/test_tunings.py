"""Searches as they are shown: ranks, time left, and a page that nothing can be injected into."""

from __future__ import annotations

from typing import Any

import pytest

from shoal_core.errors import NotFound
from shoal_core.registry.tuning_page import render_tuning
from shoal_core.registry.tuning_records import Tuning, tuning_view
from shoal_core.training.tuning.records import (
    Budget,
    CurvePoint,
    RungResult,
    Trial,
    TrialFailure,
    TuningPlan,
    TuningRequest,
)

EVIL = "<script>alert(1)</script>"


def trial(number: int, metric: float, trained: int = 1, task: str = "classification", **changes: Any) -> Trial:
    score = -metric if task == "regression" else metric
    known = {
        "number": number,
        "run_id": f"t-{number:03d}",
        "values": {"training.learning_rate": 10.0 ** -(number + 1), "augment": EVIL},
        "state": "paused",
        "rung": 0,
        "lane": 0,
        "results": (RungResult(rung=0, round=trained, score=(score, 0.0), metric=metric),),
        "curve": tuple(CurvePoint(round=place, loss=1 / place, metric=metric) for place in range(1, trained + 1)),
        "recipe": "mlp",
        "rounds": 9,
        "seconds": 10.0 * trained,
        "gb_seconds": 17.0,
        "cost_usd": 0.001 * trained,
    }
    return Trial.model_validate({**known, **changes})


def view(trials: list[Trial], task: str = "classification", run: Any = None, **attributes: Any) -> Tuning:
    budget = attributes.pop("budget", Budget(trials=9))
    request = TuningRequest(dataset="d", version="v", budget=budget)
    record = {
        "sk": "TUNING", "tuning_id": request.tuning_id, "request": request.encode().decode(), "status": "running",
        "stage": "Advance Tuning", "created_at": "2026-11-21T08:00:00.000Z", "updated_at": "2026-11-21T08:00:10.000Z",
        "begun_at": "2026-11-21T08:00:05.000Z", "attempt": 1, "lanes": 2, "budget": budget.model_dump_json(),
        **attributes,
    }  # fmt: skip
    stage = {
        "sk": "STAGE#Advance Tuning", "name": "Advance Tuning", "started_at": "2026-11-21T08:00:05.000Z",
        "finished_at": "2026-11-21T08:00:10.000Z", "invocations": 4, "megabyte_ms": 1024 * 1000,
    }  # fmt: skip
    items = [record, stage, *({"sk": f"TRIAL#{one.number:04d}", "document": one.encode()} for one in trials)]
    plan = TuningPlan(space={"training.epochs": {"choice": [EVIL]}}, baseline=False, task=task, split="validation")
    return tuning_view(items, plan, run, "x86_64", "2026-11-21T08:01:05.000Z")


def test_what_a_search_has_come_to() -> None:
    found = view([trial(0, 0.5), trial(1, 0.9), trial(2, 0.7)])
    assert (found.rungs, found.done, found.best, found.best_metric) == ([3, 1, 0], [3, 0, 0], 1, 0.9)
    assert (found.seconds, found.worked_seconds, found.stage) == (60.0, 30.0, "searching")
    assert found.cost_usd == pytest.approx(0.003 + 1 * 1.66667e-5 + 4 * 2e-7 + 8 * 2.5e-5, rel=1e-3)
    with pytest.raises(NotFound):
        tuning_view([], None, None, "x86_64", "")


def test_lower_is_better_for_errors() -> None:
    found = view([trial(0, 0.5, task="regression"), trial(1, 0.9, task="regression")], task="regression")
    assert (found.best, found.metric, found.higher_is_better) == (0, "rmse", False)


def test_time_left_follows_the_rounds_that_are_left_or_the_budget() -> None:
    trials = [trial(number, 0.5) for number in range(3)]
    # Ten seconds a round, one round a first rung: six more, three of two rounds, one of six, on two lanes.
    assert view(trials).seconds_left == pytest.approx((6 + 3 * 2 + 1 * 6) * 10 / 2)
    assert view(trials, budget=Budget(minutes=0.5)).seconds_left == pytest.approx((0.5 * 60 * 2 - 30) / 2)
    assert view(trials, budget=Budget(dollars=0.004)).seconds_left == pytest.approx(0.001 * 10_000 / 2)
    assert view(trials, budget=Budget(dollars=0.001)).seconds_left == 0
    assert view([]).seconds_left is None and view(trials, status="stopped").seconds_left is None


def test_every_text_of_a_page_is_escaped() -> None:
    failure = TrialFailure(stage="Trial", error=EVIL, reason=EVIL, fix=EVIL)
    trials = [trial(0, 0.5), trial(1, 0.9, 9), trial(2, 0.0, results=(), curve=(), state="failed", failure=failure)]
    run = {"status": "succeeded", "metrics": {"accuracy": 0.8, EVIL: 1.0}, "model": {"name": EVIL, "version": 2}}
    attributes = {"winner": 1, "reason": EVIL, "status": "failed", "error": EVIL, "cause": EVIL}
    page = render_tuning(view(trials, run=run, **attributes)).decode()
    assert "<script" not in page and page.count("&lt;script&gt;") > 10
    assert "http://" not in page and "https://" not in page
    assert page.count("<polyline") == 2 and "trial 1: 0.9 after 9 rounds" in page


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_page_can_be_drawn_at_any_time(task: str) -> None:
    for trials in (
        [],
        [trial(0, 0.5, task=task, results=(), curve=(), state="running", rounds=None, recipe=None)],
        [trial(0, float("1e30"), task=task)],
        [trial(number, 0.5, 9, task=task, values={}) for number in range(3)],
        [trial(number, 0.1 * number, 9, task=task, state="finished") for number in range(250)],
    ):
        page = render_tuning(view(trials, task=task)).decode()
        assert page.startswith("<!doctype html>") and ("<svg" in page) == bool(trials and trials[0].curve)
    assert "And 50 more" in page
