"""A search's decisions: jobs, results, budgets, lanes that are lost, and calls that are repeated or late."""

from __future__ import annotations

import pytest

from shoal_core.errors import BadConfig, NotFound, SearchFailed
from shoal_core.training.tuning.records import Budget, tuning_plan
from tests.unit.training.tuning.cloud import Cloud, job_of


@pytest.mark.parametrize("lanes", [2, 5])
def test_the_number_of_lanes_changes_nothing(lanes: int) -> None:
    alone, together = (Cloud(budget=Budget(trials=9), lanes=count, seed=lanes * 1_000) for count in (1, lanes))

    def quality(number: int) -> float:
        return (number * 37 % 11) / 11

    expected = sorted(job_of(answer) for answer in alone.play(score=quality))
    assert sorted(job_of(answer) for answer in together.play(lanes, quality)) == expected
    plain = {"run_id", "lane"}
    assert [trial.model_dump(exclude=plain) for trial in together.trials()] == [
        trial.model_dump(exclude=plain) for trial in alone.trials()
    ]


def test_a_call_that_is_repeated_or_late_changes_nothing() -> None:
    cloud = Cloud(lanes=2)
    first = cloud.ask(0)
    assert cloud.ask(0) == first
    other = cloud.ask(1)
    assert (job_of(first), job_of(other)) == ((0, 0), (1, 0))
    cloud.train(first, 0.5)
    second = cloud.ask(0, first)
    revision = cloud.catalog.book(cloud.id).revision
    again = cloud.ask(0, first)
    assert (job_of(again), again["run_id"]) == (job_of(second), second["run_id"]) == ((2, 0), second["run_id"])
    late = cloud.ask(0, first, failure={"Error": "States.Timeout", "Cause": ""})
    assert job_of(late) == (2, 0)
    assert cloud.catalog.book(cloud.id).revision == revision
    assert cloud.trials()[0].state == "paused"


def test_the_trial_of_a_lost_lane_has_failed_and_the_others_go_on() -> None:
    cloud = Cloud(lanes=2, budget=Budget(trials=4))
    mine, theirs = cloud.ask(0), cloud.ask(1)
    assert job_of(theirs) == (1, 0)
    cloud.lose(1)
    answer = cloud.ask(0, cloud.train(mine, 0.5))
    lost = cloud.trials()[1]
    assert lost.state == "failed" and lost.failure is not None and lost.failure.error == "Runtime.ExitError"
    assert job_of(answer) == (2, 0)
    # The lost lane's last call, which comes late, gets nothing to do.
    assert cloud.ask(1, theirs)["next"] == "end"
    answer = cloud.ask(0, cloud.train(answer, 0.4))
    answer = cloud.ask(0, cloud.train(answer, 0.3))
    assert job_of(answer) == (0, 1)
    assert cloud.ask(0, cloud.train(answer, 0.6))["next"] == "end"
    assert cloud.conclude() == "wait" and cloud.started == [f"{cloud.id}-000"]


def test_a_search_without_a_lane_says_why_and_can_be_resumed() -> None:
    cloud = Cloud(lanes=1, budget=Budget(trials=4))
    cloud.ask(0)
    cloud.lose(0)
    with pytest.raises(SearchFailed, match=r"Runtime\.ExitError") as caught:
        cloud.conclude()
    assert f"shoal tune --resume {cloud.id}" in caught.value.fix
    with pytest.raises(SearchFailed, match=r"States\.Runtime"):
        cloud.conclude(failure={"Error": "States.Runtime", "Cause": "the Map failed"})
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=4))
    cloud.attempt = 2
    assert job_of(cloud.ask(0)) == (1, 0)


def test_an_execution_that_starts_again_goes_on_from_the_records() -> None:
    cloud = Cloud(lanes=3, budget=Budget(trials=9))
    under_way = [cloud.ask(lane) for lane in range(3)]
    cloud.search.plan(cloud.id)
    assert [job_of(cloud.ask(lane)) for lane in range(3)] == [job_of(answer) for answer in under_way]
    # Resumed with fewer lanes: the one that is left takes over what the others had.
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=9))
    cloud.attempt = 2
    jobs = cloud.play(1)
    assert [job_of(answer) for answer in jobs[:3]] == [(0, 0), (1, 0), (2, 0)]
    assert cloud.trials()[8].state == "finished"


def test_an_execution_that_was_given_up_changes_nothing_any_more() -> None:
    cloud = Cloud(budget=Budget(trials=3))
    first = cloud.train(cloud.ask(0), 0.5)
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=3))
    before = cloud.catalog.book(cloud.id)
    assert cloud.ask(0, first)["next"] == "end" and cloud.conclude() == "superseded"
    assert cloud.catalog.book(cloud.id) == before
    cloud.attempt = 2
    assert job_of(cloud.ask(0)) == (0, 0)


def test_lanes_wait_for_what_may_be_promoted_and_end_when_nothing_may() -> None:
    cloud = Cloud(lanes=2, budget=Budget(trials=3))
    slow, quick = cloud.ask(0), cloud.ask(1)
    quick = cloud.ask(1, cloud.train(quick, 0.5))
    waiting = cloud.ask(1, cloud.train(quick, 0.9))
    assert (waiting["next"], waiting["seconds"], waiting["waits"]) == ("wait", 1, 1)
    assert cloud.ask(1, waiting)["seconds"] == 2
    assert job_of(cloud.ask(0, cloud.train(slow, 0.1))) == (2, 1)
    # One result in the second rung promotes nobody: three would.
    waiting = cloud.ask(1, waiting)
    assert waiting["next"] == "wait"
    cloud.train({**slow, "run_id": f"{cloud.id}-002", "part": 3}, 0.9)
    assert cloud.ask(0, {"job": {"trial": 2, "rung": 1}})["next"] == "end"
    assert cloud.ask(1, waiting)["next"] == "end"


