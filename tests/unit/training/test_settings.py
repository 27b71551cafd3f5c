"""What is inferred, what is kept, and what is refused."""

from __future__ import annotations

import pytest

from shoal_core.data.config import IMAGE_RECIPES, DatasetConfig, TrainingConfig
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig, BadDataset, BadInput
from shoal_core.training.settings import TrainingSettings, resolve_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, drawings, image_spec, lines, table_spec

EVERYTHING = DatasetConfig(
    recipe="mlp",
    workers=3,
    rounds=7,
    seed=5,
    training=TrainingConfig(optimizer="sgd", learning_rate=0.3, batch_size=30, epochs=4),
)


def table(train: int = 256, held_out: int = 40, classes: int = 3) -> Manifest:
    make = blobs if classes else lines
    splits = {"train": make(train)}
    if held_out:
        splits |= {"validation": make(held_out, seed=1), "test": make(held_out, seed=2)}
    return commit(MemoryStore(), table_spec(classes=classes), splits)


def images() -> Manifest:
    splits = {"train": drawings(256), "validation": drawings(40, seed=1), "test": drawings(40, seed=2)}
    return commit(MemoryStore(), image_spec(), splits)


def test_everything_that_is_left_out_is_inferred():
    settings, inferred = resolve_settings(DatasetConfig(), images(), "run")
    assert inferred == [
        "recipe", "training.optimizer", "training.learning_rate", "training.batch_size", "workers",
        "training.epochs", "rounds", "augment",
    ]  # fmt: skip
    assert (settings.recipe, settings.optimizer, settings.workers) == ("cnn", "adam", 2)
    assert (settings.batch_size, settings.local_batch_size) == (32, 16)
    assert 8 <= settings.rounds <= 12
    assert settings.total_steps * settings.batch_size >= settings.epochs * 256
    assert settings.classes == ("a", "b", "c")
    assert (settings.validation_split, settings.evaluation_split, settings.warnings) == ("validation", "test", ())


def test_what_planning_inferred_is_listed_too():
    manifest = images().model_copy(update={"inferred": ("task", "recipe")})
    assert resolve_settings(DatasetConfig(), manifest, "run")[1][:3] == ["task", "recipe", "training.optimizer"]


def test_everything_that_is_asked_for_is_kept():
    settings, inferred = resolve_settings(EVERYTHING, table(), "run")
    assert inferred == []
    asked = EVERYTHING.training
    assert (settings.recipe, settings.workers, settings.rounds, settings.seed) == ("mlp", 3, 7, 5)
    assert (settings.optimizer, settings.learning_rate) == (asked.optimizer, asked.learning_rate)
    assert (settings.batch_size, settings.local_batch_size, settings.epochs) == (30, 10, 4)
    assert settings.steps_per_round == 5  # 4 epochs of 256 samples, 30 a step, over 7 rounds


def test_regression_knows_the_target():
    settings, _ = resolve_settings(DatasetConfig(), table(classes=0), "run")
    assert settings.recipe == "mlp"
    assert settings.target_mean == pytest.approx(1000, abs=20)
    assert settings.target_std > 1


def test_workers_never_outnumber_shards_or_the_batch():
    settings, _ = resolve_settings(DatasetConfig(workers=40), table(), "run")
    assert settings.workers == 4
    assert settings.warnings == ("4 workers instead of 40: there are no more for 4 training shards.",)
    small = DatasetConfig(workers=4, training=TrainingConfig(batch_size=2))
    assert resolve_settings(small, table(), "run")[0].workers == 2
    assert resolve_settings(DatasetConfig(), table(train=20), "run")[0].workers == 1


def test_held_out_samples_are_replaced_with_a_warning():
    settings, _ = resolve_settings(DatasetConfig(), table(held_out=0), "run")
    assert (settings.validation_split, settings.evaluation_split) == ("train", "train")
    assert len(settings.warnings) == 2 and all("flatters" in warning for warning in settings.warnings)


