"""What a run by request may change, and what it trains by."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shoal._training import RUN_FIELDS, TRAINING_FIELDS
from shoal_core.data.config import DatasetConfig, TrainingConfig, parse_config
from shoal_core.errors import BadConfig, BadInput
from shoal_core.keys import RunKeys
from shoal_core.training.requests import OVERRIDABLE, RunRequest, overridden, run_config
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, table_spec

CONFIG = parse_config(
    b"recipe: cnn\nnetwork: {channels: [8, 16]}\nimage_size: 8\ntraining: {epochs: 3, momentum: 0.9}\n"
    b"budget: {minutes: 3}\naugment: {flip: true}\nexpect: [{column: age, min: 0, max: 3}]\nsplit: {test: 0.2}\n"
)


def request(**changes: Any) -> RunRequest:
    return RunRequest(**{"dataset": "digits", "version": "0123456789ab", **changes})


def test_nothing_asked_for_changes_nothing() -> None:
    assert overridden(CONFIG, {}) == CONFIG
    assert overridden(DatasetConfig(), {}) == DatasetConfig()


def test_mappings_are_laid_over_and_the_rest_is_replaced() -> None:
    found = overridden(CONFIG, {"training": {"epochs": 5, "momentum": None}, "budget": {"dollars": 1}, "seed": 7})
    assert found.training == TrainingConfig(epochs=5)
    assert found.budget is not None and (found.budget.minutes, found.budget.dollars) == (3, 1)
    assert (found.seed, found.split, found.image_size) == (7, CONFIG.split, CONFIG.image_size)
    assert overridden(CONFIG, {"augment": "none"}).augment == "none"
    assert overridden(CONFIG, {"budget": None}).budget is None


def test_another_recipe_drops_the_settings_of_the_others_network() -> None:
    assert overridden(CONFIG, {"recipe": "resnet"}).network == {}
    assert overridden(CONFIG, {"recipe": "resnet", "network": {"blocks": 2}}).network == {"blocks": 2}
    assert overridden(CONFIG, {"recipe": "cnn"}).network == overridden(CONFIG, {"seed": 1}).network == CONFIG.network


@pytest.mark.parametrize(
    ("overrides", "reason", "fix"),
    [
        ({"split": {"test": 0.3}}, "'split' says what the data are", "upload again"),
        ({"columns": {}}, "'columns' says what the data are", "upload again"),
        ({"target": "b"}, "'target' says what the data are", "A run may change: recipe, network"),
        ({"epochs": 3}, "unknown field 'epochs'", "Did you mean 'training.epochs'?"),
        ({"recipee": "cnn"}, "unknown field 'recipee'", "Did you mean 'recipe'?"),
        ({"training": {"epoch": 3}}, "unknown field 'epoch' under 'training'", "Did you mean 'epochs'?"),
        ({"training": {"epochs": 0}}, r"training\.epochs: 0 isn't allowed", "whole number from 1 to 1000"),
        ({"training": 3}, "training: 3 isn't allowed", "epochs"),
        ({"workers": 41}, "workers: 41", "1 to 40"),
        ({"recipe": "nothing"}, "recipe: 'nothing'", "auto, mlp or linear"),
        ({"network": None}, "network: None", "settings of the recipe"),
    ],
)
def test_what_cannot_be_changed_is_refused_by_name(overrides: dict[str, Any], reason: str, fix: str) -> None:
    with pytest.raises(BadConfig, match=f"the request: {reason}") as caught:
        overridden(CONFIG, overrides)
    assert fix in caught.value.fix


def test_the_same_request_is_the_same_run() -> None:
    one = request(overrides={"training": {"epochs": 5, "momentum": 0.9}})
    same = request(overrides={"training": {"momentum": 0.9, "epochs": 5}})
    assert one.run_id == same.run_id and one.encode() == same.encode()
    others = {
        request().run_id,
        request(overrides={"seed": 1}).run_id,
        request(network="0" * 64).run_id,
        request(tuning="search").run_id,
        request(version="ba9876543210").run_id,
    }
    assert len(others | {one.run_id}) == 6
    assert all(run_id.startswith("digits-") and len(run_id.rpartition("-")[2]) == 8 for run_id in others)


@pytest.mark.parametrize("overrides", [{"card": {"limits": "x" * 70_000}}, {"training": {"ema": math.nan}}])
def test_a_request_that_cannot_be_written_is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="the request"):
        request(overrides=overrides).encode()


def test_a_run_trains_by_its_request_and_without_one_by_dataset_yaml() -> None:
    store = MemoryStore()
    splits = {"train": blobs(64), "validation": blobs(16, seed=1), "test": blobs(16, seed=2)}
    manifest = commit(store, table_spec(4, 3), splits, config=DatasetConfig(workers=3))
    assert run_config(store, "run", manifest) == manifest.config
    store.write(RunKeys("run").request, request(overrides={"seed": 4}).encode())
    assert run_config(store, "run", manifest) == DatasetConfig(workers=3, seed=4)
    store.write(RunKeys("run").request, b"{")
    with pytest.raises(BadInput, match=r"'runs/run/request\.json' can't be read"):
        run_config(store, "run", manifest)


def test_the_sdk_knows_every_field() -> None:
    assert sorted(RUN_FIELDS) == sorted(OVERRIDABLE)
    assert sorted(TRAINING_FIELDS) == sorted(TrainingConfig.model_fields)