def test_a_lane_ends_before_its_history_is_full_and_the_map_runs_again() -> None:
    cloud = Cloud(budget=Budget(trials=2))
    answer = cloud.train(cloud.ask(0), 0.5)
    over = cloud.ask(0, answer, events=15_000, aim={"begun": 1, "until": 1}, state={"round": 2})
    assert over["next"] == "end" and cloud.trials()[0].results
    assert cloud.conclude() == "search"
    answer = cloud.ask(0)
    assert job_of(answer) == (1, 0) and 0 < answer["events"] < 100


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(minutes=0.05), "the budget of 0.05 minutes is spent"),
        (Budget(dollars=0.00012), "the budget of $0.00012 is spent"),
    ],
)
def test_a_budget_ends_the_search(budget: Budget, reason: str) -> None:
    cloud = Cloud(budget=budget)
    assert cloud.request.budget.most_trials == 500
    answer = cloud.ask(0)
    jobs = 0
    while answer["next"] == "train":
        answer = cloud.ask(0, cloud.train(answer, 0.5, milliseconds=2500))
        jobs += 1
    # Three lanes have three times the minutes, and a job that is begun comes to its end.
    assert jobs == (4 if budget.minutes else 2)
    assert cloud.conclude() == "wait"
    assert cloud.reason() == reason


def test_a_space_that_has_no_more_ends_the_search() -> None:
    cloud = Cloud(space={"training.batch_size": {"choice": [8, 16]}}, budget=Budget(trials=9))
    assert len(cloud.play()) == 2
    cloud.conclude()
    assert cloud.reason() == "the space has 2 different trials, no more"


def test_a_stopped_search_gives_no_more_jobs_and_goes_on_when_it_is_resumed() -> None:
    cloud = Cloud(budget=Budget(trials=9))
    answer = cloud.train(cloud.ask(0), 0.5)
    assert cloud.catalog.stop(cloud.id) and not cloud.catalog.stop(cloud.id)
    assert cloud.ask(0, answer)["next"] == "end"
    assert cloud.trials()[0].results
    assert cloud.conclude() == "end"
    assert cloud.catalog.book(cloud.id).status == "stopped" and not cloud.started
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=3))
    cloud.attempt = 2
    assert [job_of(answer) for answer in cloud.play()] == [(1, 0), (2, 0), (0, 1)]


def test_a_larger_budget_goes_on_where_the_smaller_one_ended() -> None:
    small, large = Cloud(budget=Budget(trials=3)), Cloud(budget=Budget(trials=9), lanes=2)
    first = small.play()
    small.conclude()
    small.end_run(2, "succeeded")
    small.conclude()
    small.catalog.resume(small.id, 1, 2, Budget(trials=9))
    small.attempt = 2
    jobs = [job_of(answer) for answer in [*first, *small.play(2)]]
    assert sorted(set(jobs)) == sorted(job_of(answer) for answer in large.play(2))
    assert small.conclude() == "wait"
    assert small.started[-1] == f"{small.id}-008"


def test_a_trial_is_ranked_by_its_best_round_not_its_last() -> None:
    cloud = Cloud(rungs=1, budget=Budget(trials=1))
    cloud.ask(0, cloud.train(cloud.ask(0), 0.8, falls=3))
    (trial,) = cloud.trials()
    assert trial.results[0].metric == 0.8 and trial.curve[-1].metric == pytest.approx(0.797)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    cloud = Cloud(rounds=101, rungs=1, budget=Budget(trials=1))
    cloud.play()
    (trial,) = cloud.trials()
    rounds = [point.round for point in trial.curve]
    assert len(rounds) == 35 and rounds[:3] == [1, 3, 6] and rounds[-1] == 101


def test_when_the_winners_run_fails_the_next_best_has_its_turn() -> None:
    cloud = Cloud(budget=Budget(trials=2))
    cloud.play()
    assert cloud.conclude() == "wait"
    cloud.end_run(1, "failed", "It diverged.")
    assert cloud.conclude() == "wait"
    assert cloud.started == [f"{cloud.id}-001", f"{cloud.id}-000"]
    assert cloud.trials()[1].state == "failed"
    cloud.end_run(0, "failed", "It diverged.")
    with pytest.raises(SearchFailed, match="2 failed, trial 0 by TrainingDiverged: It diverged"):
        cloud.conclude()


def test_a_search_without_a_result_says_so() -> None:
    cloud = Cloud(budget=Budget(minutes=0.01), lanes=1)
    answer = cloud.train(cloud.ask(0), 0.5, milliseconds=60_000)
    cloud.ask(0, answer, failure={"Error": "Runtime.OutOfMemory", "Cause": "too large"})
    with pytest.raises(SearchFailed, match=r"1 failed, trial 0 by Runtime\.OutOfMemory"):
        cloud.conclude()


def test_the_plan_is_made_once_and_only_of_a_committed_version_and_a_fitting_space() -> None:
    cloud = Cloud(space=None)
    plan = tuning_plan(cloud.store, cloud.id)
    assert plan is not None and plan.baseline and set(plan.space["recipes"]) == {"mlp", "linear"}
    assert (plan.task, plan.split) == ("classification", "validation")
    before = dict(cloud.store.objects)
    assert cloud.search.plan(cloud.id) == {"items_key": f"tunings/{cloud.id}/lanes.json", "at_once": 3}
    assert cloud.store.objects == before
    assert cloud.ask(0)["job"] == {"trial": 0, "rung": 0} and cloud.trials()[0].values == {}
    with pytest.raises(NotFound):
        Cloud(version="other")
    with pytest.raises(BadConfig, match="needs images"):
        Cloud(space={"recipe": "cnn"})
