"""From an upload to a served prediction, seen from outside: boto3 puts, plain HTTP asks and predicts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.cloud import LocalCloud

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.zip"
IMAGE = sorted((ROOT / "examples" / "digits" / "held-out").glob("*.png"))[0]
# How often the run is asked for, as a client that waits would: it costs the run a little, as it would there.
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Journey:
    """One upload's way to a prediction; all in seconds from just before the PutObject.

    Attributes:
        put: PutObject had returned.
        planning: The first state had begun: the event was delivered, the upload read and the execution started.
        trained: A client saw that the run had succeeded.
        predicted: The first prediction was served.
        stages: Seconds of each stage by name, from its first start to its last end; stages of a loop overlap.
        accuracy: On the test split.
    """

    put: float
    planning: float
    trained: float
    predicted: float
    stages: dict[str, float] = field(default_factory=dict)
    accuracy: float = 0.0


@contextmanager
def fresh_cloud() -> Iterator[tuple[LocalCloud, float]]:
    """A cloud with an empty state folder, and the seconds that `shoal up -d` took; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="shoal-benchmark-") as home:
        cloud = LocalCloud(Path(home))
        began = time.monotonic()
        cloud.shoal("up", "-d")
        seconds = time.monotonic() - began
        try:
            yield cloud.up(), seconds  # up() finds it running, and reads where it is
        finally:
            cloud.down()


def travel(cloud: LocalCloud, dataset: str) -> Journey:
    """Upload the digits as `dataset`, wait for the run, and predict one image that wasn't in the upload."""
    s3, archive, image = cloud.client("s3"), DIGITS.read_bytes(), IMAGE.read_bytes()
    clock, began = time.time(), time.monotonic()
    s3.put_object(Bucket=cloud.status["bucket"], Key=f"datasets/{dataset}/{DIGITS.name}", Body=archive)
    put = time.monotonic() - began
    run = _wait(cloud, dataset)
    trained = time.monotonic() - began
    answer = cloud.http("POST", f"/models/{dataset}/predict", image, "image/png")
    predicted = time.monotonic() - began
    if answer.status != 200 or not answer.body["predictions"]:
        raise RuntimeError(f"{dataset}: the prediction failed: {answer}")
    return Journey(
        put,
        datetime.fromisoformat(run["stages"][0]["started_at"]).timestamp() - clock,
        trained,
        predicted,
        {stage["name"]: float(stage["seconds"]) for stage in run["stages"]},
        float(run["metrics"]["accuracy"]),
    )


def _wait(cloud: LocalCloud, dataset: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for run in cloud.runs(dataset):
            if run["status"] == "failed":
                raise RuntimeError(f"{dataset}: the run failed: {run['failure']}")
            if run["status"] == "succeeded":
                return run
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{dataset}: no run succeeded in 300 s.\n{cloud.log()}")
