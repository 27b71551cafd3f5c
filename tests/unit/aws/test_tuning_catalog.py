"""A search in the real catalog: one transaction per decision, whoever calls at once; and the runs of its trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shoal_core.aws.table import Table
from shoal_core.errors import Conflict
from shoal_core.keys import RunKeys
from shoal_core.training.requests import RunRequest
from shoal_core.training.tuning.records import Budget
from tests.support.aws import stack
from tests.unit.training.tuning.cloud import CatalogCloud, job_of


@pytest.fixture(autouse=True, scope="module")
def aws() -> Iterator[None]:
    with stack():
        yield


def test_a_search_goes_from_its_first_trial_to_its_winner() -> None:
    cloud = CatalogCloud(budget=Budget(trials=9))
    jobs = cloud.play()
    # The best of three is promoted before the next one starts; the last promotion is that of the second rung.
    firsts = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (4, 0), (5, 0), (5, 1), (6, 0), (7, 0), (8, 0), (8, 1), (8, 2)]
    assert [job_of(answer) for answer in jobs] == firsts
    assert [answer["part"] for answer in jobs if answer["job"]["trial"] == 8] == [9, 3, 1]
    trials = cloud.trials()
    assert [trial.state for trial in trials] == ["paused"] * 8 + ["finished"]
    assert [result.round for result in trials[8].results] == [1, 3, 9]
    assert [point.round for point in trials[8].curve] == list(range(1, 10))
    assert cloud.run(0)["status"] == "paused" and "kind" not in cloud.run(0)
    assert cloud.conclude() == "wait"
    assert cloud.started == [trials[8].run_id]
    assert (cloud.run(8)["status"], cloud.run(8)["kind"]) == ("running", "RUN")
    assert cloud.conclude() == "wait"
    cloud.end_run(8, "succeeded")
    assert cloud.conclude() == "end"
    book = cloud.catalog.book(cloud.id)
    assert (book.status, book.winner) == ("succeeded", 8)
    assert cloud.reason() == "all 9 trials are done"


def better_first(number: int) -> float:
    return 1 - number / 100


def test_a_winner_that_was_trained_to_its_end_stays_so_when_the_search_goes_on() -> None:
    cloud = CatalogCloud(eta=2, budget=Budget(trials=1))
    (first,) = cloud.play(score=better_first)
    assert cloud.conclude() == "wait"
    cloud.train({**first, "part": 1}, better_first(0))  # its run goes on to the last round
    cloud.end_run(0, "succeeded")
    assert cloud.conclude() == "end"
    (trial,) = cloud.trials()
    assert trial.state == "finished" and trial.curve[-1].round == 9
    assert [(result.rung, result.round) for result in trial.results] == [(0, 3), (1, 5), (2, 9)]
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=4))
    cloud.attempt = 2
    assert {job_of(answer) for answer in cloud.play(score=better_first)} == {(1, 0), (2, 0), (3, 0), (1, 1)}
    assert cloud.conclude() == "end"
    assert cloud.run(0)["status"] == "succeeded" and cloud.catalog.book(cloud.id).winner == 0


def test_a_winner_whose_run_failed_meanwhile_isnt_waited_for() -> None:
    cloud = CatalogCloud(rungs=1, budget=Budget(trials=2))
    cloud.play()
    assert cloud.conclude() == "wait"
    cloud.end_run(1, "failed", "It diverged.")
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=2))
    cloud.attempt = 2
    assert cloud.play() == [] and cloud.conclude() == "wait"
    assert cloud.run(1)["status"] == "failed" and cloud.trials()[1].state == "failed"
    assert cloud.started == [f"{cloud.id}-001", f"{cloud.id}-000"]


def test_calls_at_once_give_every_lane_a_job_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB shows no transaction that isn't over yet, or is taken back; moto does."""
    lock, query = threading.Lock(), Table.query

    def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*arguments: Any) -> Any:
            with lock:
                return method(*arguments)

        return locked

    monkeypatch.setattr(Table, "put_all_new", one_at_a_time(Table.put_all_new))
    monkeypatch.setattr(Table, "get", one_at_a_time(Table.get))
    monkeypatch.setattr(Table, "query", one_at_a_time(lambda *arguments: list(query(*arguments))))
    cloud = CatalogCloud(lanes=8, budget=Budget(trials=8))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(cloud.ask, [0, 1, 2, 3, 4, 5, 6, 7]))
    assert sorted(job_of(answer) for answer in answers) == [(number, 0) for number in range(8)]
    for answer in answers:
        cloud.train(answer, answer["job"]["trial"] / 10)
    with ThreadPoolExecutor(8) as pool:
        # The same reports twice at once.
        list(pool.map(lambda answer: cloud.ask(answer["lane"], answer), answers * 2))
    # What the last result promoted is given to whoever looks next.
    for lane in range(8):
        cloud.ask(lane)
    trials = cloud.trials()
    assert len(trials) == 8 and all(trial.results for trial in trials)
    assert sum(trial.state == "running" for trial in trials) == 2