def test_known_anomalies_alone_cant_hold_out_a_threshold():
    manifest = table()
    target = manifest.spec.target.model_copy(update={"task": "anomaly"})
    manifest = manifest.model_copy(update={"spec": manifest.spec.model_copy(update={"target": target})})
    for normal, split in ((0, "train"), (1, "validation")):
        counted = manifest.model_copy(update={"class_counts": {"validation": {"normal": normal, "anomalous": 1}}})
        settings, _ = resolve_settings(DatasetConfig(recipe="autoencoder"), counted, "run")
        assert settings.validation_split == split
        assert any("no normal samples for validation" in told for told in settings.warnings) == (normal == 0)


@pytest.mark.parametrize(("asked", "rounds", "each"), [(None, 6, 2), (4, 4, 3), (100, 11, 1)])
def test_rounds_hold_the_steps_of_the_epochs(asked, rounds, each):
    config = DatasetConfig(rounds=asked, workers=2, training=TrainingConfig(epochs=1, batch_size=24))
    settings, _ = resolve_settings(config, table(train=256), "run")
    assert (settings.rounds, settings.steps_per_round) == (rounds, each)
    assert any("rounds instead of" in warning for warning in settings.warnings) == (asked == 100)


def test_big_images_get_shorter_rounds():
    manifest = images()
    big = manifest.model_copy(update={"spec": image_spec(side=512)})
    small, _ = resolve_settings(DatasetConfig(), manifest, "run")
    settings, _ = resolve_settings(DatasetConfig(), big, "run")
    assert settings.steps_per_round < small.steps_per_round
    assert settings.epochs == small.epochs


def test_rounds_that_may_outlast_a_function_are_warned_of():
    big = images().model_copy(update={"spec": image_spec(side=512)})
    settings, _ = resolve_settings(DatasetConfig(rounds=1), big, "run")
    assert any("several attempts of 15 minutes" in warning for warning in settings.warnings)


def test_more_work_than_rounds_allow_is_refused():
    big = images().model_copy(update={"spec": image_spec(side=1024)})
    with pytest.raises(BadConfig, match=r"need .* rounds; a run has at most 500"):
        resolve_settings(DatasetConfig(training=TrainingConfig(epochs=1000)), big, "run")


def test_one_class_is_refused():
    train = blobs(30)
    train["target"][:] = 1
    manifest = commit(MemoryStore(), table_spec(), {"train": train})
    with pytest.raises(BadDataset, match="only the class 'b'"):
        resolve_settings(DatasetConfig(), manifest, "run")


def test_no_training_samples_are_refused():
    manifest = commit(MemoryStore(), table_spec(), {"validation": blobs(30)})
    with pytest.raises(BadDataset, match="'tiny' version v1 has no training samples"):
        resolve_settings(DatasetConfig(), manifest, "run")


@pytest.mark.parametrize("recipe", sorted(IMAGE_RECIPES))
def test_a_recipe_for_images_is_refused_for_a_table(recipe):
    with pytest.raises(BadConfig, match=f"{recipe} needs images"):
        resolve_settings(DatasetConfig(recipe=recipe), table(), "run")


def test_a_linear_model_takes_larger_steps():
    for recipe, rate in {"linear": 0.02, "mlp": 0.002}.items():
        settings, _ = resolve_settings(DatasetConfig(recipe=recipe), table(), "run")
        assert settings.learning_rate == rate


def test_settings_survive_their_bytes():
    settings, _ = resolve_settings(EVERYTHING, table(), "run")
    assert TrainingSettings.decode(settings.encode()) == settings
    with pytest.raises(BadInput, match="settings of the run"):
        TrainingSettings.decode(b"{}")


def test_rounds_and_workers_are_as_many_as_asked_for_whatever_one_execution_holds():
    splits = {"train": drawings(320), "validation": drawings(8), "test": drawings(8)}
    manifest = commit(MemoryStore(), image_spec(), splits, shard_samples=8)
    settings, _ = resolve_settings(DatasetConfig(workers=40, rounds=500), manifest)
    assert (settings.workers, settings.rounds) == (32, 500)
