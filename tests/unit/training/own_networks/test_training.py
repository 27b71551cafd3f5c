"""From a network of one's own to a served model, in memory: as recipes do it, with the same bytes every time."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.errors import BadConfig, BadNetwork
from shoal_core.keys import NetworkKeys, RunKeys
from shoal_core.training.evaluating import evaluate_shard, merge_evaluation
from shoal_core.training.merging import merge_round
from shoal_core.training.networks import verifying
from shoal_core.training.networks.config import BATCH_FILE
from shoal_core.training.networks.trial import try_network
from shoal_core.training.noise import draw_noise, with_noise
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.requests import RunRequest, run_config
from shoal_core.training.rounds import read_checkpoint, read_settings, train_shard
from shoal_core.training.sessions import Session
from shoal_core.training.starting import start_training
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, commit, drawings, image_spec, lines, reviews, table_spec, text_spec
from tests.unit.training.own_networks import made

RUN = "tiny-v1"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Networks are tried in this process: that they have one of their own is tested in test_verifying."""

    def tried(trial, path, request, limits):
        return try_network(path.read_bytes(), path.with_name(BATCH_FILE).read_bytes(), json.loads(request), limits)

    monkeypatch.setattr(verifying, "run_bounded", tried)


KINDS = {
    "image": (made.convolutional(), image_spec(), drawings, {}),
    "text": (made.bag_of_words(), text_spec(), reviews, {"learning_rate": 0.02}),
    "numbers": (made.dense(outputs=1), table_spec(classes=0), lines, {"learning_rate": 0.02}),
}


def committed(kind: str, version: str = "v1", store: MemoryStore | None = None, **changes: object) -> MemoryStore:
    data, spec, make, training = KINDS[kind]
    store = store or MemoryStore()
    sha256 = hashlib.sha256(data).hexdigest()
    store.write(NetworkKeys(sha256).network, data)
    config = DatasetConfig(
        recipe="network",
        network={"sha256": sha256},
        workers=2,
        rounds=3,
        training=TrainingConfig(**({"epochs": 15} | training | changes)),
    )
    splits = {"train": make(240), "validation": make(60, seed=1), "test": make(90, seed=2)}
    commit(store, spec, splits, config=config, version=version)
    return store


def train(store: MemoryStore, run_id: str = RUN) -> None:
    state = start_training(store, run_id, DATASET, run_id.removeprefix("tiny-"), lambda: RUN)
    while not state.finished:
        for item in state.workers:
            train_shard(store, run_id, state.round, item.worker)
        state = merge_round(store, run_id, state.round)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_way(kind):
    stores = []
    for _ in range(2 if kind == "image" else 1):
        store = committed(kind)
        train(store)
        stores.append(dict(store.objects))
    # Dropout drops the same in every attempt.
    assert stores[0] == stores[-1]
    settings = read_settings(store, RUN)
    assert settings.recipe == "network" and settings.recipe_config["sha256"]
    assert "numbers in" in settings.reasons["network"] and "tensors are trained" in settings.reasons["network"]
    optimization = optimize_model(store, RUN)
    assert {"float32", "float32-optimized"} <= {each.name for each in optimization.candidates if each.accepted}
    for shard in range(2):
        evaluate_shard(store, RUN, shard)
    metrics = merge_evaluation(store, RUN).metrics
    assert (metrics.r2 if kind == "numbers" else metrics.accuracy) > 0.85
    model = Session(store.read(RunKeys(RUN).model), 1)
    assert model.outputs == ["value" if kind == "numbers" else "probabilities"]


def test_dropout_depends_on_seed_worker_and_step_alone():
    shapes = {"noise.b": ("N", 3), "noise.a": (5, "N")}
    first = draw_noise(shapes, 4, seed=1, worker=0, step=7)
    assert {name: array.shape for name, array in first.items()} == {"noise.a": (5, 4), "noise.b": (4, 3)}
    again = draw_noise(dict(reversed(shapes.items())), 4, seed=1, worker=0, step=7)
    assert all(np.array_equal(first[name], again[name]) for name in shapes)
    for other in ({"seed": 2}, {"worker": 1}, {"step": 8}):
        drawn = draw_noise(shapes, 4, **({"seed": 1, "worker": 0, "step": 7} | other))
        assert not np.array_equal(first["noise.a"], drawn["noise.a"])
    with pytest.raises(BadNetwork, match="unknown shape"):
        draw_noise({"noise.c": ("N", "T")}, 4, 0, 0, 0)

    def prepare(batch: dict, step: int) -> dict:
        return batch

    assert with_noise(prepare, {}, 0, 0) is prepare


def test_a_request_names_the_network_and_lays_its_settings_over():
    store = committed("image")
    sha256 = "a" * 64
    request = RunRequest(
        dataset=DATASET, version="v1", overrides={"network": {"batch_norm": "frozen"}, "seed": 3}, network=sha256
    )
    store.write(RunKeys(request.run_id).request, request.encode())
    manifest = commit(MemoryStore(), image_spec(), {"train": drawings(40)}, config=DatasetConfig(recipe="cnn"))
    config = run_config(store, request.run_id, manifest)
    assert (config.recipe, config.seed) == ("network", 3)
    assert config.network == {"sha256": sha256, "batch_norm": "frozen"}
    with pytest.raises(BadConfig, match="goes without the recipe 'cnn'"):
        _ = RunRequest(dataset=DATASET, version="v1", overrides={"recipe": "cnn"}, network=sha256).asked


def test_a_network_that_is_not_there_or_not_named_ends_the_start():
    store = MemoryStore()
    commit(store, image_spec(), {"train": drawings(40)}, config=DatasetConfig(recipe="network"))
    with pytest.raises(BadConfig, match=r"network\.sha256"):
        start_training(store, RUN, DATASET, "v1")
    named = DatasetConfig(recipe="network", network={"sha256": "b" * 64})
    commit(store, image_spec(), {"train": drawings(40)}, config=named)
    with pytest.raises(BadNetwork, match="There is no network bbbb"):
        start_training(store, RUN, DATASET, "v1")


def test_a_warm_start_goes_on_with_the_same_network():
    store = committed("image")
    train(store)
    committed("image", "v2", store, warm_start=True)
    start_training(store, "tiny-v2", DATASET, "v2", lambda: RUN)
    settings = read_settings(store, "tiny-v2")
    assert settings.origin == RUN and "goes on from round" in settings.reasons["warm_start"]
    best, begun = read_checkpoint(store, RUN, 3), read_checkpoint(store, "tiny-v2", 0)
    assert any(np.array_equal(best.parameters[name], begun.parameters[name]) for name in best.parameters)
    spec = image_spec().model_copy(
        update={"target": image_spec().target.model_copy(update={"classes": ("a", "c", "b")})}
    )
    data, _, make, _ = KINDS["image"]
    config = DatasetConfig(
        recipe="network",
        network={"sha256": hashlib.sha256(data).hexdigest()},
        training=TrainingConfig(warm_start=True),
    )
    commit(store, spec, {"train": make(64), "validation": make(60, seed=1)}, config=config, version="v3")
    start_training(store, "tiny-v3", DATASET, "v3", lambda: RUN)
    assert "its classes were others" in read_settings(store, "tiny-v3").reasons["warm_start"]
