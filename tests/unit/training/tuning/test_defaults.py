"""What is tried when nobody says what: it fits the data, it is valid, and its networks can be built."""

from __future__ import annotations

from typing import Any

import pytest

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.training.requests import overridden
from shoal_core.training.settings import resolve_settings
from shoal_core.training.signatures import signature_of
from shoal_core.training.tuning.defaults import default_space
from shoal_core.training.tuning.records import overrides_of
from shoal_core.training.tuning.sampling import Sampler
from shoal_core.training.tuning.space import check_space, parse_space
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    blobs,
    commit,
    drawings,
    image_spec,
    lines,
    reviews,
    sequence_spec,
    table_spec,
    text_spec,
    waves,
)

DATA: dict[str, tuple[PreprocessingSpec, Any, set[str]]] = {
    "images": (image_spec(), drawings, {"cnn", "resnet", "mlp"}),
    "table": (table_spec(), blobs, {"mlp", "linear"}),
    "numbers": (table_spec(classes=0), lines, {"mlp", "linear"}),
    "texts": (text_spec(), reviews, {"fasttext", "text-cnn", "mlp"}),
    "windows": (sequence_spec(), waves, {"rnn", "crnn", "transformer", "mlp"}),
}


@pytest.mark.parametrize("kind", DATA)
def test_a_default_space_fits_its_data(kind: str) -> None:
    spec, make, recipes = DATA[kind]
    manifest = commit(MemoryStore(), spec, {"train": make(96), "validation": make(40, seed=1)})
    space = default_space(manifest, manifest.config)
    check_space(space, manifest.config)
    assert set(space.recipes) == recipes
    sampler, signature = Sampler(space, 0, True), signature_of(manifest)
    assert sampler(0) == {}
    tried = set()
    for number in range(1, 1 + 4 * len(recipes)):
        config = overridden(manifest.config, overrides_of(sampler(number) or {}))
        settings, _ = resolve_settings(config, manifest)
        network = default_config(settings.recipe, signature, 96) | config.network
        build_forward(settings.recipe, network, signature, 0)
        tried.add(settings.recipe)
        assert settings.workers == 1
    assert tried == recipes


def test_what_is_tried_lies_around_what_a_recipe_would_take() -> None:
    spec, make, _ = DATA["table"]
    asked = DatasetConfig(training=TrainingConfig(batch_size=8192))
    manifest = commit(MemoryStore(), spec, {"train": make(9000)}, 5000, asked)
    space = default_space(manifest, asked).document()
    check_space(parse_space(space), asked)
    assert space["training.batch_size"] == {"choice": [4096, 8192]}
    usual = {
        recipe: resolve_settings(overridden(asked, {"recipe": recipe}), manifest)[0] for recipe in space["recipes"]
    }
    for recipe, varied in space["recipes"].items():
        low, high = varied["training.weight_decay"]["log_uniform"]
        decay = usual[recipe].optimizer_config.get("weight_decay")
        assert decay is None or low <= decay <= high
    assert space["recipes"]["linear"]["training.weight_decay"] == {"log_uniform": [1e-7, 1e-3]}


def test_a_script_is_nothing_that_a_trial_trains() -> None:
    asked = DatasetConfig(training=TrainingConfig(script="mine/train.py"), compute="sagemaker")
    spec, make, _ = DATA["table"]
    manifest = commit(MemoryStore(), spec, {"train": make(96)}, config=asked)
    settings, _ = resolve_settings(overridden(asked, overrides_of({})), manifest)
    assert settings.job is None and settings.recipe == "mlp"


def test_what_dataset_yaml_says_stays() -> None:
    spec, make, _ = DATA["table"]
    asked = DatasetConfig(
        recipe="mlp",
        network={"hidden": [8]},
        augment="none",
        training=TrainingConfig(optimizer="adamw", learning_rate=0.5, batch_size=10, label_smoothing=0.2),
    )
    manifest = commit(MemoryStore(), spec, {"train": make(96)}, config=asked)
    assert default_space(manifest, asked).document() == {
        "recipes": {
            "mlp": {
                "training.learning_rate": {"log_uniform": [0.1, 2.5]},
                "training.weight_decay": {"log_uniform": [0.1, 1.0]},
            }
        },
        "training.batch_size": {"choice": [5, 10, 20]},
    }
