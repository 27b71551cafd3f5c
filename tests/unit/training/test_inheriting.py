"""A warm start: weights are found again by what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig
from shoal_core.keys import RunKeys
from shoal_core.training.merging import merge_round, predictor
from shoal_core.training.rounds import read_checkpoint, read_settings, train_shard
from shoal_core.training.sessions import session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.starting import start_training
from shoal_core.training.states import read_round
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    DATASET,
    blobs,
    commit,
    lines,
    profile_spec,
    profiles,
    reviews,
    table_spec,
    target_spec,
    text_spec,
)

FIRST, SECOND = "tiny-v1", "tiny-v2"


def version(
    store: MemoryStore, spec: PreprocessingSpec, splits: dict[str, Tensors], name: str, **changes: object
) -> None:
    training = TrainingConfig(epochs=10, warm_start=name == "v2" or None)
    config = DatasetConfig(rounds=2, augment="none", training=training)
    commit(store, spec, splits, config=config.model_copy(update=changes), version=name)


def train(store: MemoryStore, run_id: str) -> None:
    state = start_training(store, run_id, DATASET, run_id.removeprefix("tiny-"))
    while not state.finished:
        for item in state.workers:
            train_shard(store, run_id, state.round, item.worker)
        state = merge_round(store, run_id, state.round)


def trained(spec: PreprocessingSpec, make) -> MemoryStore:
    store = MemoryStore()
    version(store, spec, {"train": make(240), "validation": make(60, seed=1)}, "v1")
    train(store, FIRST)
    return store


def start_second(store: MemoryStore) -> TrainingSettings:
    start_training(store, SECOND, DATASET, "v2", lambda: FIRST)
    return read_settings(store, SECOND)


def answers(store: MemoryStore, run_id: str, round_: int, batch: Tensors) -> np.ndarray:
    settings = read_settings(store, run_id)
    session = session_of(store.read(RunKeys(run_id).forward_graph), 1)
    return predictor(session, read_checkpoint(store, run_id, round_), settings)(batch)


def best(store: MemoryStore) -> int:
    return read_round(store, FIRST, 2).best_round


def inputs(tensors: Tensors) -> Tensors:
    return {name: array for name, array in tensors.items() if name != "target"}


def test_words_and_classes_are_matched_by_name():
    store = trained(text_spec(), reviews)
    words = [f"word{index}" for index in range(18)]
    moved = [*words[9:], "new", *words[:9]]  # word i is now at another place, and there is a word more
    ids = np.array([0, 1, *(2 + moved.index(word) for word in words)])
    table = text_spec().table
    assert table is not None
    column = table.texts[0].model_copy(update={"vocabulary": tuple(moved)})
    target = target_spec(4).model_copy(update={"classes": ("c", "a", "d", "b")})
    spec = text_spec().model_copy(update={"table": table.model_copy(update={"texts": (column,)}), "target": target})

    def again(samples: int, seed: int = 0) -> Tensors:
        old = reviews(samples, seed)
        return {"tokens": ids[old["tokens"]].astype(np.int32), "target": np.array([1, 3, 0])[old["target"]]}

    version(store, spec, {"train": again(240), "validation": again(60, seed=1)}, "v2")
    settings = start_second(store)
    assert settings.origin == FIRST
    assert settings.reasons["warm_start"] == f"Training goes on from round {best(store)} of run 'tiny-v1'."
    before = answers(store, FIRST, best(store), inputs(reviews(60, seed=3)))
    after = answers(store, SECOND, 0, inputs(again(60, seed=3)))
    shared = after[:, [1, 3, 0]] / after[:, [1, 3, 0]].sum(axis=1, keepdims=True)  # the new class knows nothing yet
    np.testing.assert_allclose(shared, before, atol=1e-5)
    checkpoint = read_checkpoint(store, SECOND, 0)
    assert not any(array.any() for array in checkpoint.state.values())


def test_a_regression_keeps_its_answers_in_their_own_units():
    store = trained(table_spec(classes=0), lines)

    def higher(samples: int, seed: int = 0) -> Tensors:
        old = lines(samples, seed=seed)
        return old | {"target": old["target"] * 3 - 500}

    version(store, table_spec(classes=0), {"train": higher(240), "validation": higher(60, seed=1)}, "v2")
    start_second(store)
    batch = inputs(lines(60, seed=3))
    expected = answers(store, FIRST, best(store), batch)
    np.testing.assert_allclose(answers(store, SECOND, 0, batch), expected, rtol=1e-4)


def test_several_kinds_of_input_and_labels():
    store = trained(profile_spec(), profiles)
    version(store, profile_spec(), {"train": profiles(240), "validation": profiles(60, seed=1)}, "v2")
    assert start_second(store).origin == FIRST
    batch = inputs(profiles(60, seed=3))
    np.testing.assert_allclose(answers(store, SECOND, 0, batch), answers(store, FIRST, best(store), batch), atol=1e-6)


def test_a_warm_start_is_ahead_of_a_fresh_one():
    store = trained(table_spec(), blobs)
    version(store, table_spec(), {"train": blobs(240, seed=5), "validation": blobs(60, seed=6)}, "v2")
    start_second(store)
    train(store, SECOND)
    assert read_round(store, SECOND, 1).loss < read_round(store, FIRST, 1).loss / 2


@pytest.mark.parametrize(
    ("spec", "make", "changes", "why"),
    [
        (
            table_spec(features=5),
            lambda n, seed=0: blobs(n, features=5, seed=seed),
            {},
            "differ in their missing values, numbers",
        ),
        (table_spec(), blobs, {"recipe": "linear"}, "its recipe was mlp"),
        (table_spec(), blobs, {"network": {"hidden": [7]}}, "other settings (hidden)"),
        (table_spec(classes=0), lines, {}, "its task was classification"),
    ],
)
def test_another_network_begins_anew_and_says_why(spec, make, changes, why):
    store = trained(table_spec(), blobs)
    version(store, spec, {"train": make(240), "validation": make(60, seed=1)}, "v2", **changes)
    settings = start_second(store)
    assert settings.origin is None
    assert why in settings.reasons["warm_start"]


def test_without_a_model_or_its_weights_training_begins_anew():
    store = trained(table_spec(), blobs)
    version(store, table_spec(), {"train": blobs(240), "validation": blobs(60, seed=1)}, "v2")
    fresh = MemoryStore()
    fresh.objects |= store.objects
    start_training(fresh, SECOND, DATASET, "v2", lambda: None)
    assert "no version in production" in read_settings(fresh, SECOND).reasons["warm_start"]
    start_training(store, SECOND, DATASET, "v2", lambda: "long-gone")
    settings = read_settings(store, SECOND)
    assert (settings.origin, "'long-gone'" in settings.reasons["warm_start"]) == (None, True)
    assert store.objects[RunKeys(SECOND).checkpoint(0)] == fresh.objects[RunKeys(SECOND).checkpoint(0)]


def named(store: MemoryStore, warm_start: str, **changes: object) -> TrainingSettings:
    training = TrainingConfig(epochs=10, warm_start=warm_start)
    version(
        store, table_spec(), {"train": blobs(240), "validation": blobs(60, seed=1)}, "v2", training=training, **changes
    )
    start_training(store, SECOND, DATASET, "v2", lambda: "nobody-asks")
    return read_settings(store, SECOND)


@pytest.mark.parametrize("round_", [None, 1, 2])
def test_a_run_goes_on_from_any_checkpoint_of_a_run_that_is_named(round_: int | None):
    store = trained(table_spec(), blobs)
    settings = named(store, FIRST if round_ is None else f"{FIRST}@{round_}")
    begun = best(store) if round_ is None else round_
    assert settings.origin == FIRST
    assert settings.reasons["warm_start"] == f"Training goes on from round {begun} of run 'tiny-v1'."
    found, expected = read_checkpoint(store, SECOND, 0), read_checkpoint(store, FIRST, begun)
    assert found.parameters.keys() == expected.parameters.keys()
    assert all(np.array_equal(found.parameters[name], array) for name, array in expected.parameters.items())
    assert not any(array.any() for array in found.state.values())


@pytest.mark.parametrize(
    ("warm_start", "changes", "told"),
    [
        ("tiny-v9", {}, "there is no such run or round"),
        (f"{FIRST}@3", {}, "there is no such run or round"),
        (FIRST, {"recipe": "linear"}, "can't be gone on from: its recipe was mlp"),
    ],
)
def test_a_named_run_that_cannot_be_gone_on_from_is_refused(warm_start, changes, told):
    store = trained(table_spec(), blobs)
    with pytest.raises(BadConfig, match=told) as caught:
        named(store, warm_start, **changes)
    assert caught.value.reason.startswith(f"training.warm_start: {warm_start!r}") and caught.value.fix
    assert not store.exists(RunKeys(SECOND).settings)


def test_of_a_run_that_still_trains_a_round_must_be_named():
    store = trained(table_spec(), blobs)
    del store.objects[RunKeys(FIRST).round(2)]
    with pytest.raises(BadConfig, match="hasn't finished its training") as caught:
        named(store, FIRST)
    assert "tiny-v1@1" in caught.value.fix
    assert named(store, f"{FIRST}@1").origin == FIRST


def test_a_repeated_start_goes_on_from_the_same_run():
    store = trained(table_spec(), blobs)
    version(store, table_spec(), {"train": blobs(240), "validation": blobs(60, seed=1)}, "v2")
    start_second(store)
    first = dict(store.objects)
    del store.objects[RunKeys(SECOND).settings]  # it died before its last write; meanwhile another version serves
    start_training(store, SECOND, DATASET, "v2", lambda: None)
    assert store.objects == first
