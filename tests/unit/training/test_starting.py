"""From a committed dataset version to a served model, in memory, with the real graphs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from shoal_core.data.cleaning_config import AugmentConfig
from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.config_types import Recipe
from shoal_core.errors import BadConfig, BadDataset, Conflict, NotFound
from shoal_core.keys import RunKeys
from shoal_core.training.candidates import Optimization
from shoal_core.training.evaluating import Evaluation, evaluate_shard, merge_evaluation
from shoal_core.training.merging import merge_round
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.rounds import read_checkpoint, read_settings, train_shard
from shoal_core.training.sessions import Session
from shoal_core.training.starting import start_training
from shoal_core.training.states import RoundState
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    DATASET,
    VERSION,
    blobs,
    commit,
    drawings,
    image_spec,
    lines,
    profile_spec,
    profiles,
    reviews,
    sequence_spec,
    table_spec,
    text_spec,
    visits,
    visits_spec,
    waves,
)

RUN = "tiny-v1"
SPECS = {
    "image": image_spec(),
    "classes": table_spec(),
    "numbers": table_spec(classes=0),
    "text": text_spec(),
    "sequence": sequence_spec(),
    "visits": visits_spec(),
    "labels": profile_spec(),
}
MAKERS = {
    "image": drawings,
    "classes": blobs,
    "numbers": lines,
    "text": reviews,
    "sequence": waves,
    "visits": visits,
    "labels": profiles,
}


def committed(
    kind: str,
    workers: int = 2,
    recipe: Recipe | None = None,
    rounds: int = 3,
    augment: AugmentConfig | Literal["auto", "none"] = "auto",
    **training: object,
) -> MemoryStore:
    store = MemoryStore()
    make = MAKERS[kind]
    splits = {"train": make(240), "validation": make(60, seed=1), "test": make(90, seed=2)}
    training = {"epochs": 6 if kind == "image" else 30} | training
    config = DatasetConfig(
        recipe=recipe, workers=workers, rounds=rounds, augment=augment, training=TrainingConfig(**training)
    )
    commit(store, SPECS[kind], splits, config=config)
    return store


def train(store: MemoryStore, state: RoundState, rounds: int = 100) -> RoundState:
    for _ in range(rounds):
        if state.finished:
            break
        for item in state.workers:
            train_shard(store, RUN, state.round, item.worker)
        state = merge_round(store, RUN, state.round)
    return state


def finish(store: MemoryStore, state: RoundState) -> tuple[Optimization, Evaluation]:
    """What is served, and its score. Which of the faithful models is the fastest depends on the machine."""
    optimization = optimize_model(store, RUN)
    for item in state.evaluation_shards:
        evaluate_shard(store, RUN, item.shard)
    return optimization, merge_evaluation(store, RUN)


def start(store: MemoryStore) -> RoundState:
    return start_training(store, RUN, DATASET, VERSION)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", ["image", "classes", "numbers", "text", "sequence", "visits", "labels"])
def test_the_whole_way(kind, workers):
    the_whole_way(kind, workers)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "recipe", "rate", "least"),
    [
        ("image", "resnet", None, 0.9),
        ("image", "vgg", None, 0.9),
        ("image", "linear", 0.02, 0.6),
        ("classes", "linear", 0.05, 0.9),
        ("numbers", "linear", 0.05, 0.9),
        ("text", "text-cnn", None, 0.9),
        ("text", "rnn", None, 0.9),
        ("text", "transformer", None, 0.9),
        ("sequence", "crnn", None, 0.9),
        ("sequence", "transformer", None, 0.9),
        ("image", "crnn", None, 0.9),
        ("labels", "fasttext", 0.02, 0.9),
    ],
)
def test_the_whole_way_with_a_chosen_recipe(kind, recipe, rate, least, workers):
    the_whole_way(kind, workers, recipe, rate, least)


def the_whole_way(
    kind: str, workers: int, recipe: Recipe | None = None, rate: float | None = None, least: float = 0.9
) -> None:
    stores = []
    for _ in range(2):
        store = committed(kind, workers, recipe, learning_rate=rate)
        state = train(store, start(store))
        assert state.finished and len(state.workers) == workers
        buffers = read_checkpoint(store, RUN, 3).buffers
        assert bool(buffers) == (recipe in ("resnet", "vgg"))
        assert all(name.endswith((".mean", ".variance")) and array.any() for name, array in buffers.items())
        stores.append(dict(store.objects))
        optimization, evaluation = finish(store, state)
    assert stores[0] == stores[1]
    assert all(
        candidate.accepted
        for candidate in optimization.candidates
        if candidate.name in ("float32", "float32-optimized")
    )
    assert evaluation.split == "test" and evaluation.samples == 90
    if kind == "numbers":
        assert evaluation.metrics.r2 > 0.9
        assert evaluation.metrics.mae < evaluation.baseline.metrics["mae"] / 3
    elif kind == "labels":
        assert evaluation.metrics.micro_f1 >= least > evaluation.baseline.metrics["micro_f1"]
        assert evaluation.metrics.roc_auc > 0.95 and set(evaluation.record()) > {"per_class", "baseline"}
    else:
        assert evaluation.metrics.accuracy >= least > evaluation.baseline.metrics["accuracy"]


OPTIONS = [
    ("classes", {"optimizer": "sgd", "nesterov": True, "weight_decay": 1e-4, "class_weights": "balanced"}),
    ("classes", {"optimizer": "adamw", "clip_norm": 1.0, "label_smoothing": 0.1, "schedule": "step"}),
    ("classes", {"optimizer": "lion", "learning_rate": 1e-3, "loss": "focal", "schedule": "constant", "ema": 0.3}),
    ("numbers", {"optimizer": "adam", "loss": "huber", "schedule": "plateau", "weight_decay": 1e-4}),
    ("labels", {"optimizer": "adam", "loss": "binary", "class_weights": "balanced", "learning_rate": 0.01}),
    ("numbers", {"optimizer": "adamw", "loss": "absolute", "warmup_rounds": 0.5, "patience": 0}),
]


@pytest.mark.parametrize(
    ("kind", "options"), OPTIONS, ids=[f"{kind}-{options['optimizer']}" for kind, options in OPTIONS]
)
def test_every_optimizer_loss_and_schedule_learns(kind, options):
    stores = []
    for _ in range(2):
        store = committed(kind, rounds=4, **options)
        state = train(store, start(store))
        assert state.finished
        stores.append(dict(store.objects))
        _, evaluation = finish(store, state)
    assert stores[0] == stores[1]
    metrics = evaluation.metrics
    settings = read_settings(store, RUN)
    assert {name: settings.optimizer_config[name] for name in options if name in settings.optimizer_config} == {
        name: value for name, value in options.items() if name in settings.optimizer_config
    }
    if kind == "numbers":
        assert metrics.r2 > 0.9
        assert 0 < metrics.median_absolute_error < metrics.absolute_error_quantiles["0.99"]
    elif kind == "labels":
        assert metrics.micro_f1 >= 0.85 and len(settings.loss_config["class_weights"]) == 3
    else:
        assert metrics.accuracy >= 0.9
        assert metrics.roc_auc > 0.95 and metrics.pr_auc > 0.9 and metrics.calibration_error is not None


VARIATIONS = {
    "image": {"shift": 0.1, "rotation": 10, "brightness": 0.2, "cutout": 0.2, "mixup": 0.2},
    "numbers": {"noise": 0.05},
    "labels": {"noise": 0.1, "token_dropout": 0.2},
}


@pytest.mark.parametrize("kind", VARIATIONS)
def test_varied_samples_are_learnt_from_and_a_repeated_round_repeats_them(kind):
    stores = []
    for asked in (AugmentConfig(**VARIATIONS[kind]), AugmentConfig(**VARIATIONS[kind]), "none"):
        store = committed(kind, augment=asked)
        train(store, start(store))
        stores.append(store)
    varied, again, plain = stores
    keys = RunKeys(RUN)
    assert varied.objects == again.objects
    assert varied.read(keys.update(1, 0)) != plain.read(keys.update(1, 0))
    # Only the targets of mixed classes need another step, and no network is another for it.
    assert (varied.read(keys.step_graph) == plain.read(keys.step_graph)) == (kind != "image")
    assert varied.read(keys.forward_graph) == plain.read(keys.forward_graph)
    before = dict(varied.objects)
    for key in (keys.round(2), keys.update(2, 1), keys.round(3), keys.update(3, 0)):
        del varied.objects[key]
    train(varied, start(varied))
    assert varied.objects == before
    metrics = finish(varied, start(varied))[1].metrics
    assert metrics.score()[0] > (0.85 if kind != "numbers" else -40)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classes", {"label_smoothing": 0.1}),
        ("classes", {"loss": "focal"}),
        ("classes", {"clip_norm": 1.0}),
        ("numbers", {"loss": "absolute"}),
        ("numbers", {"loss": "huber", "huber_delta": 0.5}),
    ],
)
def test_loss_and_clipping_are_in_the_step_graph(kind, options):
    plain, other = committed(kind), committed(kind, **options)
    start(plain)
    start(other)
    keys = RunKeys(RUN)
    assert plain.read(keys.step_graph) != other.read(keys.step_graph)
    assert plain.read(keys.forward_graph) == other.read(keys.forward_graph)


def test_the_exported_model_answers_in_the_targets_units():
    store = committed("numbers")
    train(store, start(store))
    inputs = lines(20, seed=7)
    answers = Session(store.read(RunKeys(RUN).model), 1).run({"numbers": inputs["numbers"]})
    assert answers["value"].shape == (20,)
    assert np.abs(answers["value"] - inputs["target"]).mean() < 40


def test_starting_again_changes_nothing():
    store = committed("classes")
    first = start(store)
    objects = dict(store.objects)
    assert (first.round, first.finished) == (1, False)
    assert start(store) == first
    assert store.objects == objects


def test_a_start_killed_before_its_settings_ends_in_the_same_bytes():
    store = committed("classes")
    start(store)
    objects = dict(store.objects)
    for key in (RunKeys(RUN).settings, RunKeys(RUN).step_graph):
        del store.objects[key]
    start(store)
    assert store.objects == objects


def test_a_run_resumes_at_its_newest_committed_round():
    store = committed("classes")
    train(store, start(store))
    whole = dict(store.objects)
    keys = RunKeys(RUN)
    for key in (keys.round(3), keys.checkpoint(3), keys.round(2), keys.model, keys.update(3, 1)):
        del store.objects[key]
    state = start(store)
    assert (state.round, state.finished) == (2, False)
    state = train(store, state)
    assert state.finished
    assert store.objects == whole
    assert start(store) == state


def test_settings_hold_what_the_graphs_were_built_from():
    store = committed("image")
    start(store)
    settings = read_settings(store, RUN)
    assert settings.recipe == "cnn" and settings.recipe_config["channels"]
    assert settings.optimizer_config["name"] == settings.optimizer == "adam"
    assert "recipe" in settings.inferred and "rounds" not in settings.inferred


def test_a_dataset_that_is_not_committed_is_not_found():
    with pytest.raises(NotFound):
        start(MemoryStore())


def test_one_class_is_refused_before_anything_is_written():
    store = MemoryStore()
    tensors = blobs(30)
    tensors["target"][:] = 0
    commit(store, table_spec(), {"train": tensors})
    keys = set(store.objects)
    with pytest.raises(BadDataset, match="only the class 'a'"):
        start(store)
    assert set(store.objects) == keys


def test_a_run_belongs_to_one_dataset_version():
    store = committed("classes")
    start(store)
    with pytest.raises(Conflict, match="was started on dataset 'tiny' version v1"):
        start_training(store, RUN, DATASET, "v2")


def test_settings_of_the_network_reach_the_graph_and_a_wrong_one_is_named():
    splits = {"train": drawings(64), "validation": drawings(16, seed=1), "test": drawings(16, seed=2)}
    store = MemoryStore()
    asked = DatasetConfig(recipe="cnn", network={"channels": [4], "hidden": 8})
    commit(store, image_spec(), splits, config=asked)
    start_training(store, "run", DATASET, VERSION)
    chosen = read_settings(store, "run").recipe_config
    assert (chosen["channels"], chosen["hidden"], chosen["kernel"]) == ([4], 8, 3)
    shapes = [array.shape for array in read_checkpoint(store, "run", 0).parameters.values()]
    assert (4, 1, 3, 3) in shapes

    wrong = MemoryStore()
    commit(wrong, image_spec(), splits, config=DatasetConfig(recipe="cnn", network={"chanels": [4]}))
    with pytest.raises(BadConfig, match=r"'chanels'.*takes: channels, convolutions, hidden, kernel"):
        start_training(wrong, "run", DATASET, VERSION)
