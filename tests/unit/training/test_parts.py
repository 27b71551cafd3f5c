"""Rounds that outlast their worker's function: cut wherever it must be, they end in the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shoal_core.errors import BadInput, RoundUnfinished
from shoal_core.keys import RunKeys
from shoal_core.training.merging import merge_round
from shoal_core.training.parts import RESERVE_SECONDS, Part, StepClock, read_part
from shoal_core.training.rounds import train_shard
from tests.support.stores import MemoryStore
from tests.unit.training.runs import RUN, classification_run, train_all

KEYS = RunKeys(RUN)


def after(steps: int) -> Callable[[], float]:
    """A function's time that is over after so many steps."""
    asked = iter(range(steps))
    return lambda: 1_000.0 if next(asked, None) is not None else 0.0


def in_parts(store: MemoryStore, round_: int, worker: int, steps: int) -> int:
    """Train a worker in attempts of so many steps; how many it took."""
    for attempt in range(1, 100):
        try:
            train_shard(store, RUN, round_, worker, after(steps))
        except RoundUnfinished:
            continue
        return attempt
    raise AssertionError("it never ended")


def without_parts(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in store.objects.items() if "/parts/" not in key}


@pytest.mark.parametrize("compression", ["none", "int8"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_round_in_parts_has_the_bytes_of_a_whole_one(compression: str, steps: int) -> None:
    whole, settings, _ = classification_run(compression=compression)
    store, _, _ = classification_run(compression=compression)
    assert settings.steps_per_round > 5
    for round_ in (1, 2):
        train_all(whole, settings, round_)
        attempts = [in_parts(store, round_, worker, steps) for worker in range(2)]
        assert attempts == [-(-settings.steps_per_round // steps)] * 2
        assert merge_round(store, RUN, round_) == merge_round(whole, RUN, round_)
    assert without_parts(store) == whole.objects


def test_a_late_attempt_that_came_less_far_only_costs_its_time() -> None:
    whole, settings, _ = classification_run()
    train_all(whole, settings, 1)
    store, _, _ = classification_run()
    with pytest.raises(RoundUnfinished):
        train_shard(store, RUN, 1, 0, after(2))
    early = store.read(KEYS.part(1, 0))
    with pytest.raises(RoundUnfinished):
        train_shard(store, RUN, 1, 0, after(3))
    store.write(KEYS.part(1, 0), early)
    train_shard(store, RUN, 1, 0, after(100))
    assert store.read(KEYS.update(1, 0)) == whole.read(KEYS.update(1, 0))


def test_an_attempt_takes_a_step_at_least_and_tells_how_far_it_is() -> None:
    store, settings, _ = classification_run()
    told = rf"Worker 1 of run 'tiny-v1' has taken 1 of {settings.steps_per_round} steps of round 1"
    with pytest.raises(RoundUnfinished, match=told) as caught:
        train_shard(store, RUN, 1, 1, lambda: 0.0)
    assert caught.value.retryable and "Use more rounds (there are 3)" in caught.value.fix
    part = read_part(store, RUN, 1, 1)
    assert part is not None and len(part.losses) == 1
    assert read_part(store, RUN, 1, 0) is None
    assert train_shard(store, RUN, 1, 1).repeated is False


def test_the_clock_leaves_time_for_the_longest_step_and_for_writing() -> None:
    enough = RESERVE_SECONDS + 2 * 20
    left = iter([900.0, 880.0, 875.0, enough + 10, enough, enough - 1])
    clock = StepClock(lambda: next(left))
    assert [clock.is_over(), clock.is_over()] == [False, False]
    assert clock.is_over(), "a step took 765 seconds, so another one might"
    left = iter([900.0, *(enough + 40 - 20 * step for step in range(4))])
    clock = StepClock(lambda: next(left))
    assert clock.is_over()
    left = iter([enough + 40 - 20 * step for step in range(4)])
    clock = StepClock(lambda: next(left))
    assert [clock.is_over() for _ in range(3)] == [False, False, True]


def test_a_part_is_read_back_and_a_wrong_one_is_named() -> None:
    part = Part({"param.weight": np.arange(3, dtype=np.float32)}, (0.1, 0.2))
    found = Part.decode(part.encode(), "Part 'p'")
    assert found.losses == part.losses and found.encode() == part.encode()
    store, _, _ = classification_run()
    store.write(KEYS.part(1, 0), store.read(KEYS.checkpoint(0)))
    with pytest.raises(BadInput, match=r"part-000\.safetensors' isn't a part of a round"):
        read_part(store, RUN, 1, 0)
