"""Runs that somebody asks for: which version, found again, followed after a failure; and other workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.errors import BadConfig, BadNetwork, BadRequest, Conflict, NotFound
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.registry.audit import Caller
from shoal_core.registry.requesting import RequestRun, change_workers, committed_version
from shoal_core.training.requests import RunRequest
from tests.support.stores import MemoryStore

OLD, NEW, RAW = "0" * 12, "1" * 12, "2" * 12
RIGHT, WRONG = "a" * 64, "b" * 64
SOMEBODY = Caller(who="abc", source="10.0.0.1")


class Records:
    """The catalog's part, in memory."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.latest = NEW
        self.status = {OLD: "ready", NEW: "ready", RAW: "preparing"}
        self.audited: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.started: list[tuple[str, str, str]] = []

    def dataset_items(self, dataset: str) -> list[dict[str, Any]]:
        if dataset != "digits":
            raise NotFound("no")
        versions = [
            {"sk": f"VERSION#{name}", "version": name, "status": status, "upload_order": name, "run_id": f"run-{name}"}
            for name, status in self.status.items()
        ]
        return [{"sk": "DATASET", "latest_version": self.latest}, {"sk": "SCHEDULE"}, *versions]

    def begin_requested(self, run_id: str, request: RunRequest) -> bool:
        if run_id in self.runs:
            return False
        self.runs[run_id] = {"status": "running", "asked": request}
        return True

    def run_record(self, run_id: str) -> dict[str, Any]:
        return self.runs[run_id]

    def want_workers(self, run_id: str, workers: int) -> bool:
        if self.runs[run_id]["status"] != "running":
            return False
        self.runs[run_id]["workers_wanted"] = workers
        return True

    def check(self, dataset: str, version: str, network: Mapping[str, Any]) -> None:
        if network["sha256"] == WRONG:
            raise BadNetwork("It has no gradient.", "Use another.")

    def start(self, run_id: str, dataset: str, version: str) -> None:
        self.started.append((run_id, dataset, version))

    def record(
        self,
        action: str,
        subject: str,
        who: str,
        source: str = "",
        details: Mapping[str, Any] | None = None,
        once: str | None = None,
    ) -> None:
        entry = (action, subject, who, details or {})
        if all(known[1] != subject for known in self.audited):
            self.audited.append(entry)


def begin() -> tuple[Records, MemoryStore, RequestRun]:
    records, store = Records(), MemoryStore()
    for version in (OLD, NEW):
        config = DatasetConfig(seed=3).model_dump(mode="json")
        store.write(DatasetKeys("digits", version).manifest, json.dumps({"config": config}).encode())
    return records, store, RequestRun(store, records, records.start, records, records.check)


def request(**overrides: Any) -> RunRequest:
    return RunRequest(dataset="digits", version=NEW, overrides=overrides)


def test_the_newest_committed_version_is_meant_unless_one_is_named() -> None:
    records, _, _ = begin()
    assert committed_version(records, "digits", None) == NEW
    assert committed_version(records, "digits", OLD) == OLD
    records.latest = RAW
    assert committed_version(records, "digits", None) == NEW
    records.latest = OLD  # its bytes came back
    assert committed_version(records, "digits", None) == OLD
    with pytest.raises(Conflict, match=f"Version '{RAW}' of dataset 'digits' isn't committed"):
        committed_version(records, "digits", RAW)
    with pytest.raises(NotFound, match="has no version 'nothing'"):
        committed_version(records, "digits", "nothing")
    records.status = {RAW: "preparing"}
    with pytest.raises(NotFound, match="no committed version yet"):
        committed_version(records, "digits", None)


def test_a_run_is_recorded_told_and_started_in_this_order() -> None:
    records, store, ask = begin()
    found = ask(request(training={"epochs": 5}), SOMEBODY)
    assert (found.dataset, found.version, found.unchanged) == ("digits", NEW, False)
    written = RunRequest.model_validate_json(store.read(RunKeys(found.run_id).request))
    assert written == records.runs[found.run_id]["asked"] == request(training={"epochs": 5})
    details = {"dataset": "digits", "version": NEW, "overrides": {"training": {"epochs": 5}}}
    assert records.audited == [("run.requested", found.run_id, "abc", details)]
    assert records.started == [(found.run_id, "digits", NEW)]


