"""A container engine, built functions, the embedded cloud and a trained model: once for all tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sam_local.engine import BRIDGE_ADDRESS, Engine, NoEngine, engine, loopback
from tests.support.aws import ROOT
from tests.support.python313 import WHY, python313
from tests.support.sam import SAM, build

SHOAL = str(ROOT / ".venv/bin/shoal")


@dataclass(frozen=True)
class SamLocal:
    """`sam local` beside a running embedded cloud that has trained the digits."""

    engine: Engine
    status: dict[str, Any]

    @property
    def options(self) -> list[str]:
        """Options of every `sam local` command."""
        variables = str(self.engine.home / "shoal/sam-env.json")
        return ["--env-vars", variables, "--add-host", f"host.docker.internal:{BRIDGE_ADDRESS}", "--skip-pull-image"]

    def invoke(self, function: str, event: Path) -> Any:
        """The function's answer. The exit status says nothing (it is 0 on errors and time-outs): the output does."""
        answer = self.engine.run(str(SAM), "local", "invoke", function, "-e", str(event), *self.options)
        lines = [line for line in answer.stdout.splitlines() if line.strip()]
        assert lines, f"{function} answered nothing:\n{answer.stderr[-4000:]}"
        value = json.loads(lines[-1])
        assert not (isinstance(value, dict) and "errorType" in value), f"{function}: {value}\n{answer.stderr[-4000:]}"
        return value


@pytest.fixture(scope="session")
def sam_local() -> Iterator[SamLocal]:
    if python313() is None:
        pytest.skip(WHY)
    build()
    try:
        with engine() as chosen:
            try:
                chosen.run(SHOAL, "up", "-d")
                status = json.loads(chosen.run(SHOAL, "status", "--json").stdout)
                chosen.run(SHOAL, "push", str(ROOT / "examples/digits/digits.zip"), "--name", "digits", "--watch")
                held_out = str(ROOT / "examples/digits/held-out")
                chosen.run(SHOAL, "batch", "digits", held_out, "--name", "held-out", "--wait")
                port = int(status["aws_endpoint"].rpartition(":")[2])
                with loopback(chosen, port):
                    yield SamLocal(chosen, status)
            finally:
                chosen.run(SHOAL, "down", check=False)
    except NoEngine as reason:
        pytest.skip(str(reason))
