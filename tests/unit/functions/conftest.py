"""One run of the real pipeline, in the test's process, that the tests of this folder look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.aws import ROOT, stack
from tests.support.pipeline import ingest, run_of, run_training


@dataclass(frozen=True)
class Trained:
    run: dict[str, str]
    registered: dict[str, Any]


@pytest.fixture(scope="package")
def trained() -> Iterator[Trained]:
    """The digits of examples/, uploaded, trained and registered."""
    with stack():
        outcome = ingest("datasets/digits/digits.zip", (ROOT / "examples/digits/digits.zip").read_bytes())
        run = run_of(outcome)
        yield Trained(run, run_training(run))
