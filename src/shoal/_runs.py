"""A training run, as the API tells it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from shoal.connection import Connection
from shoal.errors import ConnectionFailed, RunFailed, RunPaused, ServiceFailed, WaitTimedOut

FINAL = ("succeeded", "failed")
PAUSED = "paused"
POLL_SECONDS = 0.4
POLL_SECONDS_ON_AWS = 2.0
PATIENCE_SECONDS = 60.0  # how long the API may be away before `wait` gives up

# The stages in order, as Step Functions' states are named.
STAGES = (
    "Plan Shards",
    "Write Shard",
    "Assign Samples",
    "Pack Shard",
    "Commit Dataset",
    "Start Training",
    "Train Shard",
    "Merge Round",
    "Optimize Model",
    "Evaluate Model",
    "Register Model",
)


class Run:
    """One run: from an upload to a registered model.

    The properties show what the API said last; `refresh` and `wait` ask again.

    Args:
        connection: The cloud that the run belongs to.
        document: The API's Run object.
        unchanged: True when `push` found the same bytes already uploaded, and this is the run they had.
    """

    def __init__(self, connection: Connection, document: dict[str, Any], *, unchanged: bool = False) -> None:
        self._connection = connection
        self.document = document
        self.unchanged = unchanged

    def __repr__(self) -> str:
        return f"Run({self.id!r}, dataset={self.dataset!r}, status={self.status!r})"

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.document["run_id"])

    @property
    def dataset(self) -> str:
        """Name of the dataset that it trains on."""
        return str(self.document.get("dataset", ""))

    @property
    def status(self) -> str:
        """waiting, running, paused (a trial of a search), succeeded or failed."""
        return str(self.document.get("status", ""))

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen by itself: a paused trial goes on if its search promotes it."""
        return self.status in (*FINAL, PAUSED)

    @property
    def stage(self) -> str:
        """The state that it is in, such as "Train Shard"; empty before the first."""
        return str(self.document.get("stage") or "")

    @property
    def progress(self) -> dict[str, Any]:
        """Shards done, round, loss and validation metrics so far."""
        return dict(self.document.get("progress") or {})

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test split; empty until the run has succeeded."""
        return dict(self.document.get("metrics") or {})

    @property
    def failure(self) -> dict[str, Any] | None:
        """{"stage", "error", "reason", "fix"} of a failed run, else None."""
        return self.document.get("failure") or None

    @property
    def model(self) -> dict[str, Any] | None:
        """{"name", "version"} of the model that it registered, else None."""
        return self.document.get("model") or None

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Per stage: name, seconds, invocations, GB-seconds, cost in US dollars."""
        return list(self.document.get("stages") or [])

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return float(self.document.get("seconds") or 0)

    @property
    def cost_usd(self) -> float:
        """Estimated cost on AWS so far, in US dollars."""
        return float(self.document.get("cost_usd") or 0)

    def set_workers(self, workers: int) -> dict[str, Any]:
        """Give the run other workers from its next round on.

        Args:
            workers: How many; at most as many as it has training shards and samples in a batch.

        Returns:
            {"run_id", "before", "workers"}.

        Raises:
            BadRequest: It can't have so many, it doesn't train yet, or it has ended.
        """
        body = json.dumps({"workers": workers}).encode()
        path = f"/runs/{quote(self.id, safe='')}/workers"
        return self._connection.request("PUT", path, body=body, content_type="application/json")

    def refresh(self) -> Run:
        """Ask the API for the newest state; returns the run itself."""
        self.document = self._connection.request("GET", f"/runs/{quote(self.id, safe='')}")
        return self

    def wait(self, timeout: float | None = None, on_progress: Callable[[Run], None] | None = None) -> Run:
        """Wait until the run has ended.

        Args:
            timeout: Seconds to wait; None waits as long as it takes.
            on_progress: Called with the run at once, then after every change, and once more at the end.

        Returns:
            The run itself, succeeded.

        Raises:
            RunFailed: The run failed; the message has the reason and the fix.
            RunPaused: It is a trial of a search, which has paused it.
            WaitTimedOut: The time is over; the run goes on.
            ConnectionFailed, ServiceFailed: The API was away for a minute.
        """
        wait_until_finished(self, self._connection, timeout, on_progress, WaitTimedOut)
        if self.status == "failed":
            raise RunFailed(self)
        if self.status == PAUSED:
            raise RunPaused(self)
        return self


class Waited(Protocol):
    """What can be waited for."""

    document: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        ...

    def refresh(self) -> object:
        """Ask the API for the newest state."""
        ...


WaitedT = TypeVar("WaitedT", bound=Waited)


def wait_until_finished(
    thing: WaitedT,
    connection: Connection,
    timeout: float | None,
    on_progress: Callable[[WaitedT], None] | None,
    over: Callable[[WaitedT, float], Exception],
) -> None:
    """Ask again and again until something has ended.

    Args:
        thing: A run or a batch job.
        connection: The cloud that has it.
        timeout: Seconds to wait; None waits as long as it takes.
        on_progress: Called at once, then after every change, and once more at the end.
        over: Makes the error that is raised when the time is over.

    Raises:
        ConnectionFailed, ServiceFailed: The API was away for a minute.
    """
    started = time.monotonic()
    pause = POLL_SECONDS if connection.aws_endpoint else POLL_SECONDS_ON_AWS
    seen: dict[str, Any] | None = None
    while True:
        _refresh_patiently(thing, pause)
        if on_progress and thing.document != seen:
            on_progress(thing)
            seen = thing.document
        if thing.finished:
            return
        if timeout is not None and time.monotonic() - started + pause > timeout:
            raise over(thing, timeout)
        time.sleep(pause)


def _refresh_patiently(thing: Waited, pause: float) -> None:
    """Refresh; an API that is away for a moment (the cloud restarts, the network blinks) doesn't end a wait."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            thing.refresh()
            return
        except (ConnectionFailed, ServiceFailed):
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