def test_a_decision_in_the_middle_of_a_read_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query is no snapshot: what another lane writes between two of its items is half seen."""
    cloud = CatalogCloud(lanes=2, budget=Budget(trials=8))
    query, others = Table.query, iter([1])

    def disturbed(table: Table, *arguments: Any) -> Iterator[dict[str, Any]]:
        items = query(table, *arguments)
        first = [item for item in items if item["sk"].startswith("TRIAL#")]
        for lane in others:
            assert job_of(cloud.ask(lane)) == (0, 0)
        yield from first
        yield from (item for item in query(table, *arguments) if not item["sk"].startswith("TRIAL#"))

    monkeypatch.setattr(Table, "query", disturbed)
    assert job_of(cloud.ask(0)) == (1, 0)


def test_a_failed_job_is_the_trials_failure_and_the_lane_goes_on() -> None:
    cloud = CatalogCloud(budget=Budget(trials=3))
    cause = '{"errorMessage": "Run x diverged in round 1. Fix: Lower it.", "errorType": "TrainingDiverged"}'
    first = cloud.train(cloud.ask(0), 0.0, 2000)
    answer = cloud.ask(0, first, failure={"Error": "TrainingDiverged", "Cause": cause})
    trial = cloud.trials()[0]
    assert job_of(answer) == (1, 0)
    assert trial.state == "failed" and trial.failure is not None and trial.seconds == 2.0
    assert (trial.failure.error, trial.failure.fix) == ("TrainingDiverged", "Lower it.")
    assert trial.failure.reason == "Run x diverged in round 1."
    assert cloud.run(0)["status"] == "failed"


def test_only_one_resumes_an_attempt() -> None:
    cloud = CatalogCloud()
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=3))
    with pytest.raises(Conflict, match="resumed by somebody else"):
        cloud.catalog.resume(cloud.id, 1, 2, Budget(trials=9))
    assert cloud.catalog.book(cloud.id).lanes == 1


def test_a_trials_run_is_asked_for_before_it_is_recorded() -> None:
    cloud = CatalogCloud()
    answer = cloud.ask(0)
    request = RunRequest.model_validate_json(cloud.store.read(RunKeys(answer["run_id"]).request))
    trial = cloud.trials()[0]
    assert answer["run_id"] == trial.run_id == f"{cloud.id}-000"
    assert request.tuning == cloud.id
    assert request.overrides["recipe"] == "mlp" and request.overrides["workers"] == 1
    assert request.overrides["training"]["learning_rate"] == trial.values["training.learning_rate"]
    assert cloud.run(0)["status"] == "running" and cloud.run(0)["stage"] == "Start Training"


def test_the_winner_of_before_may_win_again() -> None:
    cloud = CatalogCloud(budget=Budget(trials=3))
    cloud.play()
    cloud.conclude()
    cloud.end_run(2, "succeeded")
    cloud.conclude()
    cloud.catalog.resume(cloud.id, 1, 1, Budget(trials=4))
    cloud.attempt = 2
    cloud.play(score=lambda number: 0.001)
    assert cloud.conclude() == "end"
    assert cloud.run(2)["status"] == "succeeded"