def test_the_same_request_finds_its_run_and_a_failed_one_gets_a_successor() -> None:
    records, _, ask = begin()
    first = ask(request(), SOMEBODY)
    again = ask(request(), SOMEBODY)
    assert again == first.model_copy(update={"unchanged": True})
    assert len(records.started) == 2, "an execution that wasn't started is, one that was is left alone"
    records.runs[first.run_id]["status"] = "failed"
    second = ask(request(), SOMEBODY)
    assert (second.run_id, second.unchanged) == (f"{first.run_id}-2", False)
    records.runs[second.run_id]["status"] = "succeeded"
    third = ask(request(), SOMEBODY)
    assert (third.run_id, third.unchanged, len(records.started)) == (second.run_id, True, 3)
    assert ask(request(seed=9), SOMEBODY).run_id not in (first.run_id, second.run_id)
    assert [entry[1] for entry in records.audited][:2] == [first.run_id, second.run_id]


def test_a_request_that_keeps_failing_ends() -> None:
    records, _, ask = begin()
    for _ in range(100):
        records.runs[ask(request(), SOMEBODY).run_id]["status"] = "failed"
    with pytest.raises(Conflict, match="has failed 100 times"):
        ask(request(), SOMEBODY)


def test_what_cannot_be_asked_for_leaves_nothing() -> None:
    records, store, ask = begin()
    before = dict(store.objects)
    with pytest.raises(BadConfig, match="'split' says what the data are"):
        ask(request(split={"test": 0.5}), SOMEBODY)
    assert (records.runs, records.audited, records.started, store.objects) == ({}, [], [], before)


def test_workers_are_changed_within_what_can_work() -> None:
    records, _, ask = begin()
    run = ask(request(), SOMEBODY).run_id
    with pytest.raises(Conflict, match="hasn't begun to train"):
        change_workers(records, run, 2)
    records.runs[run]["settings"] = json.dumps({"workers": 1, "most_workers": 4, "compute": {"service": "sagemaker"}})
    with pytest.raises(Conflict, match="trains as a SageMaker job"):
        change_workers(records, run, 2)
    records.runs[run]["settings"] = json.dumps({"workers": 2, "most_workers": 4, "compute": "lambda"})
    records.runs[run]["request"] = json.dumps({"tuning": "digits-search"})
    with pytest.raises(Conflict, match="a trial of the search 'digits-search'"):
        change_workers(records, run, 2)
    records.runs[run]["request"] = json.dumps({"overrides": {}})
    for workers in (0, 5):
        with pytest.raises(BadRequest, match=f"can't have {workers} workers: 1 to 4 fit"):
            change_workers(records, run, workers)
    assert "workers_wanted" not in records.runs[run]
    assert (change_workers(records, run, 4).before, records.runs[run]["workers_wanted"]) == (2, 4)
    assert change_workers(records, run, 3).before == 4
    records.runs[run]["status"] = "succeeded"
    with pytest.raises(Conflict, match="has succeeded: its workers are done"):
        change_workers(records, run, 2)


def test_a_network_is_checked_before_anything_is_recorded() -> None:
    records, store, ask = begin()
    with pytest.raises(BadNetwork, match="no gradient"):
        ask(RunRequest(dataset="digits", version=NEW, network=WRONG), SOMEBODY)
    named = {"recipe": "network", "network": {"sha256": WRONG}}
    with pytest.raises(BadNetwork, match="no gradient"):
        ask(request(**named), SOMEBODY)
    assert not records.runs and not records.started and not records.audited
    started = ask(RunRequest(dataset="digits", version=NEW, network=RIGHT), SOMEBODY)
    assert records.started == [(started.run_id, "digits", NEW)]
    assert records.audited[0][3]["network"] == RIGHT
    assert json.loads(store.read(RunKeys(started.run_id).request))["network"] == RIGHT
