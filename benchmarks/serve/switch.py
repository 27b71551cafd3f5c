"""How long an alias switch takes: until every new request has the new version, and what fails meanwhile."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.e2e.cloud import LocalCloud

CLIENTS = 4
SETTLED = 50
"""A switch is over once so many answers in a row, of any client, came from the new version."""
TIMEOUT = 60.0


@dataclass(frozen=True)
class Switched:
    """One switch.

    Attributes:
        seconds: From the moment the command's call was answered to the last request begun that met the old version; 0
            where there was none.
        requests: How many were sent during it.
        errors: How many weren't answered with 200.
        slowest_ms: The slowest answer.
    """

    seconds: float
    requests: int
    errors: int
    slowest_ms: float


@dataclass
class _Seen:
    """What one request met: when it began (monotonic seconds), its status, version and milliseconds."""

    began: float
    status: int
    version: int | None
    milliseconds: float


@dataclass
class _Load:
    cloud: LocalCloud
    model: str
    body: bytes
    content_type: str
    over: threading.Event = field(default_factory=threading.Event)
    seen: list[_Seen] = field(default_factory=list)

    def ask(self) -> None:
        """One client: a request after the other on one connection."""
        connection = http.client.HTTPConnection(urlsplit(self.cloud.status["api"]).netloc, timeout=60)
        headers = {"Authorization": f"Bearer {self.cloud.status['token']}", "Content-Type": self.content_type}
        while not self.over.is_set():
            began = time.monotonic()
            connection.request("POST", f"/models/{self.model}/predict", self.body, headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
            spent = 1000 * (time.monotonic() - began)
            self.seen.append(_Seen(began, answer.status, document.get("version"), spent))
        connection.close()


def measure_switch(cloud: LocalCloud, model: str, version: int, body: bytes, content_type: str) -> Switched:
    """Move `production` of a model under load.

    Args:
        cloud: A running embedded cloud.
        model: A model that has the version.
        version: Another version than the one that serves.
        body: A request that both versions answer.
        content_type: The request's.
    """
    load = _Load(cloud, model, body, content_type)
    clients = [threading.Thread(target=load.ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        _wait(lambda: len(load.seen) >= SETTLED)
        path = f"/models/{model}/aliases/production"
        answer = cloud.http("POST", path, json.dumps({"version": version}).encode(), "application/json")
        if answer.status != 200:
            raise RuntimeError(f"POST {path} was answered with {answer.status}: {answer.body}")
        moved = time.monotonic()
        _wait(lambda: len(load.seen) > SETTLED and all(one.version == version for one in load.seen[-SETTLED:]))
    finally:
        load.over.set()
        for client in clients:
            client.join()
    old = [one.began for one in load.seen if one.version != version and one.began > moved]
    return Switched(
        seconds=max((began - moved for began in old), default=0.0),
        requests=len(load.seen),
        errors=sum(one.status != 200 for one in load.seen),
        slowest_ms=max(one.milliseconds for one in load.seen),
    )


def measure_switches(
    cloud: LocalCloud, model: str, versions: tuple[int, int], body: bytes, content_type: str, repeats: int = 5
) -> Switched:
    """The median of several switches to and fro; requests and errors are those of all of them."""
    found = [measure_switch(cloud, model, versions[turn % 2], body, content_type) for turn in range(repeats)]
    return Switched(
        seconds=statistics.median(one.seconds for one in found),
        requests=sum(one.requests for one in found),
        errors=sum(one.errors for one in found),
        slowest_ms=max(one.slowest_ms for one in found),
    )


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The switch didn't reach every request within a minute.")
        time.sleep(0.01)
