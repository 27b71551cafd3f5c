"""Start, stop and look at the embedded cloud of a folder: what `shoal up`, `down` and `status` call."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal_core.errors import ShoalError

if TYPE_CHECKING:
    from shoal.local.compute.spec import LogRecord

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02


class CloudFailed(ShoalError):
    """The embedded cloud didn't start or stop; the reason is the cloud's own."""


@dataclass(frozen=True)
class Status:
    """One running cloud, as `.shoal/cloud.json` has it and `shoal status --json` prints it.

    Attributes:
        aws_endpoint: URL of the AWS endpoint.
        region: Region.
        bucket: Bucket to upload to.
        api: URL of the HTTP API.
        token: Bearer token of the HTTP API.
        console: URL of the web console; None while there is none.
        stack: Name of the stack.
        state_machine: ARN of the training state machine.
        artifacts_bucket: Bucket of shards, checkpoints and models.
        table: Name of the catalog table.
        pid: The cloud's process.
        folder: The folder with template.yaml.
        started_at: When it was ready, ISO 8601, UTC.
        ready_seconds: How long it took to be ready.
        functions: Names of the deployed functions.
        access_key_id: Access key for any AWS client.
        secret_access_key: Its secret key; nothing checks signatures.
        already_running: Whether `up` found it running.
    """

    aws_endpoint: str
    region: str
    bucket: str
    api: str
    token: str
    console: str | None
    stack: str
    state_machine: str
    artifacts_bucket: str
    table: str
    pid: int
    folder: str
    started_at: str
    ready_seconds: float
    functions: tuple[str, ...]
    access_key_id: str
    secret_access_key: str
    already_running: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types, without what only this call knows."""
        values = asdict(self)
        del values["already_running"]
        return values


def home_of(folder: Path | str = ".") -> Path:
    """Where a folder's cloud keeps everything: `$SHOAL_HOME`, else `.shoal` in the folder."""
    home = os.environ.get("SHOAL_HOME")
    return Path(home).resolve() if home else Path(folder).resolve() / ".shoal"


def make_home(folder: Path | str = ".") -> Path:
    """`home_of` the folder, made where it isn't there; for its owner only, since it holds the token and the data."""
    home = home_of(folder)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def up(
    folder: Path | str = ".",
    *,
    detach: bool = False,
    port: int | None = None,
    api_port: int | None = None,
    on_ready: Callable[[Status], None] | None = None,
    on_log: Callable[[LogRecord], None] | None = None,
) -> Status:
    """Start the cloud; deploys the template and the code as they are now.

    Args:
        folder: The folder with template.yaml.
        detach: Return when it is ready and leave it running; else run it in this process until it is stopped.
        port: Wanted port of the AWS endpoint; None for the last one, or 4566; taken ones are passed over.
        api_port: The same for the HTTP API; None for the last one, or 8081.
        on_ready: Called when it is ready, or found running.
        on_log: Called with every function's log record; only in the foreground.

    Returns:
        The cloud; with `already_running` when it ran before this call, which is no error.

    Raises:
        CloudFailed: It didn't get ready; the reason names what is wrong.
        ShoalError: In the foreground, what is wrong itself.
    """
    running = status(folder)
    if running is not None:
        running = replace(running, already_running=True)
        if on_ready is not None:
            on_ready(running)
        return running
    if not detach:
        from shoal.local.daemon import run

        return run(Path(folder), port, api_port, on_ready, on_log)
    started = _start_process(Path(folder).resolve(), port, api_port)
    if on_ready is not None:
        on_ready(started)
    return started


def _start_process(folder: Path, port: int | None, api_port: int | None) -> Status:
    home = make_home(folder)
    (home / "failure.json").unlink(missing_ok=True)
    forget_stopped(home)
    command = [sys.executable, "-m", "shoal.local.daemon", "--folder", str(folder)]
    command += [] if port is None else ["--port", str(port)]
    command += [] if api_port is None else ["--api-port", str(api_port)]
    with (home / "cloud.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = status(folder)
        if found is not None:
            return found
        # Where another `up` was faster, this process has ended and that one's cloud is about to be ready.
        if process.poll() is not None and not _locked(home):
            raise _failure(home)
        time.sleep(_POLL_SECONDS)
    process.terminate()
    raise CloudFailed(f"The cloud wasn't ready after {READY_SECONDS:.0f} s.", f"See {home / 'cloud.log'}.")


def _failure(home: Path) -> CloudFailed:
    with suppress(OSError, ValueError, KeyError):
        failure = json.loads((home / "failure.json").read_text())
        return CloudFailed(failure["reason"], failure["fix"])
    return CloudFailed("The cloud's process ended before it was ready.", f"See {home / 'cloud.log'}.")


def down(folder: Path | str = ".") -> bool:
    """Stop the cloud and wait until it has; False when none ran.

    Raises:
        CloudFailed: It doesn't stop.
    """
    running = status(folder)
    if running is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _locked(home_of(folder)):
            return True
        time.sleep(_POLL_SECONDS)
    raise CloudFailed(
        f"The cloud (process {running.pid}) didn't stop in {STOP_SECONDS:.0f} s.",
        f"Stop it with `kill -9 {running.pid}`: nothing that it acknowledged is lost.",
    )


def status(folder: Path | str = ".") -> Status | None:
    """The running, ready cloud of the folder, or None."""
    home = home_of(folder)
    try:
        values = json.loads((home / "cloud.json").read_text())
        known = {field.name for field in fields(Status)}
        values = {name: value for name, value in values.items() if name in known}
        found = Status(**values | {"functions": tuple(values["functions"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if _locked(home) else None


def forget_stopped(home: Path) -> None:
    """Delete what a killed cloud left: the next one takes its lock, and would pass for it until it is ready."""
    with (home / "cloud.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # one runs, or is starting
        (home / "cloud.json").unlink(missing_ok=True)


def _locked(home: Path) -> bool:
    """Whether a cloud's process lives: it holds the lock, which the system frees however it ends."""
    try:
        with (home / "cloud.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            fcntl.flock(lock, fcntl.LOCK_UN)
    except OSError:
        return False
    return False
