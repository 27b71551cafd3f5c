"""CloudWatch of the embedded cloud: metrics out of log lines, alarms that go off, functions that are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from shoal.local.alarms import AlarmClock
from shoal.local.compute.errors import FunctionNotFound
from shoal.local.compute.spec import LogRecord
from shoal.local.deploy.cloudwatch import ALARM
from shoal.local.deploy.registry import property_problems
from shoal.local.metrics import MetricCollector, samples_of
from shoal.local.template import Resource

ACCOUNT, REGION = "123456789012", "us-east-1"
NOW = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shoal-advance-canary"


def record(message: str, moment: datetime = NOW) -> LogRecord:
    return LogRecord(
        log_group="/aws/lambda/shoal-predict",
        log_stream="s",
        timestamp_ms=int(moment.timestamp() * 1000),
        message=message,
        request_id="r",
        source="shoal-predict",
    )


def line(value: Any, moment: datetime = NOW, **changes: Any) -> LogRecord:
    """What Powertools writes of one metric."""
    document = {
        "_aws": {
            "Timestamp": int(moment.timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": "Shoal",
                    "Dimensions": [["function_name"]],
                    "Metrics": [{"Name": "CanaryErrors", "Unit": "Count"}],
                }
            ],
        },
        "function_name": "shoal-predict",
        "CanaryErrors": value,
        **changes,
    }  # fmt: skip
    return record(json.dumps(document), moment)


class Lambda:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.gone = False

    def invoke(self, name: str, payload: bytes, *, invocation_type: Literal["Event"]) -> object:
        if self.gone:
            raise FunctionNotFound(f"Function not found: {name}", "")
        self.events.append((name, json.loads(payload)))
        return None


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("cloudwatch", region_name=REGION)


def alarm(client: Any, **changes: Any) -> None:
    client.put_metric_alarm(
        **{
            "AlarmName": "canary-errors",
            "Namespace": "Shoal",
            "MetricName": "CanaryErrors",
            "Dimensions": [{"Name": "function_name", "Value": "shoal-predict"}],
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 2.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
            "AlarmActions": [FUNCTION],
            **changes,
        }
    )


def state(client: Any) -> str:
    return str(client.describe_alarms()["MetricAlarms"][0]["StateValue"])


def test_an_alarm_goes_off_once_and_tells_the_function(client: Any) -> None:
    alarm(client)
    lambda_, collector = Lambda(), MetricCollector(ACCOUNT, REGION)
    clock = AlarmClock(lambda_, ACCOUNT, REGION)
    assert clock.tick(NOW) == [] and state(client) == "OK"
    collector.add([line([1.0])])
    assert clock.tick(NOW + timedelta(seconds=1)) == []
    collector.add([line(1)])
    assert clock.tick(NOW + timedelta(seconds=2)) == ["canary-errors"]
    assert clock.tick(NOW + timedelta(seconds=3)) == []
    ((name, event),) = lambda_.events
    assert name == FUNCTION
    assert (event["source"], event["alarmData"]["alarmName"]) == ("aws.cloudwatch", "canary-errors")
    assert event["alarmData"]["state"]["value"] == "ALARM"
    assert event["alarmData"]["previousState"]["value"] == "OK"
    assert clock.tick(NOW + timedelta(seconds=70)) == [] and state(client) == "OK"


def test_a_function_that_is_gone_doesnt_stop_the_clock(client: Any) -> None:
    alarm(client)
    lambda_ = Lambda()
    lambda_.gone = True
    MetricCollector(ACCOUNT, REGION).add([line(5)])
    clock = AlarmClock(lambda_, ACCOUNT, REGION)
    assert clock.tick(NOW + timedelta(seconds=1)) == ["canary-errors"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"TreatMissingData": "breaching"}, "ALARM"),
        ({"TreatMissingData": "missing"}, "INSUFFICIENT_DATA"),
        ({"TreatMissingData": "notBreaching"}, "OK"),
    ],
)
def test_what_missing_data_counts_as(client: Any, changes: dict[str, Any], expected: str) -> None:
    alarm(client, **changes)
    AlarmClock(Lambda(), ACCOUNT, REGION).tick(NOW)
    assert state(client) == expected


@pytest.mark.parametrize(
    ("statistic", "operator", "threshold", "expected"),
    [
        ("Maximum", "GreaterThanThreshold", 3.0, "ALARM"),
        ("Minimum", "LessThanThreshold", 1.0, "OK"),
        ("Average", "GreaterThanOrEqualToThreshold", 2.5, "ALARM"),
        ("SampleCount", "LessThanOrEqualToThreshold", 2.0, "ALARM"),
        ("Sum", "GreaterThanThreshold", 5.0, "OK"),
    ],
)
def test_statistics_and_comparisons(
    client: Any, statistic: str, operator: str, threshold: float, expected: str
) -> None:
    alarm(client, Statistic=statistic, ComparisonOperator=operator, Threshold=threshold)
    MetricCollector(ACCOUNT, REGION).add([line([1.0]), line([4.0])])
    AlarmClock(Lambda(), ACCOUNT, REGION).tick(NOW + timedelta(seconds=1))
    assert state(client) == expected


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ExtendedStatistic", "p99", "isn't honoured"),
        ("Metrics", [], "isn't honoured"),
        ("OKActions", [FUNCTION], "isn't honoured"),
        ("Statistic", "p99", "only 'Sum' or"),
        ("ComparisonOperator", "LessThanLowerThreshold", "only 'Greater"),
        ("TreatMissingData", "ignore", "only 'notBreaching'"),
    ],
)
def test_what_isnt_honoured_of_an_alarm_is_refused_by_name(name: str, value: object, reason: str) -> None:
    resource = Resource("Alarm", "AWS::CloudWatch::Alarm", {"Threshold": 1, name: value}, ())
    (problem,) = property_problems(resource, ALARM)
    assert f"property {name}" in problem and reason in problem


def test_several_periods_and_other_dimensions(client: Any) -> None:
    alarm(client, EvaluationPeriods=3, DatapointsToAlarm=2, Threshold=1.0)
    collector, clock = MetricCollector(ACCOUNT, REGION), AlarmClock(Lambda(), ACCOUNT, REGION)
    collector.add([line(1), line(9, function_name="another")])
    clock.tick(NOW + timedelta(seconds=1))
    assert state(client) == "OK"
    collector.add([line(1, NOW - timedelta(seconds=120))])
    clock.tick(NOW + timedelta(seconds=1))
    assert state(client) == "ALARM"


def test_lambdas_own_reports_become_its_metrics() -> None:
    text = "REPORT RequestId: 1-2\tDuration: 12.50 ms\tBilled Duration: 13 ms\tMemory Size: 512 MB\t"
    found = {sample.metric.name: sample.values for sample in samples_of(record(text))}
    assert found == {"Invocations": (1.0,), "Errors": (0.0,), "Duration": (12.5,)}
    died = {sample.metric.name: sample.values for sample in samples_of(record(f"{text}Status: timeout"))}
    assert died["Errors"] == (1.0,)


@pytest.mark.parametrize(
    "text",
    ["", "plain", "{", '{"CloudWatchMetrics"', '{"_aws": {"CloudWatchMetrics": 7, "Timestamp": 1}}', "REPORT nothing",
     '{"_aws": {"CloudWatchMetrics": [{"Dimensions": [["x"]], "Metrics": []}], "Timestamp": 1}}'],
)  # fmt: skip
def test_other_lines_tell_nothing(text: str) -> None:
    assert list(samples_of(record(text))) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), min_size=1, max_size=50))
def test_statistics_are_those_of_the_values_however_many_there_are(values: list[tuple[int, float]]) -> None:
    with mock_aws():
        collector = MetricCollector(ACCOUNT, REGION)
        for second, value in values:
            collector.add([line([value], NOW + timedelta(seconds=second))])
        data = cloudwatch_backends[ACCOUNT][REGION].metric_data
        assert len(data) == len({second for second, _ in values})
        numbers = [value for _, value in values]
        assert sum(datum.sum for datum in data) == pytest.approx(sum(numbers), abs=1e-3)
        assert sum(datum.sample_count for datum in data) == len(values)
        assert min(datum.min for datum in data) == min(numbers)
        assert max(datum.max for datum in data) == max(numbers)
