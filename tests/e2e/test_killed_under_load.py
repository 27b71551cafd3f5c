"""Predict workers that die under load: every request of the SDK is answered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import shoal
from tests.e2e.cloud import LocalCloud
from tests.support.aws import ROOT

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
REQUESTS, CLIENTS, KILLS = 240, 6, 4


class Killer(threading.Thread):
    """Kills all workers of predict, again and again."""

    def __init__(self, cloud: LocalCloud) -> None:
        super().__init__(daemon=True)
        self._cloud = cloud
        self._over = threading.Event()
        self.killed = 0

    def run(self) -> None:
        while not self._over.wait(0.4) and self.killed < KILLS:
            workers = self._cloud.workers("predict")
            for worker in workers:
                try:
                    worker.kill()
                except psutil.NoSuchProcess:
                    continue
            self.killed += bool(workers)

    def stop(self) -> None:
        self._over.set()
        self.join()


def test_no_request_is_lost(digits: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(digits.home))

    def ask(photos: list[Path]) -> list[tuple[str, str]]:
        model = shoal.model("digits")
        return [(photo.name[0], model.predict(photo).label) for photo in photos]

    killer = Killer(digits)
    killer.start()
    try:
        share = REQUESTS // CLIENTS
        with ThreadPoolExecutor(CLIENTS) as pool:
            parts = [[HELD_OUT[(client + n) % len(HELD_OUT)] for n in range(share)] for client in range(CLIENTS)]
            answers = [answer for part in pool.map(ask, parts) for answer in part]
    finally:
        killer.stop()
    assert killer.killed
    assert len(answers) == REQUESTS
    assert sum(wanted == found for wanted, found in answers) >= 0.95 * REQUESTS
