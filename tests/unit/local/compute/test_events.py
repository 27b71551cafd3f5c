"""Asynchronous invocations: kept, retried, given up with a record, delivered again after a restart."""

from __future__ import annotations

import json
import threading
import time

from shoal.local.compute import MemoryPending
from tests.unit.local.compute.conftest import Opener, function, until


def test_an_event_is_accepted_delivered_and_forgotten(open_cloud: Opener, tmp_path):
    cloud = open_cloud(function("fail_until"))
    event = {"counter": str(tmp_path / "n"), "successes_at": 1}
    result = cloud.call("fail_until", event, invocation_type="Event")
    assert (result.status, result.payload) == (202, b"")
    until(lambda: not cloud.pending.all())
    assert (tmp_path / "n").read_text() == "1"
    assert any(result.request_id in line for line in cloud.lines("fail_until"))


def test_a_failed_event_is_tried_three_times_under_one_id(open_cloud: Opener, tmp_path):
    cloud = open_cloud(function("fail_until"))
    event = {"counter": str(tmp_path / "n"), "successes_at": 3}
    result = cloud.call("fail_until", event, invocation_type="Event")
    until(lambda: not cloud.pending.all())
    starts = [line for line in cloud.lines("fail_until") if line.startswith("START")]
    assert starts == [f"START RequestId: {result.request_id} Version: $LATEST"] * 3
    assert cloud.failed == []


def test_an_event_that_fails_for_good_is_handed_over_with_awss_record(open_cloud: Opener):
    spec = function("fail", on_failure="arn:aws:sqs:us-east-1:123456789012:dead", max_retry_attempts=1)
    cloud = open_cloud(spec)
    result = cloud.call("fail", {"a": 1}, invocation_type="Event")
    until(lambda: not cloud.pending.all())
    [(given, failed)] = cloud.failed
    record = failed.record(given)
    assert given == spec
    assert record["version"] == "1.0" and record["timestamp"].endswith("Z")
    assert record["requestContext"] == {
        "requestId": result.request_id,
        "functionArn": f"{spec.arn}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 2,
    }
    assert record["requestPayload"] == {"a": 1}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_an_event_is_kept_until_it_is_handed_over(open_cloud: Opener):
    tries = []
    pending = MemoryPending()

    def hand_over(spec, failed):
        tries.append(len(pending.all()))
        if len(tries) < 3:
            raise OSError("the queue doesn't answer")

    cloud = open_cloud(function("fail", on_failure="arn", max_retry_attempts=0), pending=pending, on_failure=hand_over)
    cloud.call("fail", invocation_type="Event")
    until(lambda: not pending.all())
    assert tries == [1, 1, 1]


def test_events_that_grow_too_old_are_given_up(open_cloud: Opener):
    pending = MemoryPending()
    pending.add("old", "echo", b"{}", 0, time.time() - 100)
    cloud = open_cloud(function("echo", on_failure="arn", max_event_age_s=60), pending=pending)
    until(lambda: not pending.all())
    [(spec, failed)] = cloud.failed
    assert failed.condition == "EventAgeExceeded"
    assert "responsePayload" not in failed.record(spec)


def test_pending_events_are_delivered_after_a_restart_also_to_functions_deployed_later(open_cloud: Opener, tmp_path):
    pending = MemoryPending()
    for name in ("first", "second"):
        event = {"counter": str(tmp_path / name), "successes_at": 1}
        pending.add(name, name, json.dumps(event).encode(), 1, time.time())
    cloud = open_cloud(function("fail_until", "first"), pending=pending)
    until(lambda: [event.id for event in pending.all()] == ["second"])
    cloud.service.deploy(function("fail_until", "second"))
    until(lambda: not pending.all())


def test_events_under_way_survive_a_stop(open_cloud: Opener):
    cloud = open_cloud(function("sleep"))
    cloud.call("sleep", {"seconds": 60}, invocation_type="Event")
    until(lambda: any(line.startswith("START") for line in cloud.lines("sleep")))
    cloud.service.close()
    assert [event.attempt for event in cloud.pending.all()] == [0]


def test_throttled_events_wait_and_leave_room_for_callers(open_cloud: Opener):
    cloud = open_cloud(function("sleep", reserved_concurrency=0))
    cloud.call("sleep", {"seconds": 0}, invocation_type="Event")
    threading.Event().wait(0.02)
    assert len(cloud.pending.all()) == 1
    cloud.service.deploy(function("sleep"))
    until(lambda: not cloud.pending.all())
