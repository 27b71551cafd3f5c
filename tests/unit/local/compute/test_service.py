"""Invoke as AWS documents it, against real workers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from shoal.local.compute import (
    BadFunction,
    BadInvocation,
    Credentials,
    FunctionNotFound,
    RequestTooLarge,
    ServiceStopped,
    TooManyRequests,
)
from tests.unit.local.compute.conftest import Opener, function, until


def test_answers_with_the_environment_of_aws_and_nothing_of_the_user(open_cloud: Opener, monkeypatch):
    monkeypatch.setenv("USERS_SECRET", "hush")
    spec = function("echo", environment={"OWN": "1"}, credentials=Credentials("AK", "SK", "ST"), tracing=True)
    cloud = open_cloud(spec)
    context = base64.b64encode(b'{"custom": {"a": "\xc3\xa9"}}').decode()
    result = cloud.call("echo", {"n": 1}, client_context=context)
    answer = json.loads(result.payload)
    environment = answer["environment"]
    assert (result.status, result.function_error, result.executed_version) == (200, None, "$LATEST")
    assert answer["event"] == {"n": 1}
    assert answer["arn"] == spec.arn
    assert answer["request_id"] == result.request_id
    assert answer["custom"] == {"a": "é"}
    assert 0 < answer["remaining_ms"] <= 10_000
    assert environment["_X_AMZN_TRACE_ID"].startswith("Root=1-") and environment["_X_AMZN_TRACE_ID"].endswith(
        "Sampled=1"
    )
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": "echo",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "SK",
        "AWS_SESSION_TOKEN": "ST",
        "LAMBDA_TASK_ROOT": str(spec.code),
        "TZ": ":UTC",
        "OWN": "1",
    }
    assert expected.items() <= environment.items()
    assert not {"USERS_SECRET", "HOME", "OMP_NUM_THREADS", "VIRTUAL_ENV"} & environment.keys()


def test_a_warm_worker_is_used_again_by_name_or_arn(open_cloud: Opener):
    spec = function("echo")
    cloud = open_cloud(spec)
    first = cloud.call("echo")
    answers = [json.loads(cloud.call(name).payload) for name in ("echo", spec.arn, f"{spec.arn}:$LATEST")]
    assert [answer["calls"] for answer in answers] == [2, 3, 4]
    assert first.init_ms is not None and cloud.call("echo").init_ms is None


def test_log_lines_and_tail(open_cloud: Opener):
    cloud = open_cloud(function("chatter"))
    result = cloud.call("chatter", log_tail=True)
    lines = cloud.lines("chatter")
    assert lines[0].startswith("INIT_START Runtime Version: python:3.")
    assert lines[1] == f"START RequestId: {result.request_id} Version: $LATEST"
    assert lines[2:2002] == [f"line {number}" for number in range(2000)]
    assert lines[2002:2004] == ["no line break", f"END RequestId: {result.request_id}"]
    report = lines[2004].split("\t")
    assert report[0] == f"REPORT RequestId: {result.request_id}"
    assert [field.split(":")[0] for field in report[1:6]] == [
        "Duration", "Billed Duration", "Memory Size", "Max Memory Used", "Init Duration",
    ]  # fmt: skip
    assert report[2] == f"Billed Duration: {result.billed_ms} ms"
    assert len(result.log_tail) == 4096 and result.log_tail.endswith(b"ms\t\n")
    assert {record.request_id for record in cloud.logs[1:]} == {result.request_id}
    assert cloud.call("chatter").log_tail is None


def test_a_sink_that_raises_costs_only_its_record(open_cloud: Opener):
    cloud = open_cloud(function("echo"), log_sink=_broken_sink)
    assert cloud.call("echo").function_error is None


def _broken_sink(record):
    raise OSError("disk full")


def test_an_exception_is_an_unhandled_error_and_the_worker_stays(open_cloud: Opener):
    cloud = open_cloud(function("fail"))
    result = cloud.call("fail")
    error = json.loads(result.payload)
    assert (result.status, result.function_error) == (200, "Unhandled")
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no luck")
    assert any("[ERROR] ValueError: no luck\nTraceback" in line for line in cloud.lines("fail"))
    assert cloud.call("fail").init_ms is None


def test_timeout_kills_the_worker(open_cloud: Opener):
    cloud = open_cloud(function("sleep", timeout_s=1))
    pid = json.loads(cloud.call("sleep", {"seconds": 0}).payload)
    result = cloud.call("sleep", {"seconds": 60}, log_tail=True)
    assert json.loads(result.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 1.00 seconds",
    }
    assert result.function_error == "Unhandled" and b"Status: timeout" in result.log_tail
    until(lambda: not psutil.pid_exists(pid))
    assert json.loads(cloud.call("sleep", {"seconds": 0}).payload) != pid


@pytest.mark.parametrize("handler", ["hold", "hold_in_child"])
def test_memory_over_the_limit_kills(open_cloud: Opener, handler: str):
    cloud = open_cloud(function(handler, memory_mb=128))
    result = cloud.call(handler, {"mb": 300, "seconds": 30}, log_tail=True)
    assert json.loads(result.payload) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {result.request_id} Error: Runtime exited with error: signal: killed",
    }
    assert b"Error Type: Runtime.OutOfMemory" in result.log_tail
    assert b"Max Memory Used: 128 MB" in result.log_tail


def test_memory_over_the_limit_for_a_moment_is_seen_too(open_cloud: Opener):
    cloud = open_cloud(function("hold", memory_mb=128))
    assert b"signal: killed" in cloud.call("hold", {"mb": 150}).payload
    assert cloud.call("hold", {"mb": 20}).function_error is None


def test_exit_during_an_invocation(open_cloud: Opener):
    cloud = open_cloud(function("leave"))
    for status, reason in [(3, "with error: exit status 3"), (0, "without providing a reason")]:
        result = cloud.call("leave", {"status": status})
        assert json.loads(result.payload) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {result.request_id} Error: Runtime exited {reason}",
        }


def test_a_worker_killed_from_outside_answers_at_once_and_the_pool_heals(open_cloud: Opener):
    cloud = open_cloud(function("sleep"))
    pid = json.loads(cloud.call("sleep", {"seconds": 0}).payload)
    with ThreadPoolExecutor() as threads:
        call = threads.submit(cloud.call, "sleep", {"seconds": 60})
        until(lambda: len([line for line in cloud.lines("sleep") if line.startswith("START")]) == 2)
        os.kill(pid, signal.SIGKILL)
        error = json.loads(call.result().payload)
    assert error["errorType"] == "Runtime.ExitError" and error["errorMessage"].endswith("signal: killed")
    assert json.loads(cloud.call("sleep", {"seconds": 0}).payload) != pid


def test_an_idle_worker_killed_from_outside_is_replaced(open_cloud: Opener):
    cloud = open_cloud(function("sleep"))
    pid = json.loads(cloud.call("sleep", {"seconds": 0}).payload)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))
    assert json.loads(cloud.call("sleep", {"seconds": 0}).payload) != pid


def test_init_errors(open_cloud: Opener):
    cloud = open_cloud(
        function("echo", "raises", environment={"FAIL_IMPORT": "1"}),
        function("echo", "exits", environment={"EXIT_IMPORT": "1"}),
        function("missing", "absent"),
    )
    results = {name: cloud.call(name, log_tail=True) for name in ("raises", "exits", "absent")}
    errors = {name: json.loads(result.payload) for name, result in results.items()}
    assert (errors["raises"]["errorType"], errors["raises"]["errorMessage"]) == ("RuntimeError", "no luck at import")
    assert errors["exits"]["errorType"] == "Runtime.ExitError"
    assert errors["exits"]["errorMessage"].endswith("Runtime exited with error: exit status 7")
    assert errors["absent"]["errorType"] == "Runtime.HandlerNotFound"
    assert all(result.function_error == "Unhandled" for result in results.values())
    assert any(line.startswith("INIT_REPORT") and "Status: error" in line for line in cloud.lines("raises"))


def test_an_init_over_its_limit_is_tried_again_with_the_functions_timeout(open_cloud: Opener):
    slow = {"SLOW_IMPORT": "0.5"}
    cloud = open_cloud(
        function("echo", "enough", environment=slow, timeout_s=30),
        function("echo", "short", environment={"SLOW_IMPORT": "30"}, timeout_s=1),
        init_seconds=0.3,
    )
    assert cloud.call("enough").function_error is None
    error = json.loads(cloud.call("short").payload)
    assert error["errorType"] == "Sandbox.Timedout" and "1.00 seconds" in error["errorMessage"]


def test_a_python_that_does_not_exist(open_cloud: Opener):
    cloud = open_cloud(function("echo"), python="/nowhere/python")
    assert json.loads(cloud.call("echo").payload)["errorType"] == "Runtime.InvalidEntrypoint"


def test_storage_over_the_limit_fails_and_recycles(open_cloud: Opener):
    cloud = open_cloud(function("fill_tmp", ephemeral_mb=512, memory_mb=2048))
    result = cloud.call("fill_tmp", {"mb": 520})
    error = json.loads(result.payload)
    assert error["errorType"] == "OSError" and "No space left on device" in error["errorMessage"]
    assert cloud.call("fill_tmp", {"mb": 1}).function_error is None


def test_payload_limits(open_cloud: Opener):
    cloud = open_cloud(function("sleep"), function("answer_bytes"))
    too_large = json.dumps("x" * 6_291_455).encode()
    with pytest.raises(RequestTooLarge, match="smaller than 6291456 bytes") as refused:
        cloud.service.invoke("sleep", too_large)
    assert (refused.value.status, refused.value.code) == (413, "RequestTooLargeException")
    with pytest.raises(RequestTooLarge, match="1048577 byte payload is too large for the Event"):
        cloud.service.invoke("sleep", json.dumps("x" * 1_048_575).encode(), invocation_type="Event")
    assert len(cloud.call("answer_bytes", {"bytes": 6_291_554}).payload) == 6_291_556
    result = cloud.call("answer_bytes", {"bytes": 6_291_555})
    assert json.loads(result.payload) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert cloud.call("answer_bytes", {"bytes": 1}).function_error is None


def test_what_is_refused(open_cloud: Opener):
    cloud = open_cloud(function("echo"), function("echo", "closed", reserved_concurrency=0))
    with pytest.raises(FunctionNotFound, match="Function not found: nobody"):
        cloud.call("nobody")
    with pytest.raises(BadInvocation, match="Could not parse request body into json"):
        cloud.service.invoke("echo", b"{")
    with pytest.raises(BadInvocation):
        cloud.call("echo", invocation_type="Later")
    with pytest.raises(BadInvocation, match="Base64"):
        cloud.call("echo", client_context="***")
    with pytest.raises(TooManyRequests) as refused:
        cloud.call("closed")
    assert json.loads(refused.value.body())["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert json.loads(cloud.service.invoke("echo", b"").payload)["event"] == {}
    assert cloud.call("echo", invocation_type="DryRun").status == 204


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_mb": 127},
        {"timeout_s": 901},
        {"ephemeral_mb": 100},
        {"max_retry_attempts": 3},
        {"environment": {"AWS_REGION": "x"}},
        {"environment": {"A": "x" * 4096}},
    ],
)
def test_specs_that_aws_refuses(open_cloud: Opener, wrong):
    with pytest.raises(BadFunction, match="'echo'"):
        open_cloud(function("echo", **wrong))


def test_ainvoke_from_another_loop(open_cloud: Opener):
    cloud = open_cloud(function("echo"))
    result = asyncio.run(cloud.service.ainvoke("echo", b"1"))
    assert json.loads(result.payload)["event"] == 1


def test_close_kills_workers_and_their_children_and_frees_callers(open_cloud: Opener):
    cloud = open_cloud(function("sleep"), function("start_child"))
    child = json.loads(cloud.call("start_child").payload)
    pid = json.loads(cloud.call("sleep", {"seconds": 0}).payload)
    with ThreadPoolExecutor() as threads:
        call = threads.submit(cloud.call, "sleep", {"seconds": 60})
        until(lambda: len([line for line in cloud.lines("sleep") if line.startswith("START")]) == 2)
        cloud.service.close()
        with pytest.raises(ServiceStopped):
            call.result()
    assert not psutil.pid_exists(pid)
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ServiceStopped):
        cloud.call("sleep")
    cloud.service.start()
    assert cloud.call("sleep", {"seconds": 0}).function_error is None
