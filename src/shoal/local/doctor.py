"""What `shoal doctor` looks at: everything that can keep the embedded cloud from working on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from shoal.local.lifecycle import home_of, make_home, status

SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
NEEDED_MEMORY_BYTES = 2 << 30
NEEDED_DISK_BYTES = 2 << 30
PORTS = {"AWS endpoint": 4566, "HTTP API": 8081}
PACKAGES = (
    "moto",
    "flask",
    "boto3",
    "awslambdaric",
    "samtranslator",
    "onnxruntime",
    "onnx",
    "numpy",
    "uvicorn",
    "yaml",
)
_DOCKER_SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and what to do when it isn't fine.

    Attributes:
        name: What was looked at.
        level: `ok`; `note`, good to know; `warning`, something doesn't work; `error`, the cloud can't start.
        found: What was found.
        fix: What to do about it; empty when nothing is to be done.
    """

    name: str
    level: Literal["ok", "note", "warning", "error"]
    found: str
    fix: str = ""


def diagnose(folder: Path | str = ".") -> list[Check]:
    """Look at everything. Changes nothing but an empty state folder that it may make.

    Args:
        folder: The folder with template.yaml.
    """
    folder = Path(folder).resolve()
    checks = [_python(), *_packages(), _state_folder(folder), *_ports(folder), _memory(), _disk(folder)]
    return [*checks, _python_for_build(), _docker(), *_failed_events(folder), *_recorded(folder)]


def _failed_events(folder: Path) -> Iterator[Check]:
    """Uploads whose event was given up: nothing else shows them."""
    running = status(folder)
    if running is None:
        return
    import boto3  # late: nothing else here needs it

    queues = boto3.client(
        "sqs",
        endpoint_url=running.aws_endpoint,
        region_name=running.region,
        aws_access_key_id=running.access_key_id,
        aws_secret_access_key=running.secret_access_key,
    )
    for url in queues.list_queues().get("QueueUrls", []):
        answer = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        count = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        name = url.rpartition("/")[2]
        if not count:
            yield Check(f"queue {name}", "ok", "empty")
            continue
        fix = "Read `shoal logs ingest_upload`, mend the cause and upload again; events are kept for 14 days."
        yield Check(f"queue {name}", "warning", f"{count} events that were given up", fix)


def _python() -> Check:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro}"
    if (version.major, version.minor) in SUPPORTED_PYTHONS:
        return Check("Python", "ok", found)
    return Check("Python", "error", found, "Run Shoal with Python 3.11, 3.12 or 3.13.")


def _packages() -> Iterator[Check]:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Check("packages", "error", f"missing: {', '.join(missing)}", "Run `make demo`, or pip install shoal.")
    else:
        yield Check("packages", "ok", f"{len(PACKAGES)} found")


def _state_folder(folder: Path) -> Check:
    home = home_of(folder)
    try:
        make_home(folder)
    except OSError as error:
        return Check("state folder", "error", f"{home}: {error.strerror}", "Set SHOAL_HOME to a writable folder.")
    if not os.access(home, os.W_OK):
        return Check("state folder", "error", f"{home} can't be written", "Set SHOAL_HOME to a writable folder.")
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    return Check("state folder", "ok", f"{home}, {_megabytes(size)}")


def _ports(folder: Path) -> Iterator[Check]:
    running = status(folder)
    if running is not None:
        yield Check("ports", "ok", f"the cloud runs: {running.aws_endpoint} and {running.api}")
        return
    for name, port in PORTS.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                yield Check(f"port {port}", "note", f"taken; the {name} will take the next free one")
            else:
                yield Check(f"port {port}", "ok", f"free for the {name}")


def _memory() -> Check:
    free = psutil.virtual_memory().available
    if free >= NEEDED_MEMORY_BYTES:
        return Check("memory", "ok", f"{_megabytes(free)} available")
    return Check("memory", "warning", f"{_megabytes(free)} available", "Close something: training wants 2 GB.")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    if free >= NEEDED_DISK_BYTES:
        return Check("disk", "ok", f"{_megabytes(free)} free")
    return Check("disk", "warning", f"{_megabytes(free)} free", "Free some space, or move SHOAL_HOME.")


def _python_for_build() -> Check:
    found = find_python("3.13")
    if found is not None:
        return Check("python3.13 for `sam build`", "ok", str(found))
    fix = "Only `sam build` needs it: install Python 3.13 (pyenv install 3.13)."
    return Check("python3.13 for `sam build`", "note", "not found", fix)


def find_python(version: str) -> Path | None:
    """A real CPython of a version, such as `3.13`: on PATH (pyenv's shims aren't real), else among pyenv's."""
    name = f"python{version}"
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part and "shims" not in part]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += [path / "bin" for path in sorted((root / "versions").glob(f"{version}*"), reverse=True)]
    return next((folder / name for folder in folders if os.access(folder / name, os.X_OK)), None)


def _docker() -> Check:
    named = os.environ.get("DOCKER_HOST", "")
    path = named.removeprefix("unix://") or _DOCKER_SOCKET
    if not path.startswith("/"):
        return Check("Docker for `sam local`", "ok", named)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            fix = "Only `sam local` needs it; `make test-sam-local` starts one where it may."
            return Check("Docker for `sam local`", "note", "doesn't answer", fix)
    return Check("Docker for `sam local`", "ok", path)


def _recorded(folder: Path) -> Iterator[Check]:
    """What the template asks for and this machine only keeps, by property."""
    template = folder / "template.yaml"
    if not template.is_file():
        fix = "Run this where Shoal's template.yaml is."
        yield Check("template", "error", f"no template.yaml in {folder}", fix)
        return
    from shoal.local.deploy.stack import check_stack, recorded_uses
    from shoal.local.template import load_stack
    from shoal_core.errors import ShoalError

    try:
        stack = load_stack(template, "shoal", {}, "us-east-1", "123456789012")
        check_stack(stack)
    except ShoalError as error:
        yield Check("template", "error", error.reason, error.fix)
        return
    yield Check("template", "ok", f"{len(stack.resources)} resources, all honoured")
    for reason, places in _grouped((use.reason, f"{use.type} {use.property}") for use in recorded_uses(stack)):
        yield Check("kept without effect here", "note", f"{', '.join(places)}: {reason}")


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for reason, place in pairs:
        places = groups.setdefault(reason, [])
        if place not in places:
            places.append(place)
    return sorted(groups.items())


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MB"
