"""A running Lambda service, and functions to deploy on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shoal.local.compute import FailedEvent, FunctionSpec, InvokeResult, LambdaService, LogRecord, MemoryPending

FUNCTIONS = Path(__file__).with_name("functions")


def function(handler: str, name: str = "", **settings: Any) -> FunctionSpec:
    name = name or handler
    defaults = {"log_group": f"/aws/lambda/{name}", "memory_mb": 256, "timeout_s": 10}
    return FunctionSpec(
        name=name,
        arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}",
        handler=f"behaviours.{handler}",
        code=FUNCTIONS,
        **{**defaults, **settings},
    )


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that other processes do; only a broken test runs into the limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@dataclass
class Cloud:
    """A service with what it wrote and gave up."""

    service: LambdaService
    pending: MemoryPending
    logs: list[LogRecord] = field(default_factory=list)
    failed: list[tuple[FunctionSpec, FailedEvent]] = field(default_factory=list)

    def call(self, name: str, event: object = None, **options: Any) -> InvokeResult:
        return self.service.invoke(name, json.dumps(event).encode(), **options)

    def lines(self, name: str) -> list[str]:
        return [record.message for record in self.logs if record.source == name]


Opener = Callable[..., Cloud]


@pytest.fixture
def open_cloud() -> Iterator[Opener]:
    opened: list[LambdaService] = []

    def make(*specs: FunctionSpec, pending: MemoryPending | None = None, **settings: Any) -> Cloud:
        logs: list[LogRecord] = []
        failed: list[tuple[FunctionSpec, FailedEvent]] = []
        kept = pending or MemoryPending()
        defaults: dict[str, Any] = {
            "on_failure": lambda spec, event: failed.append((spec, event)),
            "max_workers_per_function": 3,
            "max_workers_total": 6,
            "idle_seconds": 60.0,
            "retry_time_scale": 0.0005,
        }
        service = LambdaService(pending=kept, **{"log_sink": logs.append, **defaults, **settings})
        opened.append(service)
        for spec in specs:
            service.deploy(spec)
        service.start()
        return Cloud(service, kept, logs, failed)

    yield make
    for service in opened:
        service.close()
