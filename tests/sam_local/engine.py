"""A container engine for `sam local`: the machine's Docker, or one started for the test in a network of its own.

A network namespace keeps the engine's bridge and rules off the machine's network, and the embedded cloud runs in the
same namespace, on its loopback. Containers reach that loopback through one rewriting rule on the bridge.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.aws import ROOT
from tests.support.python313 import python313
from tests.support.sam import environment

IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
BRIDGE_ADDRESS = "172.17.0.1"
PACKAGES = ["docker.io", "iptables", "busybox-static", "iproute2"]
HERE = Path(__file__).resolve().parent


class NoEngine(Exception):
    """Why there can be no container engine here."""


@dataclass(frozen=True)
class Engine:
    """Runs commands where the engine and the embedded cloud are."""

    prefix: tuple[str, ...]
    docker_host: str | None
    home: Path

    def environment(self) -> dict[str, str]:
        """The environment of a command beside the engine."""
        extra = {"SHOAL_HOME": str(self.home / "shoal")}
        if self.docker_host:
            extra["DOCKER_HOST"] = self.docker_host
        return environment(extra)

    def run(self, *command: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises with its output when it fails."""
        answer = subprocess.run(
            [*self.prefix, *command],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and answer.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{answer.stdout[-4000:]}\n{answer.stderr[-4000:]}")
        return answer

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command that goes on."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self.prefix, *command], cwd=ROOT, env=self.environment(), stdout=output, stderr=subprocess.STDOUT
            )


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with AWS's base image, or the stand-in."""
    home = Path(tempfile.mkdtemp(prefix="shoal-sam-local-"))
    try:
        if _answers(None):
            yield _prepared(Engine((), None, home))
        else:
            with _own_engine(home) as own:
                yield _prepared(own)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _answers(host: str | None) -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    variables = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    return subprocess.run([docker, "version"], env=variables, capture_output=True, check=False).returncode == 0


def _prepared(chosen: Engine) -> Engine:
    if chosen.run("docker", "pull", "--quiet", IMAGE, check=False, timeout=600).returncode:
        python = python313()
        assert python is not None
        # Outside the engine's network, which has no way to the package registry; the engine is reached by its socket.
        outside = replace(chosen, prefix=())
        outside.run(str(HERE / "base_image.sh"), str(python.resolve().parents[1]), str(chosen.home), IMAGE)
    return chosen


@contextmanager
def loopback(chosen: Engine, port: int) -> Iterator[None]:
    """Let containers reach the loopback's port by the bridge's address, meanwhile."""
    if os.geteuid() != 0:
        yield  # Docker Desktop forwards host.docker.internal to the loopback by itself.
        return
    chosen.run("sysctl", "-qw", "net.ipv4.conf.docker0.route_localnet=1")
    rule = ["PREROUTING", "-i", "docker0", "-d", BRIDGE_ADDRESS, "-p", "tcp", "--dport", str(port)]
    rule += ["-j", "DNAT", "--to", "127.0.0.1"]
    chosen.run("iptables", "-t", "nat", "-I", *rule)
    try:
        yield
    finally:
        chosen.run("iptables", "-t", "nat", "-D", *rule)


@contextmanager
def _own_engine(home: Path) -> Iterator[Engine]:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngine("no container engine answers, and only root on Debian can start one for this test")
    _install()
    name = f"shoal{os.getpid()}"
    _checked(["ip", "netns", "add", name])
    # `ip netns exec` would hide the cgroups that dockerd needs.
    prefix = ("nsenter", f"--net=/run/netns/{name}")
    host = f"unix://{home}/docker.sock"
    chosen = Engine(prefix, host, home)
    daemon = None
    try:
        chosen.run("ip", "link", "set", "lo", "up")
        daemon = chosen.start(
            *("dockerd", "-H", host, "--data-root", f"{home}/data", "--exec-root", f"{home}/exec"),
            *("--pidfile", f"{home}/pid", "--storage-driver", "overlay2"),
            log=home / "dockerd.log",
        )
        _wait(host, daemon, home / "dockerd.log")
        yield chosen
    finally:
        if daemon is not None:
            daemon.terminate()
            daemon.wait(60)
        _checked(["ip", "netns", "del", name])


def _wait(host: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if _answers(host):
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.1)
    raise NoEngine(f"dockerd doesn't start: {log.read_text()[-2000:]}")


def _install() -> None:
    needed = {"dockerd": "docker.io", "iptables": "iptables", "busybox": "busybox-static", "ip": "iproute2"}
    missing = [package for command, package in needed.items() if shutil.which(command) is None]
    # /bin/busybox of the plain package is linked dynamically and wouldn't run in the image.
    if missing:
        _checked(["apt-get", "update", "-qq"])
        _checked(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES])


def _checked(command: Sequence[str]) -> None:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    answer = subprocess.run(list(command), env=variables, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise NoEngine(f"{' '.join(command)} failed: {answer.stderr[-1000:]}")
