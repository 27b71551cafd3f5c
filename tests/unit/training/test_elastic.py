"""Other workers between rounds: who decides it, who learns what, and that it can be repeated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shoal_core.data.shards import Tensors
from shoal_core.errors import BadRequest
from shoal_core.keys import RunKeys
from shoal_core.training.compression import read_lost
from shoal_core.training.merging import merge_round
from shoal_core.training.rounds import carried, read_manifest, round_settings, train_shard, worker_batches
from shoal_core.training.settings import TrainingSettings, most_workers
from shoal_core.training.states import RoundState, WorkerItem, read_round
from tests.support.stores import MemoryStore
from tests.unit.training.runs import RUN, classification_run

KEYS = RunKeys(RUN)


def nobody() -> None:
    return None


def one_round(store: MemoryStore, state: RoundState, wanted: Callable[[], int | None] = nobody) -> RoundState:
    for item in state.workers:
        train_shard(store, RUN, state.round, item.worker)
    return merge_round(store, RUN, state.round, {}, wanted)


def begin(workers: int = 2, **changes: object) -> tuple[MemoryStore, TrainingSettings, RoundState]:
    store, settings, _ = classification_run(workers=workers, rounds=4, **changes)
    items = [WorkerItem(worker=worker) for worker in range(workers)]
    return store, settings, RoundState(round=1, finished=False, workers=items, evaluation_shards=[])


def two_then_three(compression: str, interrupt: Callable[[MemoryStore, RoundState], None]) -> dict[str, bytes]:
    """A run of two workers whose last two rounds have three."""
    store, _, state = begin(compression=compression)
    state = one_round(store, state)
    state = one_round(store, state, lambda: 3)
    interrupt(store, state)
    state = one_round(store, state)
    assert one_round(store, state).finished
    return store.objects


def test_the_round_that_is_merged_decides_for_the_next() -> None:
    store, settings, state = begin()
    state = one_round(store, state, lambda: 3)
    assert [item.worker for item in state.workers] == [0, 1, 2]
    record = read_round(store, RUN, 1)
    assert (record.workers, record.next_workers) == (2, 3)
    changed, before = round_settings(store, settings, 2)
    assert (changed.workers, changed.local_batch_size, before) == (3, 8, record)
    assert (changed.batch_size, changed.steps_per_round) == (settings.batch_size, settings.steps_per_round)
    state = one_round(store, state)
    assert len(state.workers) == 3 and read_round(store, RUN, 2).samples == 3 * 8 * settings.steps_per_round
    state = one_round(store, state, lambda: 1)
    assert [item.worker for item in state.workers] == [0]
    assert one_round(store, state).finished


def test_whoever_asks_later_and_whoever_comes_late_sees_what_was_decided() -> None:
    store, _, state = begin()
    after = one_round(store, state, lambda: 3)
    assert merge_round(store, RUN, 1, {}, lambda: 4) == after
    train_shard(store, RUN, 2, 2)
    with pytest.raises(BadRequest, match="Round 1 of run 'tiny-v1' has no worker 2"):
        train_shard(store, RUN, 1, 2)
    with pytest.raises(BadRequest, match="Round 2 of run 'tiny-v1' has no worker 3"):
        train_shard(store, RUN, 2, 3)


def test_more_than_can_work_are_as_many_as_can() -> None:
    store, settings, state = begin()
    manifest = read_manifest(store, settings)
    assert most_workers(manifest, settings.batch_size) == 4
    assert most_workers(manifest, 3) == 3
    assert len(one_round(store, state, lambda: 40).workers) == 4


def test_each_sample_has_one_worker_whatever_their_number() -> None:
    store, settings, _ = begin()
    manifest = read_manifest(store, settings)
    for workers in (1, 2, 3, 4):
        changed = settings.with_workers(workers)
        samples = [worker_batches(store, changed, manifest, worker).samples for worker in range(workers)]
        assert sum(samples) == 256 and min(samples) > 0


@pytest.mark.parametrize("compression", ["none", "int8"])
def test_two_then_three_workers_end_in_the_same_bytes_after_a_kill(compression: str) -> None:
    whole = two_then_three(compression, lambda store, state: None)

    def killed(store: MemoryStore, state: RoundState) -> None:
        """Worker 2 dies after its update, which is lost with what is beside it; and the merge before is repeated."""
        train_shard(store, RUN, state.round, 2)
        for key in (KEYS.update(state.round, 2), KEYS.lost(state.round, 2)):
            store.objects.pop(key, None)
        assert merge_round(store, RUN, state.round - 1, {}, lambda: 1) == state

    assert two_then_three(compression, killed) == whole
    assert two_then_three(compression, lambda store, state: None) == whole


def lost_of(store: MemoryStore, round_: int, worker: int) -> Tensors:
    return read_lost(store.read(KEYS.lost(round_, worker)), "lost")


def test_what_rounding_lost_is_made_up_for_by_other_workers_as_much() -> None:
    store, settings, state = begin(compression="int8")
    state = one_round(store, state, lambda: 3)
    manifest = read_manifest(store, settings)
    changed, before = round_settings(store, settings, 2)
    parts = [carried(store, changed, manifest, before, worker) for worker in range(3)]
    for name, mean in parts[0].items():
        assert np.array_equal(parts[1][name], mean) and np.array_equal(parts[2][name], mean)
        halves = [lost_of(store, 1, worker)[name] for worker in range(2)]
        np.testing.assert_allclose(mean, (halves[0] + halves[1]) / 2, rtol=1e-5, atol=1e-12)
        assert np.abs(mean).max() > 0
    same, before = round_settings(store, settings.with_workers(2), 1)
    assert carried(store, same, manifest, before, 0) == {}


def test_what_a_lost_worker_lost_is_nobodys() -> None:
    store, settings, state = begin(workers=3, compression="int8", lost_workers="go_on")
    for worker in range(3):
        train_shard(store, RUN, 1, worker)
    state = merge_round(store, RUN, 1, {2: "Runtime.OutOfMemory"}, lambda: 2)
    assert len(state.workers) == 2
    changed, before = round_settings(store, settings, 2)
    manifest = read_manifest(store, settings)
    store.objects.pop(KEYS.lost(1, 2))
    mean = carried(store, changed, manifest, before, 1)["weight"]
    shares = [worker_batches(store, settings, manifest, worker).samples for worker in range(2)]
    parts = [lost_of(store, 1, worker)["weight"] * shares[worker] for worker in range(2)]
    np.testing.assert_allclose(mean, sum(parts) / sum(shares), rtol=1e-5, atol=1e-12)
    assert len(one_round(store, state).workers) == 2
