"""The timer of the embedded cloud fires a rule's function while the rule is enabled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from shoal.local.compute.errors import FunctionNotFound
from shoal.local.deploy.deployment import Schedule
from shoal.local.schedules import ScheduleTimer
from shoal.local.state import StateStore

REGION = "us-east-1"
ACCOUNT = "123456789012"


class Lambda:
    def __init__(self) -> None:
        self.invoked: list[tuple[str, dict, str]] = []

    def invoke(self, name: str, payload: bytes, *, invocation_type: str) -> None:
        if name == "gone":
            raise FunctionNotFound("Function not found: gone", "")
        self.invoked.append((name, json.loads(payload), invocation_type))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = StateStore(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("events", region_name=REGION)
        for name, state in (("often", "ENABLED"), ("never", "DISABLED"), ("broken", "ENABLED")):
            client.put_rule(Name=name, ScheduleExpression="rate(5 minutes)", State=state)
        yield


def timer(store: StateStore, service: Lambda) -> ScheduleTimer:
    schedules = [
        Schedule("often", 300.0, "reader", '{"step": "due"}'),
        Schedule("never", 300.0, "other"),
        Schedule("broken", 300.0, "gone"),
    ]
    return ScheduleTimer(schedules, service, store, ACCOUNT, REGION)


def test_it_fires_what_is_enabled_and_due(store: StateStore) -> None:
    service = Lambda()
    clock = timer(store, service)
    assert clock.tick(1000.0) == []
    assert clock.tick(1299.0) == []
    assert clock.tick(1300.0) == ["often", "broken"]
    assert clock.tick(1301.0) == []
    assert service.invoked == [("reader", {"step": "due"}, "Event")]
    boto3.client("events", region_name=REGION).enable_rule(Name="never")
    boto3.client("events", region_name=REGION).disable_rule(Name="often")
    clock.tick(1400.0)
    assert clock.tick(1700.0) == ["never", "broken"]
    (name, event, _) = service.invoked[-1]
    assert (name, event["detail-type"], event["source"]) == ("other", "Scheduled Event", "aws.events")
    assert event["resources"] == [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/never"]


def test_what_is_enabled_stays_so_over_a_restart(store: StateStore) -> None:
    client = boto3.client("events", region_name=REGION)
    client.enable_rule(Name="never")
    timer(store, Lambda()).tick(0.0)
    client.disable_rule(Name="never")
    again = timer(store, Lambda())
    again.start()
    again.stop()
    assert client.describe_rule(Name="never")["State"] == "ENABLED"


def test_a_period_of_its_own_fires_rules_early_and_only_enabled_ones(store: StateStore) -> None:
    service = Lambda()
    schedules = [Schedule("often", 300.0, "reader"), Schedule("never", 300.0, "other")]
    early = ScheduleTimer(schedules, service, store, ACCOUNT, REGION, period=2.0)
    assert [early.tick(now) for now in (0.0, 1.0, 2.0, 3.0, 4.5)] == [[], [], ["often"], [], ["often"]]
