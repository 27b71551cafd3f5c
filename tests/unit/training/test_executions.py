"""How far an execution carries a run, by the arithmetic of docs/scale.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from shoal_core.training.executions import (
    EVENTS,
    ITEM_EVENTS,
    MAX_EVENTS,
    MOST_RETRIES,
    RETRY_EVENTS,
    ROUND_EVENTS,
    STARTED,
    Execution,
    after_round,
    execution_event,
    execution_name,
    rounds_in_execution,
)
from shoal_core.training.settings import MAX_WORKERS
from shoal_core.training.states import MAX_EVALUATION_SHARDS
from tests.support.aws import ROOT

RUN = ("digits-0123456789ab-01234567", "digits", "0123456789ab")
_DEFINITION = yaml.safe_load((ROOT / "statemachines/training.asl.yaml").read_text())
START, MACHINE = _DEFINITION["StartAt"], _DEFINITION["States"]
TASK = 5
CHOICE = 2
MAP = 4
DISTRIBUTED_MAP = 6
PASS = 2


def retries(state: dict[str, Any]) -> int:
    return sum(rule["MaxAttempts"] for rule in state.get("Retry", ()))


def most(name: str) -> int:
    """Events of a task at the worst: every retry that it has."""
    return TASK + RETRY_EVENTS * retries(MACHINE[name])


def item_retries(name: str) -> int:
    (task,) = [state for state in MACHINE[name]["ItemProcessor"]["States"].values() if state["Type"] == "Task"]
    return retries(task)


def test_the_retries_of_a_worker_are_those_of_the_state_machine() -> None:
    assert item_retries("Train Shards") == MOST_RETRIES == 44
    assert item_retries("Evaluate Shards") < MOST_RETRIES


def following(state: dict[str, Any]) -> list[str]:
    branches = [*state.get("Choices", ()), *state.get("Catch", ()), state]
    return [branch["Next"] for branch in branches if "Next" in branch] + [*filter(None, [state.get("Default")])]


def before_training() -> set[str]:
    """The states that an execution may pass until it trains, and those that record a failure."""
    found, left = set(), [START]
    while left:
        name = left.pop()
        if name not in found and name != "Is Training Finished":
            found.add(name)
            left += following(MACHINE[name])
    return found


def test_whatever_is_retried_the_history_of_an_execution_holds_it() -> None:
    worker = ITEM_EVENTS + RETRY_EVENTS * MOST_RETRIES + PASS
    a_round = MAX_WORKERS * worker + MAP + most("Merge Round") + CHOICE
    item = ITEM_EVENTS + RETRY_EVENTS * item_retries("Evaluate Shards")
    ends = ("Optimize Model", "Merge Evaluation", "Register Model", "Record Failure", "Publish Run Failed")
    end = MAX_EVALUATION_SHARDS * item + MAP + sum(map(most, ends))
    events = {"Choice": CHOICE, "Pass": PASS, "Fail": 1, "Map": DISTRIBUTED_MAP}
    assert sum(events.get(MACHINE[name]["Type"]) or most(name) for name in before_training()) <= STARTED
    assert EVENTS + a_round + end + most("Continue Anew") == 24_789 < MAX_EVENTS


@pytest.mark.parametrize(("workers", "rounds"), [(1, 723), (2, 520), (8, 195), (40, 45)])
def test_a_run_goes_on_in_a_new_execution_before_the_history_is_full(workers: int, rounds: int) -> None:
    assert rounds_in_execution(workers) == rounds
    execution, done = Execution(), 0
    while not execution.continue_anew:
        execution, done = after_round(execution, RUN, workers, 0), done + 1
    assert done == rounds
    assert execution.events == STARTED + rounds * (ITEM_EVENTS * workers + ROUND_EVENTS) >= EVENTS


def test_what_is_retried_counts() -> None:
    assert after_round(Execution(), RUN, 2, 5).events == after_round(Execution(), RUN, 2, 0).events + 15
    assert not after_round(Execution(), RUN, 40, 0, 2_000).continue_anew
    assert after_round(Execution(), RUN, 40, 40 * MOST_RETRIES, 2_000).continue_anew


def test_the_next_execution_begins_with_training() -> None:
    following = after_round(Execution(execution=2), RUN, 1, 0, limit=1).next_execution
    assert following is not None and following.name == f"{RUN[0]}-c3"
    event = json.loads(following.input)
    assert event == {"run_id": RUN[0], "dataset": "digits", "version": RUN[2], "committed": True, "execution": 3}
    assert execution_event(*RUN) == {"run_id": RUN[0], "dataset": "digits", "version": RUN[2]}


def test_a_name_fits_whatever_the_dataset_is_called() -> None:
    assert execution_name("digits-0123456789ab") == "digits-0123456789ab"
    long = "d" * 64 + "-0123456789ab-01234567"
    names = {execution_name(f"{long}{end}", number) for end in ("", "-2") for number in (1, 2, 10)}
    assert len(names) == 6 and all(len(name) <= 80 for name in names)
