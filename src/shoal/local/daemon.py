"""The process of an embedded cloud: `python -m shoal.local.daemon --folder FOLDER`; `shoal up` starts it.

It holds `<home>/cloud.lock` for its whole life, so one cloud runs per folder, and writes `<home>/cloud.json` when it is
ready. When it can't start, `<home>/failure.json` says why.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shoal.local.lifecycle import Status, make_home
from shoal_core.errors import Conflict, NotFound, ShoalError

if TYPE_CHECKING:
    from shoal.local.cloud import Cloud, Deployer
    from shoal.local.compute.spec import LogRecord

DEFAULT_PORT = 4566
DEFAULT_API_PORT = 8081
STACK_NAME = "shoal"
ACCESS_KEY_ID = "shoal"
SECRET_ACCESS_KEY = "shoal-local"  # noqa: S105 - nothing checks signatures on the loopback interface
TEMPLATE = "template.yaml"
LOCK_SECONDS = 0.5
# How long a thread that files logs or metrics may keep a request waiting; CPython's 5 ms are several requests long.
SWITCH_SECONDS = 0.0005
_log = logging.getLogger(__name__)


def run(
    folder: Path,
    port: int | None = None,
    api_port: int | None = None,
    on_ready: Callable[[Status], None] | None = None,
    on_log: Callable[[LogRecord], None] | None = None,
) -> Status:
    """Run a folder's cloud in this process until SIGTERM or SIGINT.

    Args:
        folder: The folder with template.yaml.
        port: Wanted port of the AWS endpoint; None for the last one, or 4566. Taken ones are passed over.
        api_port: The same for the HTTP API; None for the last one, or 8081.
        on_ready: Called once, when the cloud is ready.
        on_log: Called with every function's log record.

    Raises:
        Conflict: A cloud runs in the folder already.
        NotFound: There is no template.yaml.
        ShoalError: The template can't be deployed.
    """
    began = time.monotonic()
    folder = folder.resolve()
    if not (folder / TEMPLATE).is_file():
        raise NotFound(f"There is no {TEMPLATE} in {str(folder)!r}.", "Run this where Shoal's template.yaml is.")
    home = make_home(folder)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _only_one(home):
        for name in ("cloud.json", "failure.json"):
            (home / name).unlink(missing_ok=True)
        with _everything_stays():
            from shoal.local.cloud import Cloud, CloudSettings  # late: a second `up` answers without loading moto
            from shoal.local.sam_local import FILE as SAM_ENVIRONMENT
            from shoal.local.sam_local import container_environment
            from shoal.local.services import listen

            last = _read(home / "ports.json")
            aws = listen(port or last.get("port", DEFAULT_PORT))
            api = listen(api_port or last.get("api_port", DEFAULT_API_PORT))
            cloud = Cloud(CloudSettings(home, aws, api), template_deployer(folder / TEMPLATE), on_log)
            write_json(home / "ports.json", {"port": cloud.port, "api_port": cloud.api_port})
        try:
            with _everything_stays():
                deployment = cloud.start()
            write_json(home / SAM_ENVIRONMENT, container_environment(deployment, cloud.endpoint))
            status = _status(cloud, folder, began)
            write_json(home / "cloud.json", status.to_json())
            if on_ready is not None:
                on_ready(status)
            while not stop.wait(3600):
                continue
        finally:
            (home / "cloud.json").unlink(missing_ok=True)
            cloud.stop()
        return status


@contextmanager
def _everything_stays() -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at what was made here again: it would take a quarter of the start,
    and a moment of some request again and again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def template_deployer(template: Path) -> Deployer:
    """What deploys a SAM template into a cloud; the functions' endpoint is given where the template takes it."""

    def deploy(endpoint: str, api_url: str, secrets: Mapping[str, str]) -> Any:  # noqa: ANN401 - deploy's own type
        from shoal.local.cloud import ACCOUNT, REGION
        from shoal.local.deploy.stack import deploy_stack
        from shoal.local.template import load_stack, read_template
        from shoal.local.template_parameters import PARAMETERS_VARIABLE, given_parameters

        known = read_template(template).get("Parameters") or {}
        # On AWS streams cost money while nothing flows, so they are off there; here they are free.
        usual = {"Streaming": "on"} if "Streaming" in known else {}
        parameters = usual | given_parameters(os.environ.get(PARAMETERS_VARIABLE, ""))
        parameters |= {"EndpointUrl": endpoint} if "EndpointUrl" in known else {}
        stack = load_stack(template, STACK_NAME, parameters, REGION, ACCOUNT)
        return deploy_stack(stack, endpoint=endpoint, api_url=api_url, secrets=secrets)

    return deploy


def _status(cloud: Cloud, folder: Path, began: float) -> Status:
    deployment = cloud.deployment
    outputs: Mapping[str, Any] = deployment.outputs if deployment else {}
    return Status(
        aws_endpoint=cloud.endpoint,
        region="us-east-1",
        bucket=str(outputs.get("Bucket", "")),
        api=str(outputs.get("ApiUrl", cloud.api_url)),
        token=cloud.token(str(outputs.get("TokenSecretArn", ""))),
        console=None,
        stack=deployment.stack_name if deployment else STACK_NAME,
        state_machine=str(outputs.get("StateMachineArn", "")),
        artifacts_bucket=str(outputs.get("ArtifactsBucket", "")),
        table=str(outputs.get("Table", "")),
        pid=os.getpid(),
        folder=str(folder),
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        ready_seconds=round(time.monotonic() - began, 2),
        functions=tuple(sorted(cloud.service.functions)),
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
    )


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises `Conflict` when another process does."""
    with (home / "cloud.lock").open("a") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _taken(lock):
            if time.monotonic() > deadline:
                raise Conflict(f"A cloud already runs in {str(home)!r}.", "Stop it with `shoal down`.")
            time.sleep(0.01)  # somebody may only be looking whether it is held
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text())
        return value if isinstance(value, dict) else {}
    return {}


def main(arguments: list[str] | None = None) -> int:
    """Run a cloud, and leave the reason in failure.json when it can't."""
    parser = argparse.ArgumentParser(prog="shoal.local.daemon", description="Runs the embedded cloud of a folder.")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--port", type=int)
    parser.add_argument("--api-port", type=int)
    options = parser.parse_args(arguments)
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("shoal").setLevel(logging.INFO)
    logging.getLogger("moto").setLevel(logging.CRITICAL)  # its interpreter logs every failed task at length
    try:
        run(options.folder, options.port, options.api_port)
    except Exception as error:  # noqa: BLE001 - whoever started this process is told the reason, whatever it is
        known = isinstance(error, ShoalError)
        reason = error.reason if isinstance(error, ShoalError) else f"{type(error).__name__}: {error}"
        fix = error.fix if isinstance(error, ShoalError) else "See cloud.log beside this file."
        _log.error("The cloud didn't start: %s %s", reason, fix, exc_info=not known)
        if not isinstance(error, Conflict):
            write_json(make_home(options.folder) / "failure.json", {"pid": os.getpid(), "reason": reason, "fix": fix})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
