"""Runs with a backbone, in memory, with the real graphs: features, head, fine-tuning, and the model of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadConfig, BadRequest, NotFound, UnsupportedOperator
from shoal_core.keys import ModelKeys, RunKeys
from shoal_core.training.batches import load_shard
from shoal_core.training.compression import read_update
from shoal_core.training.features import feature_keys, training_shards
from shoal_core.training.featuring import commit_features, compute_features, plan_features
from shoal_core.training.merging import merge_round
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.rounds import read_checkpoint, read_manifest, read_settings, step_learning_rate, train_shard
from shoal_core.training.sessions import Session
from shoal_core.training.showing import shown_settings
from shoal_core.training.starting import start_training
from shoal_core.training.states import RoundState, read_round
from tests.support.backbones import SIDE, VOCABULARY, bring, image_network, text_network
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    DATASET,
    VERSION,
    blobs,
    commit,
    drawings,
    image_spec,
    reviews,
    table_spec,
    text_spec,
)

RUN = "tiny-v1"
IMAGE = {"size": SIDE, "mean": [0.5], "std": [0.25]}


def committed(store: MemoryStore, **fields: Any) -> None:
    """Grey drawings of 12x12 in three classes, two training shards; the backbone takes colours."""
    settings = {"recipe": "transfer", "backbone": "net", "rounds": 4, **fields}
    settings["training"] = {"epochs": 8, "batch_size": 16, **settings.get("training", {})}
    config = DatasetConfig.model_validate(settings)
    splits = {split: drawings(count, side=SIDE, seed=seed) for seed, (split, count) in enumerate(SPLITS.items())}
    commit(store, image_spec(SIDE), splits, config=config)


SPLITS = {"train": 90, "validation": 30, "test": 30}


def start(store: MemoryStore) -> RoundState:
    return start_training(store, RUN, DATASET, VERSION, serving=lambda name: 1)


def featured(store: MemoryStore, run_id: str = RUN) -> None:
    plan = plan_features(store, run_id)
    for item in json.loads(store.read(plan["items_key"])):
        compute_features(store, run_id, **item)
    commit_features(store, run_id)


def trained(store: MemoryStore) -> RoundState:
    """The whole run but for its evaluation."""
    state = start(store)
    if plan_features(store, RUN)["computes_features"]:
        featured(store)
    while not state.finished:
        for item in state.workers:
            train_shard(store, RUN, state.round, item.worker)
        state = merge_round(store, RUN, state.round)
    return state


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore()
    bring(found, "net", image_network(), {"image": IMAGE})
    return found


def test_a_head_learns_on_features_and_the_model_takes_images(store):
    bring(store, "net", image_network(), {"image": IMAGE, "backbone": {"features": "i", "pooling": "flatten"}})
    committed(store, network={"dropout": 0.1}, training={"epochs": 60, "learning_rate": 0.01})
    state = trained(store)
    assert read_round(store, RUN, state.round).validation["accuracy"] > 0.7
    model = Session(store.read(RunKeys(RUN).model), 1)
    assert (model.inputs, model.outputs) == (["image"], ["probabilities"])
    settings = read_settings(store, RUN)
    manifest = read_manifest(store, settings)
    images = load_shard(store, manifest.validation[0])
    accuracy = (model.run(images)["probabilities"].argmax(axis=1) == images["target"]).mean()
    assert accuracy == pytest.approx(read_round(store, RUN, state.round).validation["accuracy"], abs=0.04)
    shown = shown_settings(settings, manifest)
    assert (shown["backbone"], shown["fine_tune"]) == ("net@1", 0)
    assert "Nothing is varied" in shown["reasons"]["augment"]
    assert "images (12x12x1) are resized to its own (12x12x3)" in shown["reasons"]["backbone"]


def test_candidates_that_change_answers_need_samples_that_can_tell(store):
    committed(store)
    trained(store)
    found = optimize_model(store, RUN)
    assert found.served in ("float32", "float32-optimized")
    for name in ("pruned", "int8-static", "int8-dynamic"):
        assert found.candidate(name).reason.startswith("30 samples are too few to tell what it would lose")
    assert found.candidate("float32").latency_ms.keys() == {"1", "64"}


def test_what_was_trained_on_is_what_the_model_computes(store):
    """No skew: the features in the shards are those of the joined graph, sample by sample."""
    committed(store)
    start(store)
    featured(store)
    settings = read_settings(store, RUN)
    manifest = read_manifest(store, settings)
    frozen = Session(store.read(RunKeys(RUN).frozen_graph), 1)
    (file, *_), (shard, *_) = training_shards(store, settings, manifest, "train"), manifest.train
    kept, raw = decode_shard(store.read(file.key)), load_shard(store, shard)
    assert np.array_equal(kept["target"], raw["target"])
    alone = np.concatenate([frozen.run({"image": image[None]})["features"] for image in raw["image"]])
    np.testing.assert_allclose(kept["features"], alone, rtol=1e-4, atol=1e-5)


def test_features_are_computed_once_for_all_heads_and_the_same_each_time(store):
    committed(store)
    start(store)
    featured(store)
    keys = feature_keys(read_settings(store, RUN))
    first = {key: data for key, data in store.objects.items() if key.startswith(keys.prefix)}
    for key in first:
        del store.objects[key]
    featured(store)
    assert {key: store.objects[key] for key in first} == first
    other = start_training(store, "tiny-v1-other", DATASET, VERSION, serving=lambda name: 1)
    assert plan_features(store, "tiny-v1-other") == {"computes_features": False}
    assert other.round == 1


def test_an_item_that_was_cut_off_goes_on_after_its_last_shard(store):
    committed(store)
    start(store)
    compute_features(store, RUN, 0, 1)
    with pytest.raises(NotFound):
        commit_features(store, RUN)
    (done,) = [key for key in store.objects if "/features/" in key and key.endswith(".json")]
    store.objects[done] = store.objects[done].replace(b'"schema_version":1', b'"schema_version": 1')
    featured(store)
    assert b'"schema_version": 1' in store.objects[done], "it wasn't made again"


def test_rounds_say_that_features_are_missing(store):
    committed(store)
    start(store)
    with pytest.raises(NotFound, match=r"hasn't computed them. Fix: Train on 'tiny' with this backbone once"):
        train_shard(store, RUN, 1, 0)
    with pytest.raises(BadRequest, match="no shards 1 to 99"):
        compute_features(store, RUN, 1, 99)


def test_mirror_images_are_samples_of_their_own(store):
    committed(store, augment={"flip": True})
    start(store)
    featured(store)
    settings = read_settings(store, RUN)
    manifest = read_manifest(store, settings)
    counts = {
        split: sum(file.samples for file in training_shards(store, settings, manifest, split))
        for split in ("train", "validation")
    }
    assert counts == {"train": 2 * SPLITS["train"], "validation": SPLITS["validation"]}
    assert settings.reasons["augment"] == "Every training image is there twice: as it is, and as its mirror image."
    committed(store, augment={"crop": 0.2})
    with pytest.raises(BadConfig, match=r"augment.crop can't be had with a backbone"):
        start_training(store, "cropped", DATASET, VERSION, serving=lambda name: 1)


def test_the_last_blocks_are_tuned_from_their_round_on_with_a_fresh_optimizer(store):
    committed(store, training={"fine_tune": 2, "fine_tune_from": 3})
    state = trained(store)
    settings = read_settings(store, RUN)
    transfer = settings.transfer
    assert (transfer.blocks, transfer.tuned_from, transfer.shape) == (2, 3, (6, 6, 6))
    initial, before, after = (read_checkpoint(store, RUN, round_) for round_ in (0, 2, state.round))
    own = [name for name in initial.parameters if name.startswith("model.")]
    assert sorted(own) == ["model.inner", "model.inner.bias", "model.outer", "model.wide"]
    for name in own:
        assert np.array_equal(initial.parameters[name], before.parameters[name])
        assert not np.array_equal(before.parameters[name], after.parameters[name])
        assert not before.state[f"mean.{name}"].any() if f"mean.{name}" in before.state else True
    assert not np.array_equal(initial.parameters["output.weight"], before.parameters["output.weight"])
    steps = settings.steps_per_round
    ratio = step_learning_rate(settings, 2 * steps) / step_learning_rate(settings, 2 * steps - 1)
    assert ratio == pytest.approx(0.1, rel=0.1)
    assert "the last 2 of its 2 blocks" in settings.reasons["backbone"]
    assert "BatchNormalizations keep their mean and variance" in settings.reasons["backbone"]
    assert Session(store.read(RunKeys(RUN).model), 1).inputs == ["image"]


@pytest.mark.parametrize("compression", ["none", "int8"])
def test_gradients_of_what_a_round_trains_are_averaged_before_and_after_tuning_begins(store, compression):
    training = {"scheme": "synchronous", "compression": compression, "epochs": 1, "batch_size": 24}
    committed(store, training={**training, "fine_tune": 2, "fine_tune_from": 3})
    state = trained(store)
    keys, settings = RunKeys(RUN), read_settings(store, RUN)
    assert (state.round, settings.workers, settings.steps_per_round) == (4, 2, 1)
    initial, before, tuned = (read_checkpoint(store, RUN, round_) for round_ in (0, 2, 3))
    own = {name for name in initial.parameters if name.startswith("model.")}
    early = read_update(store.read(keys.update(2, 0)), "update", initial)
    late = read_update(store.read(keys.update(3, 0)), "update", before)
    assert set(late.gradients) == set(initial.parameters) == set(early.gradients) | own
    assert not own & set(early.gradients)
    for name, array in initial.parameters.items():
        assert np.array_equal(array, before.parameters[name]) == (name in own)
        assert not np.array_equal(before.parameters[name], tuned.parameters[name])
    other = read_update(store.read(keys.update(3, 1)), "update", before)
    for name, array in late.gradients.items():  # the optimizer began anew with this round
        mean = (array.astype(np.float64) + other.gradients[name]) / 2
        np.testing.assert_allclose(tuned.state[f"m.{name}"], 0.1 * mean, rtol=1e-4, atol=1e-8)


def test_a_tuned_run_gives_the_same_bytes_twice(store):
    committed(store, training={"fine_tune": 1})
    trained(store)
    first = store.read(RunKeys(RUN).model)
    for key in [key for key in store.objects if key.startswith(RunKeys(RUN).prefix) or "/features/" in key]:
        del store.objects[key]
    trained(store)
    assert store.read(RunKeys(RUN).model) == first


def test_early_stopping_waits_for_the_rounds_that_tune(store):
    committed(store, rounds=6, training={"fine_tune": 1, "fine_tune_from": 5, "patience": 1, "learning_rate": 1e-9})
    assert trained(store).round >= 5


def test_what_does_not_fit_is_refused_before_the_run_starts(store):
    committed(store, training={"fine_tune": 3})
    with pytest.raises(BadConfig, match=r"3 blocks; 'net' has 2"):
        start(store)
    committed(store, training={"fine_tune": 1, "fine_tune_from": 9})
    with pytest.raises(BadConfig, match="round 9; the run has 4"):
        start(store)
    committed(store, backbone=None)
    with pytest.raises(BadConfig, match=r"needs a backbone. Fix: Set `backbone: NAME`"):
        start(store)
    committed(store, recipe="cnn", training={"fine_tune": 1})
    with pytest.raises(BadConfig, match="fine_tune needs a backbone"):
        start(store)
    store.write(ModelKeys("plain", 1).onnx, b"")
    committed(store, backbone="plain")
    with pytest.raises(BadConfig, match="'plain' has no version 1, or it isn't a backbone"):
        start(store)
    splits = {split: blobs(count) for split, count in SPLITS.items()}
    commit(store, table_spec(), splits, config=DatasetConfig(recipe="transfer", backbone="net"))
    with pytest.raises(BadConfig, match="'net' takes images, and the dataset is a table"):
        start(store)


def test_another_recipe_says_that_the_backbone_is_not_used(store):
    committed(store, recipe="linear")
    start(store)
    assert read_settings(store, RUN).warnings == ("The backbone 'net' isn't used: the recipe is linear.",)
    assert plan_features(store, RUN) == {"computes_features": False}


def test_an_operator_without_a_gradient_is_refused_by_name(store):
    """Frozen it may be whatever ONNX Runtime runs."""
    bring(store, "net", image_network(activation="Hardmax"), {"image": IMAGE})
    committed(store)
    start(store)
    committed(store, training={"fine_tune": 2})
    with pytest.raises(UnsupportedOperator, match="Hardmax"):
        start_training(store, "tuned", DATASET, VERSION, serving=lambda name: 1)


def text_data(store: MemoryStore, vocabulary: tuple[str, ...] = VOCABULARY, **fields: Any) -> None:
    """Texts of word pieces; the first token tells the class."""
    spec = text_spec()
    (column,) = spec.table.texts
    column = column.model_copy(update={"unit": "wordpiece", "vocabulary": vocabulary})
    spec = spec.model_copy(update={"table": spec.table.model_copy(update={"texts": (column,)})})
    splits = {split: reviews(count, seed=seed) for seed, (split, count) in enumerate(SPLITS.items())}
    for tensors in splits.values():
        tensors["tokens"] = np.where(tensors["tokens"] > 13, 13, tensors["tokens"]).astype(np.int32)
    config = DatasetConfig.model_validate({"backbone": "encoder", "rounds": 4, "training": {"epochs": 12, **fields}})
    commit(store, spec, splits, config=config)


@pytest.mark.parametrize("blocks", [0, 1])
def test_texts_take_the_encoders_tokens(store, blocks):
    text = {"vocabulary": list(VOCABULARY), "unit": "wordpiece", "length": 12, "padding": 0, "unknown": 1}
    bring(store, "encoder", text_network(), {"text": text})
    text_data(store, fine_tune=blocks)
    state = trained(store)
    settings = read_settings(store, RUN)
    assert settings.recipe == "transfer"
    assert settings.transfer.kept == (("tokens",) if blocks else ())
    assert read_round(store, RUN, state.round).loss < read_round(store, RUN, 1).loss
    assert Session(store.read(RunKeys(RUN).model), 1).inputs == ["tokens"]
    text_data(store, vocabulary=VOCABULARY[::-1])
    with pytest.raises(BadConfig, match="weren't cut into the tokens of 'encoder'"):
        start_training(store, "other", DATASET, VERSION, serving=lambda name: 1)
