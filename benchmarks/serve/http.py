"""Requests over HTTP at 1, 8 and 32 clients: ours through the embedded cloud, peers by their own servers, in turns.

A client is a thread with one connection that asks again as soon as it is answered. All targets get the same image; the
same process asks all of them, one target at a time, while the others are idle.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.results import Row, percentile
from benchmarks.serve.servers import Target

CLIENTS = (1, 8, 32)
WARM_UP_SECONDS = 1.0


@dataclass
class Load:
    """What a target did under load: milliseconds of every request, and for how long it was asked.

    Attributes:
        milliseconds: Of every answered request.
        seconds: From the first request to the last answer.
    """

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.milliseconds) / self.seconds

    def add(self, other: Load) -> None:
        """Count another turn of the same target."""
        self.milliseconds += other.milliseconds
        self.seconds += other.seconds


def load(target: Target, clients: int, seconds: float) -> Load:
    """Ask a target for some seconds. Raises `RuntimeError` when a request isn't answered with 200."""
    until, failures = time.perf_counter() + seconds, []
    found: list[list[float]] = [[] for _ in range(clients)]

    def ask(mine: list[float]) -> None:
        parts = urlsplit(target.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        while time.perf_counter() < until and not failures:
            began = time.perf_counter()
            connection.request("POST", path, target.body, target.headers)
            answer = connection.getresponse()
            body = answer.read()
            mine.append((time.perf_counter() - began) * 1000)
            if answer.status != 200:
                failures.append(f"{target.name}: {answer.status} {body[:500]!r}")
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    return Load([one for mine in found for one in mine], time.perf_counter() - began)


def http_rows(targets: Sequence[tuple[Target, Target, str, str]], seconds: float, repeats: int) -> list[Row]:
    """Rows of every pair of ours and a peer.

    Args:
        targets: Ours, the peer, and the goals of p50 and of requests a second, as ratios to the peer's.
        seconds: How long one target is asked at once.
        repeats: Turns; the targets of a turn follow one another.
    """
    every = list(dict.fromkeys(target for pair in targets for target in pair[:2]))
    rows: list[Row] = []
    for clients in CLIENTS:
        found = {target: Load() for target in every}
        for target in every:
            load(target, clients, min(WARM_UP_SECONDS, seconds))
        for _ in range(repeats):
            for target in every:
                found[target].add(load(target, clients, seconds))
        for ours, peer, slower, faster in targets:
            mine, theirs = found[ours], found[peer]
            title = f"HTTP, {ours.name} beside {peer.name}, {clients} client{'s' * (clients > 1)}"
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                milliseconds = (percentile(mine.milliseconds, share), percentile(theirs.milliseconds, share))
                rows.append(Row(f"{title}: {name}", "ms", *milliseconds))
            rows.append(Row(f"{title}: requests", "1/s", mine.per_second, theirs.per_second))
            ratio = percentile(mine.milliseconds, 0.5) / percentile(theirs.milliseconds, 0.5)
            rows.append(Row(f"{title}: p50, ours over theirs", "", ratio, None, slower))
            if faster:
                rate = mine.per_second / theirs.per_second
                rows.append(Row(f"{title}: requests/s, ours over theirs", "", rate, None, faster))
    return rows
