"""Which recipe a dataset gets, and which it can't have."""

from __future__ import annotations

import re

import pytest

from shoal_core.data.config_types import Recipe
from shoal_core.errors import BadConfig
from shoal_core.graphs.recipes import recipe_names
from shoal_core.training.recipes import (
    epochs_for,
    optimizer_for,
    require_recipe,
    steps_in_round,
    suggest_recipe,
    weight_decay_for,
)
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    blobs,
    commit,
    drawings,
    image_spec,
    profile_spec,
    profiles,
    reviews,
    sequence_spec,
    table_spec,
    text_spec,
    waves,
)

DATA = {
    "image": (image_spec(), drawings, "cnn"),
    "table": (table_spec(), blobs, "mlp"),
    "text": (text_spec(), reviews, "fasttext"),
    "labels": (profile_spec(), profiles, "mlp"),
    "sequence": (sequence_spec(), waves, "rnn"),
}
REFUSED: dict[str, dict[Recipe, str]] = {
    "image": {"fasttext": "texts", "text-cnn": "texts", "rnn": "texts or sequences", "transformer": "texts or"},
    "table": {"cnn": "images", "fasttext": "texts", "rnn": "texts or sequences", "crnn": "texts, sequences or images"},
    "text": {"cnn": "images", "vgg": "images"},
    "sequence": {"resnet": "images", "fasttext": "texts", "text-cnn": "texts"},
}


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_of_data_has_its_recipe_and_a_reason(kind):
    spec, make, wanted = DATA[kind]
    recipe, why = suggest_recipe(commit(MemoryStore(), spec, {"train": make(60)}))
    assert recipe == wanted and why.endswith(".")
    require_recipe(recipe, spec)


@pytest.mark.parametrize(("kind", "recipe"), [(kind, recipe) for kind, found in REFUSED.items() for recipe in found])
def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_built(kind, recipe):
    with pytest.raises(BadConfig, match=re.escape(f"recipe: {recipe} needs {REFUSED[kind][recipe]}")):
        require_recipe(recipe, DATA[kind][0])


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_knows_its_time(recipe):
    assert epochs_for(recipe, 10) == 100 and epochs_for(recipe, 10**9) == 3
    assert steps_in_round(recipe, text_spec(), 32) >= steps_in_round(recipe, text_spec(), 64) > 100


@pytest.mark.parametrize(("recipe", "samples", "epochs"), [("cnn", 1_250, 48), ("cnn", 60_000, 9), ("mlp", 38_000, 26)])
def test_more_is_seen_of_larger_sets_though_less_often(recipe, samples, epochs):
    assert epochs_for(recipe, samples) == epochs
    assert epochs_for(recipe, 2 * samples) < epochs
    assert epochs_for(recipe, 2 * samples) * 2 > epochs_for(recipe, samples)


def test_networks_on_tables_decay_more_the_fewer_samples_there_are():
    table, text, image = table_spec(), text_spec(), image_spec()
    assert optimizer_for("mlp", table) == "adamw"
    assert [weight_decay_for("mlp", table, "adamw", samples) for samples in (100, 5_000, 50_000)] == [1.0, 1.0, 0.1]
    for recipe, spec in (("linear", table), ("mlp", text), ("cnn", image)):
        assert optimizer_for(recipe, spec) == "adam"
        assert weight_decay_for(recipe, spec, "adamw", 100) is None
    assert weight_decay_for("mlp", table, "sgd", 100) is None


def test_longer_samples_get_shorter_rounds():
    spec = sequence_spec()
    long = spec.model_copy(update={"sequence": spec.sequence.model_copy(update={"window": 640})})
    assert steps_in_round("rnn", long, 64) == pytest.approx(steps_in_round("rnn", spec, 64) / 10, rel=0.01)
    assert steps_in_round("mlp", long, 64) == steps_in_round("mlp", spec, 64)
    assert steps_in_round("mlp", text_spec(), 64) == steps_in_round("fasttext", text_spec(), 64)
    text = text_spec().table.texts[0].model_copy(update={"vocabulary": (), "buckets": 200_000})
    wide = text_spec().model_copy(update={"table": text_spec().table.model_copy(update={"texts": (text,)})})
    assert steps_in_round("fasttext", wide, 64) == pytest.approx(
        steps_in_round("fasttext", text_spec(), 64) / 10, rel=0.01
    )
