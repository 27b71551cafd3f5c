"""Which candidate is served: the fastest that may be, and no one for a gain that is noise."""

from __future__ import annotations

import pytest

from shoal_core.training.candidates import Candidate, choose


def candidate(name: str, one: float, many: float, accepted: bool = True) -> Candidate:
    return Candidate(name=name, latency_ms={"1": one, "64": many}, accepted=accepted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("candidates", "name"),
    [
        ([candidate("float32", 1, 10)], "float32"),
        ([candidate("float32", 1, 10), candidate("float32-optimized", 1.05, 10)], "float32-optimized"),
        ([candidate("float32", 1, 10), candidate("float32-optimized", 1.3, 12)], "float32"),
        ([candidate("float32", 1, 10), candidate("int8-static", 0.5, 4)], "int8-static"),
        ([candidate("float32", 1, 10), candidate("int8-static", 0.95, 9.5)], "float32"),
        ([candidate("float32", 1, 10), candidate("int8-static", 0.5, 4, accepted=False)], "float32"),
        (
            [candidate("float32", 1, 10), candidate("int8-static", 0.8, 8), candidate("int8-dynamic", 0.5, 5)],
            "int8-dynamic",
        ),
        (
            [candidate("float32", 1, 10), candidate("int8-static", 0.5, 5), candidate("int8-dynamic", 0.49, 5)],
            "int8-static",
        ),
        ([candidate("float32", 1, 10), Candidate(name="int8-static", reason="it can't be made")], "float32"),
    ],
)
def test_the_fastest_that_may_be_served_wins(candidates: list[Candidate], name: str) -> None:
    assert choose(candidates).name == name
