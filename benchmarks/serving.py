"""What the predict function adds to ONNX Runtime: at start-up, in the handler, and over HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.pipeline import IMAGE, ROOT
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.keys import ModelKeys
from shoal_core.serving.sessions import session_of
from tests.e2e.cloud import LocalCloud

_HERE = Path(__file__).resolve().parent
_MEMORY = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"


@dataclass(frozen=True)
class Worker:
    """The environment of the embedded cloud's predict worker: what measures the handler runs as that worker does."""

    environment: dict[str, str]

    @classmethod
    def of(cls, cloud: LocalCloud) -> Worker:
        """Read it from the live process."""
        return cls(cloud.workers("predict")[0].environ())

    @property
    def memory_mb(self) -> int:
        """Memory of the function in MB."""
        return int(self.environment[_MEMORY])

    def run(self, script: str, *arguments: str) -> dict[str, Any]:
        """Run a script of this folder in a fresh process as the worker's; returns the JSON that it writes.

        What it prints (the handler's metrics) goes nowhere; on AWS and in the embedded cloud it goes to the log.
        """
        with tempfile.TemporaryDirectory(prefix="shoal-benchmark-") as scratch:
            outcome, said = Path(scratch) / "outcome.json", Path(scratch) / "stderr"
            with said.open("wb") as stderr:
                # -P -s: as src/shoal/local/compute/worker.py starts a worker.
                command = [sys.executable, "-P", "-s", str(_HERE / script), str(outcome), str(time.monotonic())]
                finished = subprocess.run(
                    [*command, *arguments],
                    env={**self.environment, "TMPDIR": scratch},
                    cwd=self.environment["LAMBDA_TASK_ROOT"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=600,
                    check=False,
                )
            if finished.returncode or not outcome.exists():
                raise RuntimeError(f"{script} failed: {said.read_text()[-4000:]}")
            return dict(json.loads(outcome.read_text()))


def image_event() -> dict[str, Any]:
    """The event of one image posted to the API: events/predict.json."""
    return dict(json.loads((ROOT / "events" / "predict.json").read_text()))


def json_event() -> dict[str, Any]:
    """The same image as one JSON instance."""
    event = image_event()
    body = json.dumps({"instances": [{"b64": event["body"]}]})
    return {
        **event,
        "headers": {**event["headers"], "content-type": "application/json"},
        "isBase64Encoded": False,
        "body": body,
    }


def model_bytes(cloud: LocalCloud, name: str) -> tuple[bytes, PreprocessingSpec]:
    """The model in production, as it is stored, and its spec."""
    keys = ModelKeys(name, int(cloud.get(f"/models/{name}")["aliases"]["production"]))
    s3, bucket = cloud.client("s3"), cloud.status["artifacts_bucket"]
    onnx, spec = (s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in (keys.onnx, keys.spec))
    return onnx, PreprocessingSpec.decode(spec)


def handler_calls(worker: Worker, calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call, interleaved in one fresh process; see handler_calls.py for the keys."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as events:
        json.dump([image_event(), json_event()], events)
        events.flush()
        return worker.run("handler_calls.py", events.name, str(calls))


def start_ups(worker: Worker, model: bytes, count: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Milliseconds of each part of `count` start-ups, ours and plain ONNX Runtime's, in turns."""
    ours, floor = [], []
    with tempfile.TemporaryDirectory(prefix="shoal-benchmark-") as folder:
        stored, event = Path(folder) / "model.onnx", Path(folder) / "event.json"
        stored.write_bytes(model)
        event.write_text(json.dumps(image_event()))
        for _ in range(count + 1):
            ours.append(worker.run("start_up.py", str(event)))
            floor.append(worker.run("start_up_floor.py", str(stored), str(IMAGE)))
    return ours[1:], floor[1:]  # the first of each warms the machine's file cache


def http_calls(cloud: LocalCloud, worker: Worker, name: str, calls: int) -> dict[str, list[float]]:
    """Milliseconds of predictions over HTTP by one client with one connection, and of raw `session.run`, in turns."""
    onnx, spec = model_bytes(cloud, name)
    session = session_of(onnx, worker.memory_mb)
    image = IMAGE.read_bytes()
    tensors = {"image": spec.encode_image(image)[np.newaxis]}
    api = urlsplit(cloud.status["api"])
    connection = http.client.HTTPConnection(str(api.hostname), api.port, timeout=60)
    headers = {"Authorization": f"Bearer {cloud.status['token']}", "Content-Type": "image/png"}
    times: dict[str, list[float]] = {"http": [], "raw": []}
    for number in range(calls + max(20, calls // 10)):
        if number == max(20, calls // 10):  # warm
            times = {"http": [], "raw": []}
        began = time.perf_counter()
        connection.request("POST", f"{api.path}/models/{name}/predict", image, headers)
        answer = connection.getresponse()
        body = answer.read()
        answered = time.perf_counter()
        session.run(None, tensors)
        times["raw"].append((time.perf_counter() - answered) * 1000)
        times["http"].append((answered - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"POST /models/{name}/predict: {answer.status} {body!r}")
    connection.close()
    return times
