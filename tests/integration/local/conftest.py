"""A real embedded cloud in a process of its own, over a small template, for tests that may also kill it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from shoal.local import lifecycle
from shoal.local.lifecycle import Status

STACK = Path(__file__).with_name("stack")


class LocalCloud:
    """The cloud of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status: Status | None = None
        self._clients: dict[str, Any] = {}

    def up(self) -> Status:
        self.status = lifecycle.up(self.folder, detach=True, port=4700, api_port=8700)
        self._clients.clear()
        return self.status

    def kill(self) -> None:
        """End the cloud as a power button would, without a chance to tidy up."""
        assert self.status is not None
        os.kill(self.status.pid, signal.SIGKILL)
        wait_until(lambda: lifecycle.status(self.folder) is None)

    def down(self) -> bool:
        return lifecycle.down(self.folder)

    def client(self, service: str) -> Any:
        assert self.status is not None
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.status.aws_endpoint,
                region_name=self.status.region,
                aws_access_key_id=self.status.access_key_id,
                aws_secret_access_key=self.status.secret_access_key,
                config=Config(retries={"total_max_attempts": 1}, max_pool_connections=32),
            )
        return self._clients[service]

    def noted(self, name: str) -> list[Any]:
        """What the functions have noted down."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for a condition to hold; fail when it doesn't."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("It didn't happen in time.")


def _make(folder: Path) -> LocalCloud:
    shutil.copytree(STACK, folder, dirs_exist_ok=True)
    return LocalCloud(folder)


@pytest.fixture
def stopped_cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    """A cloud of its own for one test; not started."""
    cloud = _make(tmp_path)
    yield cloud
    cloud.down()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One running cloud for the tests of a module."""
    cloud = _make(tmp_path_factory.mktemp("cloud"))
    sys.stdout.write(f"ready in {cloud.up().ready_seconds} s\n")
    yield cloud
    cloud.down()
