"""Merging: the arithmetic, its order, and the commit of a round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shoal_core.errors import BadInput, NotFound, TrainingDiverged, WorkersLost
from shoal_core.keys import RunKeys
from shoal_core.training.checkpoints import Checkpoint, Update
from shoal_core.training.finishing import export_checkpoint
from shoal_core.training.merging import merge_round, merge_updates, merged_loss
from shoal_core.training.rounds import (
    learning_rate_scale,
    read_checkpoint,
    read_manifest,
    train_round,
    train_shard,
    worker_batches,
)
from shoal_core.training.sessions import session_of
from shoal_core.training.states import EvaluationItem, WorkerItem, last_round, read_round
from tests.unit.training.runs import RUN, classification_run, regression_run, train_all


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def make_update(worker: int, value: float, weight: int = 1, slot: float = 0.0, loss_sum: float = 1.0) -> Update:
    return Update(RUN, 1, worker, {"a": vector(value)}, {"m.a": vector(slot)}, weight, 10 * weight, loss_sum, 4)


def before(value: float = 0.0, momentum: float | None = None) -> Checkpoint:
    buffers = {} if momentum is None else {"a": vector(momentum)}
    return Checkpoint(RUN, 0, 8, {"a": vector(value)}, {"m.a": vector(0)}, buffers)


def test_parameters_and_state_are_averaged_by_weight():
    merged = merge_updates(
        before(), [make_update(0, 1.0, 1, slot=4.0), make_update(1, 5.0, 3, slot=8.0)], learning_rate=1, momentum=0
    )
    assert merged.parameters["a"] == 4.0
    assert merged.state["m.a"] == 7.0
    assert (merged.round, merged.step, merged.momentum) == (1, 12, {})


def test_buffers_are_averaged_by_weight_without_the_outer_step():
    updates = [
        replace(make_update(0, 1.0, 1), buffers={"mean": vector(2.0, 4.0)}),
        replace(make_update(1, 5.0, 3), buffers={"mean": vector(6.0, 0.0)}),
    ]
    start = replace(before(momentum=2.0), buffers={"mean": vector(0.0, 0.0)})
    merged = merge_updates(start, updates, learning_rate=0.5, momentum=0.5)
    assert merged.buffers["mean"].tobytes() == vector(5.0, 1.0).tobytes()
    assert Checkpoint.decode(merged.encode(), "it").buffers["mean"].tolist() == [5.0, 1.0]
    assert Update.decode(updates[0].encode(), "it").buffers["mean"].tolist() == [2.0, 4.0]


def test_one_worker_is_taken_as_it_is():
    odd = np.float32(0.1) + np.float32(1e-8)
    merged = merge_updates(before(7.0), [make_update(0, odd, weight=3, slot=odd)], learning_rate=1, momentum=0)
    assert merged.parameters["a"].tobytes() == merged.state["m.a"].tobytes() == vector(odd).tobytes()


def test_the_order_of_updates_does_not_matter():
    updates = [make_update(worker, 0.1 * worker, worker + 1) for worker in range(5)]
    forth = merge_updates(before(), updates, learning_rate=0.7, momentum=0.6)
    back = merge_updates(before(), updates[::-1], learning_rate=0.7, momentum=0.6)
    assert forth.encode() == back.encode()


def test_the_outer_step_is_nesterov():
    merged = merge_updates(before(1.0, momentum=2.0), [make_update(0, 4.0)], learning_rate=0.5, momentum=0.5)
    # way 3; buffer 0.5 * 2 + 3 = 4; step 0.5 * (3 + 0.5 * 4) = 2.5
    assert merged.momentum["a"] == 4.0
    assert merged.parameters["a"] == 3.5


def test_the_loss_is_the_mean_over_samples():
    assert merged_loss([make_update(0, 0, 1, loss_sum=10.0), make_update(1, 0, 3, loss_sum=90.0)]) == 100 / 40


def run_all(store, settings, backwards=False) -> None:
    finished = False
    round_ = 1
    while not finished:
        train_all(store, settings, round_, backwards)
        state = merge_round(store, RUN, round_)
        round_, finished = state.round, state.finished


def test_a_run_learns_and_finishes():
    store, settings, _ = classification_run()
    run_all(store, settings)
    assert last_round(store, RUN) == 3
    records = [read_round(store, RUN, round_) for round_ in (1, 2, 3)]
    assert records[2].validation["accuracy"] > 0.9
    assert records[2].loss < records[0].loss
    assert [record.finished for record in records] == [False, False, True]
    assert records[2].reason == "all 3 rounds are done"
    assert records[0].samples == 2 * 12 * settings.steps_per_round
    assert settings.learning_rate > records[0].learning_rate > records[1].learning_rate > records[2].learning_rate
    assert store.exists(RunKeys(RUN).model)


def test_regression_is_scored_in_its_own_units():
    store, settings, _ = regression_run()
    run_all(store, settings)
    record = read_round(store, RUN, 3)
    assert record.validation["r2"] > 0.99
    assert record.validation["mae"] < 5
    assert record.loss < 1


def test_the_state_says_what_comes_next():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    state = merge_round(store, RUN, 1)
    assert (state.round, state.finished) == (2, False)
    assert state.workers == [WorkerItem(worker=0), WorkerItem(worker=1)]
    assert state.evaluation_shards == [EvaluationItem(shard=0), EvaluationItem(shard=1)]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_seed_gives_the_same_bytes_in_any_order(workers):
    stores = []
    for backwards in (False, True):
        store, settings, _ = classification_run(workers=workers)
        run_all(store, settings, backwards)
        stores.append(store.objects)
    assert stores[0] == stores[1]
    other, settings, _ = classification_run(workers=workers, seed=1)
    run_all(other, settings)
    key = RunKeys(RUN).checkpoint(3)
    assert other.objects[key] != stores[0][key]


@pytest.mark.parametrize("kept", ["nothing", "checkpoint"])
def test_a_merge_killed_before_its_record_ends_in_the_same_bytes(kept):
    store, settings, _ = classification_run()
    run_all(store, settings)
    whole = dict(store.objects)
    keys = RunKeys(RUN)
    lost = [keys.round(3), keys.model] + ([] if kept == "checkpoint" else [keys.checkpoint(3)])
    for key in lost:
        del store.objects[key]
    assert last_round(store, RUN) == 2
    assert merge_round(store, RUN, 3).finished
    assert store.objects == whole


def test_a_repeated_merge_changes_nothing():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    first = merge_round(store, RUN, 1)
    objects = dict(store.objects)
    assert merge_round(store, RUN, 1) == first
    assert store.objects == objects


def test_a_missing_update_names_its_worker():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    del store.objects[RunKeys(RUN).update(1, 1)]
    with pytest.raises(NotFound, match="worker 1 of run 'tiny-v1' hasn't finished round 1"):
        merge_round(store, RUN, 1)
    assert last_round(store, RUN) == 0


def test_an_update_in_the_wrong_place_is_refused():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    store.objects[RunKeys(RUN).update(1, 1)] = store.objects[RunKeys(RUN).update(1, 0)]
    with pytest.raises(BadInput, match="another run, round or worker"):
        merge_round(store, RUN, 1)


def test_a_run_that_gets_no_better_stops_and_exports_its_best():
    store, settings, _ = classification_run(rounds=10, patience=2)
    train_all(store, settings, 1)
    merge_round(store, RUN, 1)
    # From here on every update is the initial network: worse than round 1.
    initial = read_checkpoint(store, RUN, 0)
    for round_ in (2, 3):
        for worker in range(2):
            update = Update(RUN, round_, worker, initial.parameters, initial.state, 128, 60, 30.0, 5)
            store.write(RunKeys(RUN).update(round_, worker), update.encode())
        state = merge_round(store, RUN, round_)
    record = read_round(store, RUN, 3)
    assert state.finished and record.finished and (state.round, record.best_round) == (3, 1)
    assert record.reason == "no better validation score for 2 rounds"
    model = store.read(RunKeys(RUN).model)
    export_checkpoint(store, settings, read_checkpoint(store, RUN, 1))
    assert store.read(RunKeys(RUN).model) == model
    export_checkpoint(store, settings, read_checkpoint(store, RUN, 3))
    assert store.read(RunKeys(RUN).model) != model


def scripted(store, round_: int, weight: np.ndarray, loss: float = 0.5, workers: int = 2) -> None:
    """Updates of one round that all say the same, whatever the workers would have learnt."""
    state = read_checkpoint(store, RUN, 0).state
    parameters = {"weight": weight.astype(np.float32), "bias": np.zeros(weight.shape[1], np.float32)}
    for worker in range(workers):
        update = Update(RUN, round_, worker, parameters, state, 128, 60, 60 * loss, 5)
        store.write(RunKeys(RUN).update(round_, worker), update.encode())


def test_patience_zero_never_stops_early():
    store, _, _ = classification_run(rounds=10, patience=0)
    for round_ in range(1, 10):
        scripted(store, round_, np.zeros((4, 3)))
        assert not merge_round(store, RUN, round_).finished


def test_a_plateau_lowers_the_next_rounds_learning_rate():
    store, settings, _ = classification_run(
        rounds=8, patience=6, schedule="plateau", decay_factor=0.5, decay_rounds=2, warmup_rounds=0.0
    )
    for round_ in range(1, 6):
        scripted(store, round_, np.zeros((4, 3)))
        merge_round(store, RUN, round_)
    records = [read_round(store, RUN, round_) for round_ in range(1, 6)]
    assert [record.learning_rate_scale for record in records] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert [record.learning_rate for record in records] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])
    assert learning_rate_scale(settings, None) == 1.0
    assert learning_rate_scale(settings, records[4]) == 0.25
    train_all(store, settings, 6)
    lowered = store.objects[RunKeys(RUN).update(6, 0)]
    manual = train_round(
        session_of(store.read(RunKeys(RUN).step_graph), 1), read_checkpoint(store, RUN, 5),
        worker_batches(store, settings, read_manifest(store, settings), 0), settings, 0, 0.25,
    )  # fmt: skip
    assert manual.encode() == lowered


def test_a_loss_that_runs_away_ends_the_run_with_its_best_checkpoint():
    store, settings, _ = classification_run(rounds=10, patience=9)
    train_all(store, settings, 1)
    merge_round(store, RUN, 1)
    for round_, loss in ((2, 80.0), (3, 900.0)):
        scripted(store, round_, np.zeros((4, 3)), loss)
        state = merge_round(store, RUN, round_)
    record = read_round(store, RUN, 3)
    assert state.finished and record.best_round == 1
    assert record.reason is not None and record.reason.startswith("the training loss runs away: 900")
    model = store.read(RunKeys(RUN).model)
    export_checkpoint(store, settings, read_checkpoint(store, RUN, 1))
    assert store.read(RunKeys(RUN).model) == model


def test_the_moving_average_is_scored_and_exported_but_not_trained_from():
    store, settings, _ = classification_run(rounds=3, ema=0.5)
    run_all(store, settings)
    keys = RunKeys(RUN)
    raw = [read_checkpoint(store, RUN, round_).parameters["weight"].astype(np.float64) for round_ in (1, 2, 3)]
    averages = [Checkpoint.decode(store.read(keys.average(round_)), "average") for round_ in (1, 2, 3)]
    np.testing.assert_allclose(averages[2].parameters["weight"], raw[0] / 4 + raw[1] / 4 + raw[2] / 2, rtol=1e-5)
    assert averages[2].state == {}
    best = read_round(store, RUN, 3).best_round
    model = store.read(keys.model)
    export_checkpoint(store, settings, averages[best - 1])
    assert store.read(keys.model) == model
    plain, settings, _ = classification_run(rounds=3)
    run_all(plain, settings)
    assert plain.objects[keys.checkpoint(1)] == store.objects[keys.checkpoint(1)]
    assert plain.objects[keys.update(3, 1)] == store.objects[keys.update(3, 1)]
    assert not plain.exists(keys.average(1))


def test_the_last_rounds_are_averaged_equally():
    store, settings, _ = classification_run(rounds=5, swa=0.5)
    run_all(store, settings)
    keys = RunKeys(RUN)
    assert [store.exists(keys.average(round_)) for round_ in range(1, 6)] == [False, False, True, True, True]
    raw = [read_checkpoint(store, RUN, round_).parameters["weight"].astype(np.float64) for round_ in (3, 4, 5)]
    average = Checkpoint.decode(store.read(keys.average(5)), "average")
    np.testing.assert_allclose(average.parameters["weight"], sum(raw) / 3, rtol=1e-5)
    best = read_round(store, RUN, 5).best_round
    model = store.read(keys.model)
    served = read_checkpoint(store, RUN, best)
    if best >= 3:
        served = Checkpoint.decode(store.read(keys.average(best)), "average")
    export_checkpoint(store, settings, served)
    assert store.read(keys.model) == model


@pytest.mark.parametrize("compression", ["bf16", "int8"])
def test_a_run_with_small_updates_learns_as_well(compression):
    plain, settings, _ = classification_run(rounds=4)
    run_all(plain, settings)
    store, settings, _ = classification_run(rounds=4, compression=compression)
    run_all(store, settings)
    keys = RunKeys(RUN)
    expected = read_checkpoint(plain, RUN, 4).parameters["weight"]
    found = read_checkpoint(store, RUN, 4).parameters["weight"]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    again, settings, _ = classification_run(rounds=4, compression=compression)
    run_all(again, settings, backwards=True)
    assert again.objects == store.objects
    again.objects.pop(keys.update(4, 1))
    train_all(again, settings, 4)  # a worker that died before its update was there
    assert again.objects == store.objects


def test_a_round_goes_on_without_a_lost_worker_where_that_is_asked_for():
    store, settings, _ = classification_run(workers=2, lost_workers="go_on")
    train_all(store, settings, 1)
    other, _, _ = classification_run(workers=2, lost_workers="go_on")
    train_shard(other, RUN, 1, 0)
    for each in (store, other):  # an update that came late isn't merged: a repeated merge decides the same
        merge_round(each, RUN, 1, {1: "Runtime.OutOfMemory"})
    assert store.read(RunKeys(RUN).checkpoint(1)) == other.read(RunKeys(RUN).checkpoint(1))
    assert read_round(store, RUN, 1).lost == (1,)
    alone = Update.decode(store.read(RunKeys(RUN).update(1, 0)), "update")
    np.testing.assert_array_equal(read_checkpoint(store, RUN, 1).parameters["weight"], alone.parameters["weight"])
    train_all(store, settings, 2)
    merge_round(store, RUN, 2)
    assert read_round(store, RUN, 2).lost == ()


@pytest.mark.parametrize("died", ["before its update", "after it"])
def test_small_updates_go_on_after_a_lost_worker(died):
    store, settings, _ = classification_run(workers=2, lost_workers="go_on", compression="int8")
    train_shard(store, RUN, 1, 0)
    if died == "after it":
        train_shard(store, RUN, 1, 1)
    merge_round(store, RUN, 1, {1: "Sandbox.Timedout"})
    train_all(store, settings, 2)
    merge_round(store, RUN, 2)
    assert read_round(store, RUN, 2).lost == ()
    # What rounding lost of the update that wasn't merged has no part in it.
    alone, settings, _ = classification_run(workers=2, lost_workers="go_on", compression="int8")
    train_shard(alone, RUN, 1, 0)
    merge_round(alone, RUN, 1, {1: "Sandbox.Timedout"})
    train_all(alone, settings, 2)
    key = RunKeys(RUN).update(2, 1)
    assert store.read(key) == alone.read(key)


@pytest.mark.parametrize(
    ("changes", "lost", "reason"),
    [
        ({}, {1: "Sandbox.Timedout"}, r"lost workers in round 1.*: 1 \(Sandbox.Timedout\)\."),
        ({"lost_workers": "go_on"}, {0: "a", 1: "b", 3: "c"}, "the others hold 25% .*, and 50% are needed"),
    ],
)
def test_too_many_lost_workers_end_the_run(changes, lost, reason):
    store, _, _ = classification_run(workers=4, **changes)
    train_shard(store, RUN, 1, 2)
    if "lost_workers" not in changes:
        for worker in (0, 3):
            train_shard(store, RUN, 1, worker)
    with pytest.raises(WorkersLost, match=reason) as raised:
        merge_round(store, RUN, 1, lost)
    assert ("lost_workers: go_on" in raised.value.fix) == (not changes)
    assert not store.exists(RunKeys(RUN).checkpoint(1))


def test_the_moving_average_outlives_a_bad_round():
    store, settings, _ = classification_run(rounds=10, ema=0.9)
    train_all(store, settings, 1)
    merge_round(store, RUN, 1)
    scripted(store, 2, -read_checkpoint(store, RUN, 1).parameters["weight"])
    merge_round(store, RUN, 2)
    records = [read_round(store, RUN, round_) for round_ in (1, 2)]
    assert records[1].validation["accuracy"] > 0.8
    assert records[1].validation["accuracy"] == pytest.approx(records[0].validation["accuracy"], abs=0.1)


@pytest.mark.parametrize(
    "changes", [{"ema": 0.7}, {"swa": 0.4}, {"schedule": "plateau", "decay_rounds": 1, "patience": 4}]
)
def test_a_merge_that_is_repeated_from_nothing_decides_the_same(changes):
    store, settings, _ = classification_run(rounds=6, **changes)
    run_all(store, settings)
    whole = dict(store.objects)
    keys = RunKeys(RUN)
    last = last_round(store, RUN)
    for round_ in range(1, last + 1):
        for key in (keys.round(round_), keys.average(round_)):
            store.objects.pop(key, None)
    for round_ in range(1, last + 1):
        merge_round(store, RUN, round_)
    assert store.objects == whole


def test_the_record_holds_the_history():
    store, settings, _ = classification_run()
    run_all(store, settings)
    records = [read_round(store, RUN, round_) for round_ in (1, 2, 3)]
    history = records[2].history
    assert [result.round for result in history] == [1, 2, 3]
    assert [result.loss for result in history] == [record.loss for record in records]
    assert [result.score[0] for result in history] == [record.validation["accuracy"] for record in records]
    assert {"roc_auc", "pr_auc", "calibration_error"} <= set(records[0].validation)


def test_a_model_whose_answers_overflow_stops_the_run_by_name():
    store, _, _ = classification_run(workers=1)
    huge = {"weight": np.full((4, 3), 3e38, np.float32), "bias": np.zeros(3, np.float32)}
    update = Update(RUN, 1, 0, huge, read_checkpoint(store, RUN, 0).state, 256, 24, 1.0, 1)
    store.write(RunKeys(RUN).update(1, 0), update.encode())
    with pytest.raises(TrainingDiverged, match=r"'tiny-v1'.*NaN or infinite"):
        merge_round(store, RUN, 1)


def test_a_damaged_record_is_named():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    merge_round(store, RUN, 1)
    store.write(RunKeys(RUN).round(1), b"{}")
    with pytest.raises(BadInput, match="round-000001"):
        merge_round(store, RUN, 1)
