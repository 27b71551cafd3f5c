"""Bounds, queues and the end of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from shoal.local.compute import TooManyRequests, fleet
from tests.unit.local.compute.conftest import FUNCTIONS, Cloud, Opener, function, until


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def pids(cloud: Cloud, name: str, times: int, seconds: float = 0.1) -> set[int]:
    with ThreadPoolExecutor(times) as threads:
        results = list(threads.map(lambda _: cloud.call(name, {"seconds": seconds}), range(times)))
    assert all(result.function_error is None for result in results)
    return {json.loads(result.payload) for result in results}


def test_at_most_the_limit_of_workers_per_function_and_callers_wait(open_cloud: Opener):
    cloud = open_cloud(function("sleep"), function("sleep", "reserved", reserved_concurrency=1))
    assert len(pids(cloud, "sleep", 8)) == 3
    assert len(pids(cloud, "reserved", 3)) == 1


def test_at_most_the_total_of_workers_and_idle_ones_make_room(open_cloud: Opener):
    cloud = open_cloud(*(function("sleep", name) for name in ("a", "b", "c")), max_workers_total=2)
    for name in ("a", "b", "c", "a"):
        assert len(pids(cloud, name, 4, 0.02)) <= 2
        assert len(workers()) <= 2


def test_a_function_without_a_worker_is_served_although_another_is_always_busy(open_cloud: Opener):
    cloud = open_cloud(function("sleep", "busy"), function("sleep", "late"), max_workers_total=1)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(cloud.call, "busy", {"seconds": 0.1}) for _ in range(4)]
        until(lambda: len(cloud.lines("busy")) > 1)
        late = threads.submit(cloud.call, "late", {"seconds": 0})
        calls += [threads.submit(cloud.call, "busy", {"seconds": 0.1}) for _ in range(2)]
        assert late.result().function_error is None
        assert all(call.result().function_error is None for call in calls)


def test_a_full_queue_throttles(open_cloud: Opener, monkeypatch, tmp_path):
    monkeypatch.setattr(fleet, "MAX_QUEUED", 2)
    cloud = open_cloud(function("wait_for", reserved_concurrency=1))
    event = {"path": str(tmp_path / "go")}
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(cloud.call, "wait_for", event)]
        until(lambda: any(line.startswith("START") for line in cloud.lines("wait_for")))
        calls += [threads.submit(cloud.call, "wait_for", event) for _ in range(2)]
        until(lambda: len(cloud.service._fleet.pools["wait_for"].queue) == 2)
        with pytest.raises(TooManyRequests) as refused:
            cloud.call("wait_for", event)
        (tmp_path / "go").touch()
        assert refused.value.status == 429
        assert all(call.result().function_error is None for call in calls)


def test_idle_workers_are_reaped(open_cloud: Opener):
    cloud = open_cloud(function("sleep"), idle_seconds=0.1)
    pid = json.loads(cloud.call("sleep", {"seconds": 0}).payload)
    until(lambda: not psutil.pid_exists(pid))
    assert cloud.call("sleep", {"seconds": 0}).init_ms is not None


def test_deploying_again_retires_workers_after_their_work(open_cloud: Opener):
    cloud = open_cloud(function("sleep"))
    with ThreadPoolExecutor() as threads:
        call = threads.submit(cloud.call, "sleep", {"seconds": 0.3})
        until(lambda: any(line.startswith("START") for line in cloud.lines("sleep")))
        cloud.service.deploy(function("echo", "sleep"))
        changed = json.loads(cloud.call("sleep").payload)
        old = json.loads(call.result().payload)
    assert changed["calls"] == 1 and changed["pid"] != old
    until(lambda: not psutil.pid_exists(old))


DAEMON = """
import sys, time
from pathlib import Path
from shoal.local.compute import FunctionSpec, LambdaService, MemoryPending
service = LambdaService(log_sink=lambda record: None, pending=MemoryPending(), on_failure=print,
                        max_workers_per_function=2, max_workers_total=2, idle_seconds=60)
service.deploy(FunctionSpec("echo", "arn:aws:lambda:us-east-1:123456789012:function:echo", "behaviours.sleep",
                            Path(sys.argv[1]), memory_mb=256))
service.start()
print(service.invoke("echo", b'{"seconds": 0}').payload.decode(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers end when the Runtime API's connection breaks")
def test_workers_die_with_the_daemon(number: signal.Signals):
    command = [sys.executable, "-c", DAEMON, str(FUNCTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        worker = int(daemon.stdout.readline())
        assert psutil.pid_exists(worker)
        os.kill(daemon.pid, number)
        daemon.wait()
    until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)
