"""Loss, optimizer and schedule: what is filled in, what is shown, and what is refused."""

from __future__ import annotations

import pytest

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.training.objectives import balanced_weights
from shoal_core.training.rounds import step_learning_rate
from shoal_core.training.settings import TrainingSettings, resolve_settings
from shoal_core.training.showing import shown_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, lines, table_spec


def table(classes: int = 3) -> Manifest:
    make = blobs if classes else lines
    splits = {"train": make(256), "validation": make(40, seed=1), "test": make(40, seed=2)}
    return commit(MemoryStore(), table_spec(classes=classes), splits)


def resolved(classes: int = 3, rounds: int = 9, **training: object) -> TrainingSettings:
    config = DatasetConfig(rounds=rounds, training=TrainingConfig(**training))
    return resolve_settings(config, table(classes), "run")[0]


def test_what_is_left_out_is_what_it_was():
    settings = resolved()
    assert (settings.loss, settings.loss_config, settings.optimizer_config) == (
        "cross_entropy",
        {},
        {"weight_decay": 1.0},
    )
    assert (settings.schedule, settings.patience, settings.ema) == ("cosine", 5, None)
    assert settings.warmup_steps == settings.total_steps // 10
    assert resolved(classes=0).loss == "squared"
    for rounds in (1, 3, 20):
        assert resolved(rounds=rounds).warmup_steps == resolved(rounds=rounds).total_steps // 10


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 2e-3), ("adamw", 2e-3), ("sgd", 5e-2), ("lion", 3e-4)])
def test_every_optimizer_has_a_learning_rate(optimizer, rate):
    assert resolved(optimizer=optimizer).learning_rate == rate


def test_what_is_asked_for_reaches_the_settings():
    settings = resolved(
        optimizer="sgd", momentum=0.8, nesterov=True, weight_decay=0.01, clip_norm=2.0, loss="focal", focal_gamma=1.0,
        class_weights="balanced", schedule="step", decay_factor=0.3, decay_rounds=4, warmup_rounds=0.5, patience=0,
        ema=0.9,
    )  # fmt: skip
    assert settings.optimizer_config == {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01, "clip_norm": 2.0}
    assert settings.loss_config["gamma"] == 1.0
    assert settings.loss_config["class_weights"] == pytest.approx([1.0, 1.0, 1.0], rel=0.02)
    assert (settings.schedule, settings.decay_factor, settings.decay_rounds) == ("step", 0.3, 4)
    assert (settings.patience, settings.ema) == (0, 0.9)
    assert settings.warmup_steps == -(-settings.steps_per_round // 2)
    assert TrainingSettings.decode(settings.encode()) == settings


def test_settings_of_before_are_read():
    whole = resolved().model_dump(mode="json")
    new = {"loss", "loss_config", "schedule", "warmup_rounds", "decay_factor", "decay_rounds", "ema"}
    old = TrainingSettings.model_validate({name: value for name, value in whole.items() if name not in new})
    assert [step_learning_rate(old, step) for step in range(old.total_steps)] == [
        step_learning_rate(resolved(), step) for step in range(old.total_steps)
    ]


@pytest.mark.parametrize(
    ("classes", "training", "reason", "fix"),
    [
        (3, {"momentum": 0.5}, "training.momentum means nothing with optimizer adam", "training.optimizer to sgd"),
        (3, {"optimizer": "lion", "nesterov": True}, "nesterov means nothing with optimizer lion", "Leave it out"),
        (3, {"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov needs momentum", "0.9"),
        (3, {"loss": "huber"}, "huber isn't for classification", "cross_entropy or focal"),
        (0, {"loss": "focal"}, "focal isn't for regression", "squared or absolute or huber"),
        (0, {"class_weights": "balanced"}, "class_weights means nothing with loss squared", "cross_entropy or focal"),
        (3, {"loss": "focal", "label_smoothing": 0.1}, "label_smoothing means nothing", "to cross_entropy"),
        (3, {"focal_gamma": 1.0}, "focal_gamma means nothing with loss cross_entropy", "to focal"),
        (0, {"loss": "absolute", "huber_delta": 1.0}, "huber_delta means nothing with loss absolute", "to huber"),
        (3, {"decay_factor": 0.5}, "decay_factor means nothing with schedule cosine", "step or plateau"),
        (3, {"schedule": "constant", "decay_rounds": 2}, "decay_rounds means nothing", "step or plateau"),
    ],
)
def test_what_means_nothing_together_is_refused(classes, training, reason, fix):
    with pytest.raises(BadConfig) as caught:
        resolved(classes, **training)
    assert reason in caught.value.reason
    assert fix in caught.value.fix


def test_balanced_weights():
    weights = balanced_weights([80, 15, 5, 0])
    assert [count * weight for count, weight in zip([80, 15, 5], weights, strict=False)] == pytest.approx([100 / 3] * 3)
    assert sum(count * weight for count, weight in zip([80, 15, 5, 0], weights, strict=True)) == pytest.approx(100)
    assert weights[3] == 1.0


def test_a_warmup_that_never_ends_is_warned_of():
    settings = resolved(rounds=3, warmup_rounds=4)
    assert settings.warmup_steps == settings.total_steps
    assert settings.warnings == ("The learning rate warms up during all 3 rounds; its peak is the last step.",)


def test_steps_are_taken_every_so_many_rounds():
    settings = resolved(rounds=6, schedule="step", decay_factor=0.5, decay_rounds=2, warmup_rounds=0, learning_rate=0.8)
    rates = [step_learning_rate(settings, round_ * settings.steps_per_round) for round_ in range(6)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
    assert step_learning_rate(settings, 0, 0.25) == pytest.approx(0.2)


def test_a_plateau_acts_before_the_run_is_stopped():
    assert resolved(rounds=12, schedule="plateau").decay_rounds == 2
    assert resolved(rounds=12, schedule="plateau", patience=0).decay_rounds == 4
    assert resolved(rounds=12, schedule="step").decay_rounds == 4
    late = resolved(schedule="plateau", patience=2, decay_rounds=2)
    assert any("stopped early before a plateau" in warning for warning in late.warnings)


def shown(classes: int = 3, **training: object) -> dict[str, object]:
    return shown_settings(resolved(classes, **training), table(classes))


def test_settings_are_shown_as_dataset_yaml_says_them():
    found = shown(loss="focal", class_weights="balanced", schedule="plateau", ema=0.5, clip_norm=1.0, warmup_rounds=0)
    training = found["training"]
    assert isinstance(training, dict)
    assert set(training) <= set(TrainingConfig.model_fields)
    assert training["loss"] == "focal" and training["focal_gamma"] == 2.0
    assert training["class_weights"] == "balanced"
    assert (training["ema"], training["clip_norm"], training["warmup_rounds"]) == (0.5, 1.0, 0.0)
    assert (training["schedule"], training["decay_factor"], training["decay_rounds"]) == ("plateau", 0.1, 1)
    assert list(found["class_weights"]) == ["a", "b", "c"]
    assert found["patience"] == training["patience"] == 5
    assert TrainingConfig.model_validate(training).loss == "focal"


def test_settings_that_mean_nothing_are_not_shown():
    training = shown(classes=0)["training"]
    assert isinstance(training, dict)
    assert training["loss"] == "squared"
    assert not {"class_weights", "label_smoothing", "ema", "clip_norm", "decay_factor"} & set(training)
    assert "class_weights" not in shown()
