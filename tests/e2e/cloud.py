"""A real embedded cloud for a test: its own folder, ports and processes; started, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil

from tests.support.aws import ROOT

DEADLINE = 240.0


@dataclass
class Answer:
    status: int
    body: Any
    content_type: str


@dataclass
class LocalCloud:
    """The embedded cloud of one folder, seen as its users see it: the command line, AWS's API and HTTP."""

    home: Path
    faults: str = ""
    parameters: str = ""
    status: dict[str, Any] = field(default_factory=dict)

    def shoal(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SHOAL_HOME": str(self.home), "SHOAL_FAULTS": self.faults}
        environment["SHOAL_PARAMETERS"] = self.parameters
        answer = subprocess.run(
            [sys.executable, "-m", "shoal.cli", *arguments],
            cwd=ROOT,
            env=environment,
            input=stdin.decode() if stdin else None,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and answer.returncode:
            raise AssertionError(f"shoal {' '.join(arguments)}: {answer.stdout}\n{answer.stderr}\n{self.log()}")
        return answer

    def log(self) -> str:
        path = self.home / "cloud.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def up(self) -> LocalCloud:
        self.shoal("up", "-d")
        self.status = json.loads(self.shoal("status", "--json").stdout)
        return self

    def down(self) -> None:
        self.shoal("down")

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        os.kill(self.status["pid"], signal.SIGKILL)
        psutil.wait_procs([psutil.Process(self.status["pid"])] if psutil.pid_exists(self.status["pid"]) else [], 10)

    def workers(self, function: str) -> list[psutil.Process]:
        """The worker processes of a function."""
        name = f"{self.status['stack']}-{function}"
        found = []
        for process in psutil.Process(self.status["pid"]).children(recursive=True):
            try:
                if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == name:
                    found.append(process)
            except psutil.Error:
                continue  # it ended while it was looked at
        return found

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.status["aws_endpoint"],
            region_name=self.status["region"],
            aws_access_key_id="user",
            aws_secret_access_key="user",
        )

    def put(self, key: str, data: bytes) -> dict[str, Any]:
        return dict(self.client("s3").put_object(Bucket=self.status["bucket"], Key=key, Body=data))

    def http(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", token: str | None = None
    ) -> Answer:
        token = self.status["token"] if token is None else token
        headers = {"Content-Type": content_type} if content_type else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.status["api"] + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, json.loads(answer.read()), answer.headers.get_content_type())
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()), error.headers.get_content_type())

    def get(self, path: str) -> Any:
        answer = self.http("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def runs(self, dataset: str | None = None) -> list[dict[str, Any]]:
        return list(self.get(f"/runs?dataset={dataset}" if dataset else "/runs")["runs"])

    def wait(self, condition: Callable[[dict[str, Any]], bool], dataset: str) -> dict[str, Any]:
        """The dataset's newest run, once the condition holds for it."""
        deadline = time.monotonic() + DEADLINE
        runs: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            runs = self.runs(dataset)
            if runs and condition(runs[0]):
                return runs[0]
            time.sleep(0.3)  # to list runs is work for the cloud, too
        raise AssertionError(f"{dataset}: {runs}\n{self.log()}")

    def finished(self, dataset: str) -> dict[str, Any]:
        """The dataset's newest run, once it has ended."""
        return self.wait(lambda run: run["status"] in ("succeeded", "failed"), dataset)

    def succeeded(self, dataset: str) -> dict[str, Any]:
        run = self.finished(dataset)
        assert run["status"] == "succeeded", run["failure"]
        return run

    def failed(self, dataset: str) -> dict[str, str]:
        run = self.finished(dataset)
        assert run["status"] == "failed", run
        return dict(run["failure"])

    def digest(self, model: str) -> str:
        """sha256 of the newest version's model.onnx."""
        return str(self.get(f"/models/{model}")["versions"][0]["digest"])


@contextmanager
def local_cloud(home: Path, faults: str = "", parameters: str = "") -> Iterator[LocalCloud]:
    """A running cloud, stopped at the end."""
    cloud = LocalCloud(home, faults, parameters).up()
    try:
        yield cloud
    finally:
        cloud.down()
