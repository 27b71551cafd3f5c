"""Servers of one model, ours and peers', started for a measurement and ended after it; and what all are asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from benchmarks.pipeline import ROOT

PEERS = Path(__file__).resolve().parent / "peers"
STARTS_WITHIN = 120.0


@dataclass(frozen=True, eq=False)
class Target:
    """Where requests go, and what they are: all targets of one `body` hold the same image."""

    name: str
    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def peer_python(peer: str) -> Path:
    """The interpreter of a peer's environment; `make bench-serve` makes it."""
    return ROOT / f".venv-serve-{peer}" / "bin" / "python"


def command_of(peer: str, port: int, folder: Path) -> list[str]:
    """How a peer's server is started, on 127.0.0.1, in `folder`."""
    python = str(peer_python(peer))
    if peer == "fastapi":
        return [python, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "error"]
    if peer == "bentoml":
        return [python, "-m", "bentoml", "serve", "bento_service:Digits", "--host", "127.0.0.1", "--port", str(port)]
    ports = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    # As many workers as the others have: the model runs in the server's own process.
    (folder / "settings.json").write_text(json.dumps({**ports, "parallel_workers": 0, "debug": False}))
    settings = {"name": "digits", "implementation": "mlserver_runtime.OnnxModel"}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return [str(Path(python).with_name("mlserver")), "start", str(folder)]


@contextmanager
def peer_server(peer: str, model: Path, image: bytes, v2_json: bytes) -> Iterator[Target]:
    """A peer's server of a model file, ready to answer."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="shoal-peer-") as scratch:
        folder = Path(scratch)
        environment = {**os.environ, "MODEL": str(model), "PYTHONPATH": str(PEERS), "BENTOML_HOME": scratch}
        environment |= {"BENTOML_DO_NOT_TRACK": "True", "OTEL_SDK_DISABLED": "true"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command_of(peer, port, folder),
                cwd=PEERS,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        target = _target(peer, f"http://127.0.0.1:{port}", image, v2_json)
        try:
            _wait(process, target, folder / "log")
            yield target
        finally:
            _end(process)


def _target(peer: str, base: str, image: bytes, v2_json: bytes) -> Target:
    if peer == "fastapi":
        return Target("FastAPI + onnxruntime", f"{base}/predict", image, {"Content-Type": "image/png"})
    if peer == "bentoml":
        head = b'Content-Disposition: form-data; name="image"; filename="x.png"\r\nContent-Type: image/png'
        body = b"--edge\r\n" + head + b"\r\n\r\n" + image + b"\r\n--edge--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        return Target("BentoML", f"{base}/predict", body, headers)
    return Target("MLServer", f"{base}/v2/models/digits/infer", v2_json, {"Content-Type": "application/json"})


def _wait(process: subprocess.Popen[bytes], target: Target, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.RequestException):  # it may not listen yet
            if requests.post(target.url, target.body, headers=target.headers, timeout=10).ok:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{target.name} didn't start: {log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with all that it has started."""
    children = psutil.Process(process.pid).children(recursive=True) if psutil.pid_exists(process.pid) else []
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=5)
    for child in alive:
        child.kill()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def without_peers(peers: tuple[str, ...]) -> list[str]:
    """Peers whose environment is missing, as sentences."""
    return [
        f"{peer}: its environment is missing; `make bench-serve` makes it"
        for peer in peers
        if not peer_python(peer).exists()
    ]
