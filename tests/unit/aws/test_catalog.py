"""Versions and aliases: numbers are reserved once per run, and a late run doesn't replace a newer upload's model."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shoal_core.aws import table as table_module
from shoal_core.aws.catalog import Catalog
from shoal_core.errors import NotFound
from shoal_core.registry.promotion import Standing
from shoal_core.registry.records import ModelVersion, Source
from shoal_core.registry.routing import Aliases, Limits, start_canary
from shoal_core.training.requests import RunRequest
from tests.support.aws import stack

SOURCE = [Source(key="datasets/flowers/f.csv", version="1", size=9)]


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    with stack():
        yield Catalog()


def publish(catalog: Catalog, run_id: str, dataset_version: str) -> int:
    number = catalog.reserve_version("flowers", run_id)
    catalog.publish_version(
        "flowers",
        ModelVersion(
            version=number,
            run_id=run_id,
            dataset="flowers",
            dataset_version=dataset_version,
            task="classification",
            metrics={},
            digest="0" * 64,
            bytes=1,
            created_at="2026-11-21T08:00:00.000Z",
        ),
    )
    return number


def test_a_run_by_request_is_recorded_once_and_has_other_workers_while_it_goes(catalog: Catalog) -> None:
    request = RunRequest(dataset="flowers", version="v1", overrides={"seed": 1})
    assert catalog.begin_requested("r", request) and not catalog.begin_requested("r", request)
    record = catalog.run_record("r")
    assert (record["stage"], record["source"], record["request"]) == (
        "Start Training", "[]", '{"overrides":{"seed":1}}',
    )  # fmt: skip
    assert catalog.run_ids("flowers") == ["r"]
    assert catalog.workers_wanted("r") is None
    assert catalog.want_workers("r", 3) and catalog.workers_wanted("r") == 3
    catalog.run_succeeded("r", "flowers", 1)
    assert not catalog.want_workers("r", 4) and not catalog.want_workers("nobody", 4)
    assert catalog.workers_wanted("r") == 3 and catalog.workers_wanted("nobody") is None
    with pytest.raises(NotFound, match="Run 'nobody' doesn't exist"):
        catalog.run_record("nobody")


def test_a_run_keeps_the_number_that_it_reserved(catalog: Catalog) -> None:
    assert [catalog.reserve_version("flowers", run) for run in ("a", "b", "a")] == [1, 2, 1]


class OneAtATime:
    """DynamoDB, one request at a time, as in the embedded cloud: in threads, moto's transactions aren't atomic."""

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def alone(**arguments: Any) -> Any:
            with self._lock:
                return call(**arguments)

        return alone


def test_runs_that_reserve_at_once_get_numbers_of_their_own(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    served = OneAtATime(table_module.client("dynamodb"))
    monkeypatch.setattr(table_module, "client", lambda service: served)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda run: catalog.reserve_version("flowers", f"run-{run % 8}"), range(16)))
    assert sorted(set(numbers)) == list(range(1, 9))
    assert numbers[:8] == numbers[8:]


def test_a_reserved_number_serves_nobody(catalog: Catalog) -> None:
    catalog.reserve_version("flowers", "a")
    with pytest.raises(NotFound):
        catalog.alias("flowers")
    assert catalog.model_names() == []


def test_a_newer_uploads_model_serves_whichever_run_ends_last(catalog: Catalog) -> None:
    catalog.begin_run("old", "flowers", "v1", SOURCE, "2026-11-21T08:00:00#1")
    catalog.begin_run("new", "flowers", "v2", SOURCE, "2026-11-21T09:00:00#1")
    assert publish(catalog, "new", "v2") == 1
    assert publish(catalog, "old", "v1") == 2
    assert catalog.alias("flowers") == 1


def test_a_later_upload_takes_over(catalog: Catalog) -> None:
    catalog.begin_run("old", "flowers", "v1", SOURCE, "2026-11-21T08:00:00#1")
    catalog.begin_run("new", "flowers", "v2", SOURCE, "2026-11-21T09:00:00#1")
    publish(catalog, "old", "v1")
    publish(catalog, "new", "v2")
    assert catalog.alias("flowers") == 2


def test_publishing_twice_changes_nothing(catalog: Catalog) -> None:
    catalog.begin_run("a", "flowers", "v1", SOURCE, "2026-11-21T08:00:00#1")
    assert publish(catalog, "a", "v1") == publish(catalog, "a", "v1") == 1
    assert len([item for item in catalog.model_items("flowers") if item["sk"].startswith("VERSION#")]) == 1


def test_the_previous_version_is_the_newest_ready_one_before(catalog: Catalog) -> None:
    for version, order in (("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")):
        assert catalog.begin_run(f"flowers-{version}", "flowers", version, SOURCE, order)
    assert catalog.previous_version("flowers", "c") is None
    for version in ("a", "b", "d", "c"):
        catalog.dataset_committed("flowers", version, "classification", {"train": 1})
    found = {version: catalog.previous_version("flowers", version) for version in "abcd"}
    assert found == {"a": None, "b": "a", "c": "b", "d": "c"}


def test_a_rollback_stays_until_the_next_upload(catalog: Catalog) -> None:
    for version, order in (("one", "2026-11-21T08"), ("two", "2026-11-21T09"), ("three", "2026-11-21T10")):
        catalog.begin_run(f"run-{version}", "flowers", version, SOURCE, order)
    publish(catalog, "run-one", "one")
    publish(catalog, "run-two", "two")
    assert catalog.move_production("flowers", 1) == (2, 1)
    publish(catalog, "run-two", "two")  # Step Functions tries Register Model again
    assert catalog.alias("flowers") == 1
    assert catalog.move_production("flowers") == (1, 2)
    assert catalog.move_production("flowers") == (2, 1)
    assert catalog.move_production("flowers", 1) == (1, 1)
    publish(catalog, "run-three", "three")
    assert catalog.alias("flowers") == 3


def test_a_version_that_isnt_there_cant_serve(catalog: Catalog) -> None:
    catalog.begin_run("run-one", "flowers", "one", SOURCE, "2026-11-21T08")
    publish(catalog, "run-one", "one")
    for version, reason in ((7, "no version 7"), (None, "no version that served before")):
        with pytest.raises(NotFound, match=reason):
            catalog.move_production("flowers", version)
    with pytest.raises(NotFound, match="'nobody' doesn't exist"):
        catalog.move_production("nobody", 1)


def three_versions(catalog: Catalog) -> None:
    for version, order in (("one", "2026-11-21T08"), ("two", "2026-11-21T09"), ("three", "2026-11-21T10")):
        catalog.begin_run(f"run-{version}", "flowers", version, SOURCE, order)
        publish(catalog, f"run-{version}", version)


def test_a_change_is_made_on_what_is_there_now(catalog: Catalog) -> None:
    three_versions(catalog)
    seen = []

    def change(aliases: Aliases) -> Aliases:
        seen.append(aliases.revision)
        if len(seen) == 1:  # somebody else is faster
            catalog.change_aliases("flowers", lambda now: now.with_named("theirs", 1))
        return aliases.with_named("mine", 2)

    before, after = catalog.change_aliases("flowers", change)
    assert seen == [3, 4]
    assert (before.revision, after.revision) == (4, 5)
    assert catalog.aliases("flowers").all() == {"production": 3, "mine": 2, "theirs": 1}
    assert catalog.change_aliases("flowers", lambda now: now)[1].revision == 5


def test_a_version_is_decided_on_what_serves_at_that_moment(catalog: Catalog) -> None:
    three_versions(catalog)
    catalog.begin_run("run-four", "flowers", "four", SOURCE, "2026-11-21T11")
    champions = []

    def decide(standing: Standing) -> dict[str, Any]:
        champions.append(standing.champion)
        if len(champions) == 1:  # a rollback, while the two are compared
            catalog.move_production("flowers", 1)
        return {"decision": "candidate", "reason": f"not better than {standing.champion}"}

    number = catalog.reserve_version("flowers", "run-four")
    version = ModelVersion.model_validate_json(
        next(item for item in catalog.model_items("flowers") if item["sk"].startswith("VERSION#"))["record"]
    ).model_copy(update={"version": number, "run_id": "run-four", "dataset_version": "four"})
    listed = catalog.publish_version("flowers", version, decide)
    assert champions == [3, 1]
    assert listed.promotion["reason"] == "not better than 1"
    assert catalog.aliases("flowers").all() == {"production": 1, "candidate": number}
    assert catalog.publish_version("flowers", version, decide) == listed
    assert champions == [3, 1]
    assert catalog.champion_of("flowers", "run-four") == 1
    assert catalog.champion_of("flowers", "run-one") is None
    assert catalog.champion_of("nobody", "run-one") is None


def test_models_with_a_canary_are_found_and_forgotten(catalog: Catalog) -> None:
    three_versions(catalog)
    assert catalog.models_with_canary() == []
    start = functools.partial(
        start_canary, version=1, percents=[5, 100], every=60, limits=Limits(), moment="2026-11-21T08:00:00+00:00"
    )
    catalog.change_aliases("flowers", lambda aliases: start(aliases))
    assert catalog.models_with_canary() == ["flowers"]
    assert catalog.move_production("flowers") == (1, 3)
    assert catalog.models_with_canary() == []
    catalog.change_aliases("flowers", lambda aliases: start(aliases))
    catalog.clear_canary_mark("flowers", 1)  # from before: it says nothing of now
    assert catalog.models_with_canary() == ["flowers"]
