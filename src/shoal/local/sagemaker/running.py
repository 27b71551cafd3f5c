"""One training job, as SageMaker runs it: channels in, the program on every host, model and failure out."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shoal.local.compute.spec import Credentials, LogRecord
from shoal.local.sagemaker.interpreter import NoInterpreter, interpreter_for
from shoal.local.sagemaker.layout import Layout, packed

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
LOG_SOURCE = "training-jobs"
MOST_INTERRUPTIONS = 10
_GRACE_SECONDS = 120.0  # as SageMaker's, between asking a program to end and ending it
_SYNC_SECONDS = 5.0
_REASON_LENGTH = 1024
_log = logging.getLogger(__name__)
Tell = Callable[[str, str], None]
"""Told (status, secondary status)."""


class JobEnded(Exception):
    """How a job ended, other than well: its status and the reason that SageMaker would give."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class JobProcess:
    """A job that runs.

    Attributes:
        request: Of CreateTrainingJob.
        folder: Where its hosts' folders are made.
        credentials: Of its role.
        endpoint: URL of the AWS services.
        region: Region.
        log: Takes its lines.
        tell: Is told how it goes.
    """

    request: Mapping[str, Any]
    folder: Path
    credentials: Credentials
    endpoint: str
    region: str
    log: Callable[[LogRecord], None]
    tell: Tell
    _stopping: threading.Event = field(default_factory=threading.Event)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's."""
        return str(self.request["TrainingJobName"])

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of its hosts' programs."""
        return tuple(process.pid for process in self._processes)

    def stop(self) -> None:
        """Ask it to end."""
        self._stopping.set()

    def run(self) -> None:
        """Run it to its end. Raises `JobEnded` unless it completed."""
        try:
            interpreter = interpreter_for(str(self.request["AlgorithmSpecification"].get("TrainingImage", "")))
        except NoInterpreter as error:
            raise JobEnded("Failed", f"ClientError: The image can't be run here: {error}.") from error
        hosts = [f"algo-{number}" for number in range(1, int(self.request["ResourceConfig"]["InstanceCount"]) + 1)]
        layouts = [Layout(self.folder / host, self.request, host, hosts) for host in hosts]
        try:
            self.tell("InProgress", "Downloading")
            for layout in layouts:
                self._fill(layout)
            self._train(layouts, interpreter)
            self.tell("InProgress", "Uploading")
            self._upload(layouts[0])
        except (ClientError, BotoCoreError) as error:
            raise JobEnded("Failed", f"ClientError: {error}"[:_REASON_LENGTH]) from error

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
        session = boto3.Session(self.credentials.access_key, self.credentials.secret_key, region_name=self.region)
        return session.client(
            "s3", endpoint_url=self.endpoint, config=Config(s3={"addressing_style": "path"}, proxies={})
        )

    def _fill(self, layout: Layout) -> None:
        """Everything that is there before the program starts."""
        layout.write_config()
        s3 = self._s3
        for name, channel in layout.channels.items():
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if not _download(s3, uri, layout.data / name):
                raise JobEnded("Failed", f"ClientError: Data download failed: No S3 objects found under S3 URL {uri!r}")
        if checkpoints := self._checkpoints():
            _download(s3, checkpoints, layout.checkpoints)
        code = layout.hyperparameters.get("sagemaker_submit_directory")
        if code:
            bucket, key = _place(str(code))
            layout.unpack_code(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def _checkpoints(self) -> str:
        uri = str(self.request.get("CheckpointConfig", {}).get("S3Uri", ""))
        return f"{uri.rstrip('/')}/" if uri else ""

    def _train(self, layouts: list[Layout], interpreter: Path) -> None:
        limit = float(self.request["StoppingCondition"]["MaxRuntimeInSeconds"])
        started = time.monotonic()
        for attempt in range(MOST_INTERRUPTIONS + 1):
            self.tell("InProgress", "Training")
            codes = self._run_hosts(layouts, interpreter, started + limit)
            killed = all(code in (-signal.SIGKILL, -signal.SIGTERM) for code in codes)
            if not (killed and self.request.get("EnableManagedSpotTraining")) or self._stopping.is_set():
                break
            # Spare capacity that is taken back: SageMaker starts the same job again where there is more of it.
            _log.info("Job %s was interrupted the %d. time", self.name, attempt + 1)
            self.tell("InProgress", "Interrupted")
        if self._stopping.is_set():
            raise JobEnded("Stopped", "")
        if any(codes):
            raise JobEnded("Failed", _reason(layouts, codes))

    def _run_hosts(self, layouts: list[Layout], interpreter: Path, until: float) -> list[int]:
        """Run the program on every host; its exit codes."""
        port = _free_port()
        readers = []
        self._processes = []
        for layout in layouts:
            process = self._start(layout, interpreter, port)
            self._processes.append(process)
            reader = threading.Thread(target=self._read, args=[process, layout.host], daemon=True)
            reader.start()
            readers.append(reader)
        try:
            self._wait(layouts[0], until)
        finally:
            _end(self._processes, _GRACE_SECONDS if self._stopping.is_set() else 0.0)
            for reader in readers:
                reader.join(timeout=2)
            self._sync(layouts[0], {})
        return [process.returncode for process in self._processes]

    def _start(self, layout: Layout, interpreter: Path, port: int) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(layout.root),
            "PYTHONUNBUFFERED": "1",
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            # Hosts of a real job find each other by name; here all are this machine.
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "NO_PROXY": "localhost,127.0.0.1",
            **layout.variables(),
        }
        launcher = Path(__file__).parent / "launcher.py"
        command = [sys.executable, str(launcher), str(os.getpid()), str(interpreter), *layout.command()]
        return subprocess.Popen(
            command,
            cwd=layout.code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _wait(self, first: Layout, until: float) -> None:
        """Wait until all hosts are done, one has failed, or the job is to end. Raises `JobEnded` past its time."""
        seen: dict[Path, float] = {}
        synced = time.monotonic()
        while True:
            codes = [process.poll() for process in self._processes]
            if all(code is not None for code in codes) or any(codes) or self._stopping.is_set():
                return
            if time.monotonic() > until:
                raise JobEnded("Stopped", "MaxRuntimeExceeded")
            if time.monotonic() - synced > _SYNC_SECONDS:
                self._sync(first, seen)
                synced = time.monotonic()
            time.sleep(0.05)

    def _sync(self, layout: Layout, seen: dict[Path, float]) -> None:
        """Checkpoints that are new or changed, to S3."""
        uri = self._checkpoints()
        if not uri:
            return
        bucket, prefix = _place(uri)
        s3 = self._s3
        for path in sorted(layout.checkpoints.rglob("*")):
            if path.is_file() and seen.get(path) != path.stat().st_mtime:
                seen[path] = path.stat().st_mtime
                key = f"{prefix}{path.relative_to(layout.checkpoints).as_posix()}"
                s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def _upload(self, layout: Layout) -> None:
        bucket, prefix = _place(self.request["OutputDataConfig"]["S3OutputPath"])
        folder = f"{prefix.rstrip('/')}/{self.name}/output"
        self._s3.put_object(Bucket=bucket, Key=f"{folder}/model.tar.gz", Body=packed(layout.model))
        if any((layout.output / "data").iterdir()):
            self._s3.put_object(Bucket=bucket, Key=f"{folder}/output.tar.gz", Body=packed(layout.output / "data"))

    def _read(self, process: subprocess.Popen[bytes], host: str) -> None:
        stream = f"{self.name}/{host}-{int(time.time())}"
        for line in process.stdout or ():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self.log(LogRecord(LOG_GROUP, stream, int(time.time() * 1000), text, None, LOG_SOURCE))


def _place(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _download(s3: Any, uri: str, folder: Path) -> int:  # noqa: ANN401 - a boto3 client
    """Objects under a prefix into a folder, as SageMaker names them; how many."""
    bucket, prefix = _place(uri)
    folder.mkdir(parents=True, exist_ok=True)
    # What is below the prefix's last folder: of a whole key its last part.
    base = prefix if prefix.endswith("/") else prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
    count = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            path = folder / entry["Key"].removeprefix(base)
            if not path.resolve().is_relative_to(folder.resolve()) or entry["Key"].endswith("/"):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
            count += 1
    return count


def _reason(layouts: list[Layout], codes: list[int]) -> str:
    told = next((text for layout in layouts if (text := layout.failure())), "")
    bad = next(code for code in codes if code)
    what = f"signal {-bad}" if bad < 0 else f"exit code {bad}"
    return f"AlgorithmError: {told or f'the program ended with {what}'}"[:_REASON_LENGTH]


def _end(processes: list[subprocess.Popen[bytes]], grace: float) -> None:
    """End what still runs: asked first, killed after the grace time."""
    for process in processes:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + max(grace, 1.0)
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        _log.debug("Process %d is gone already", process.pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
