"""What is told about training: bytes that workers exchange, and how much sooner many of them are done."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.train.exchange import CountingStore, exchange_place, round_bytes
from benchmarks.train.simulation import (
    BATCH,
    EPOCHS,
    ROUNDS,
    SAMPLES,
    WORKERS,
    Link,
    Measured,
    simulate,
    simulation_rows,
)
from shoal_core.training.schemes import TASK_SECONDS

# A step takes as long as it has samples, and everything else nothing.
IDEAL = Measured({BATCH // workers: [0.001 * BATCH / workers] for workers in WORKERS}, 0.0, 0.0, 1)
AT_ONCE = Link("at once", 0.0, float("inf"))
FAR = Link("far", 0.1, 2e7)


@pytest.mark.parametrize("workers", WORKERS)
def test_without_any_overhead_speed_grows_with_the_workers(workers: int) -> None:
    steps = EPOCHS * SAMPLES // BATCH * BATCH * 0.001
    run = simulate(IDEAL, AT_ONCE, workers, ROUNDS)
    assert run.seconds == pytest.approx(steps / workers + 2 * ROUNDS * TASK_SECONDS)
    assert run.billed == pytest.approx(steps)


def test_the_slowest_worker_of_a_round_is_waited_for() -> None:
    uneven = Measured({size: [0.9 * seen[0], seen[0], 2 * seen[0]] for size, seen in IDEAL.step.items()}, 0, 0, 1)
    even, slow = (simulate(times, AT_ONCE, 8, ROUNDS) for times in (IDEAL, uneven))
    assert even.seconds < slow.seconds <= 2 * even.seconds
    assert slow.billed < 8 * slow.seconds
    assert slow == simulate(uneven, AT_ONCE, 8, ROUNDS)


def test_rare_merges_scale_and_merging_every_step_does_not() -> None:
    heavy = Measured(IDEAL.step, 0.5, 0.01, 5_000_000)
    rows = {row.name: row.ours for row in simulation_rows(heavy, [FAR])}
    rare, often = "a merge each tenth of the run", "synchronous steps"
    name = "simulated, far, {}, W = {}: times as fast as one"
    assert rows[name.format(rare, 8)] > 2 > 1 > rows[name.format(often, 8)]
    assert rows[name.format(rare, 64)] < 64
    costs = [row for row in simulation_rows(heavy, [FAR]) if row.name.endswith("dollars")]
    assert all(row.ratio is not None and row.ratio > 1 for row in costs)  # faster, never cheaper


def test_workers_are_paid_for_what_they_do() -> None:
    one, many = (simulate(Measured(IDEAL.step, 1.0, 0.0, 1), AT_ONCE, workers, ROUNDS) for workers in (1, 8))
    assert many.billed == pytest.approx(one.billed + 7)
    assert one.dollars < many.dollars


def test_only_what_rounds_exchange_is_counted(tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    store.write("runs/r/checkpoints/checkpoint-000000.safetensors", b"12345")
    store.write_new("updates/r/round-000001/update-000.safetensors", b"123")
    store.write("runs/r/graphs/step.onnx", b"1234567")
    assert store.read("runs/r/checkpoints/checkpoint-000000.safetensors") == b"12345"
    assert store.bytes["exchanged"] == 5 + 3 + 5


def test_a_round_exchanges_what_its_scheme_shares(tmp_path: Path) -> None:
    place = exchange_place(tmp_path, 1_024)
    plain, small, outer, synchronous = (
        round_bytes(place, 4, compression, scheme)
        for compression, scheme in (("none", "local"), ("int8", "local"), ("none", "diloco"), ("none", "synchronous"))
    )
    (checkpoint,) = {path.stat().st_size for path in place.artifacts.root.rglob("checkpoint-000000.safetensors")}
    # Four workers read the checkpoint, the merge reads it and writes the next; updates are written and read.
    assert plain == pytest.approx(4 * checkpoint + 2 * checkpoint + 2 * 4 * checkpoint, rel=0.01)
    # Only gradients are shared after every step, and Adam keeps two numbers beside each.
    assert synchronous == pytest.approx(4 * checkpoint + 2 * checkpoint + 2 * 4 * checkpoint / 3, rel=0.01)
    assert small < 0.8 * plain < plain < outer
