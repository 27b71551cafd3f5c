"""The state machine of searches beside that of runs: the same functions, tried again in the same cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.lint_state_machines import states

ROOT = Path(__file__).resolve().parents[2]


def machine(name: str) -> dict[str, dict]:
    return dict(states(yaml.safe_load((ROOT / "statemachines" / f"{name}.asl.yaml").read_text())))


@pytest.mark.parametrize("name", ["Start Training", "Train Shard", "Merge Round"])
def test_a_trials_states_are_retried_as_a_runs_are(name: str) -> None:
    of_run, of_trial = machine("training")[name], machine("tuning")[name]
    for field in ("Resource", "Retry", "TimeoutSeconds"):
        assert of_trial[field] == of_run[field]


def test_what_fails_in_a_job_is_told_to_the_search_and_ends_no_lane() -> None:
    found = machine("tuning")
    for name in ("Start Training", "Train Shard", "Merge Round"):
        (catch,) = found[name]["Catch"]
        assert catch == {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Advance Tuning"}
    assert not [name for name, state in found.items() if state["Type"] == "Fail" and name != "Tuning Failed"]
