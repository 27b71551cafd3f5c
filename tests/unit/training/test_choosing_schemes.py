"""Which scheme, how many rounds and which outer step a run gets, and what it says of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.errors import BadConfig
from shoal_core.training.checkpoints import GRADIENT
from shoal_core.training.schemes import RoundCost, SharedRun, asked_scheme, choose_scheme, outer_step, usual_rounds
from shoal_core.training.sessions import session_of
from shoal_core.training.settings import TrainingSettings, resolve_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, table_spec
from tests.unit.training.scheme_runs import KEYS, RUN, begun, one_round


def resolved(workers: int | None = 4, rounds: int | None = None, **training: Any) -> TrainingSettings:
    store = MemoryStore()
    splits = {"train": blobs(256), "validation": blobs(60, seed=1), "test": blobs(9)}
    config = DatasetConfig(
        recipe="mlp", workers=workers, rounds=rounds, training=TrainingConfig.model_validate(training)
    )
    return resolve_settings(config, commit(store, table_spec(), splits), RUN)[0]


def test_a_synchronous_run_has_a_round_for_each_step() -> None:
    settings = resolved(scheme="synchronous", epochs=4, batch_size=32)
    assert (settings.rounds, settings.steps_per_round, settings.batch_size) == (32, 1, 32)
    assert settings.warmup_steps == 3
    assert (settings.outer_learning_rate, settings.outer_momentum) == (1.0, 0.0)


def test_a_synchronous_batch_grows_until_the_epochs_fit_the_rounds() -> None:
    assert (resolved(scheme="synchronous", rounds=8, epochs=3).batch_size, 8) == (96, 8)
    settings = resolved(scheme="synchronous", epochs=200)
    assert (settings.batch_size, settings.rounds) == (104, 493)
    with pytest.raises(BadConfig, match=r"200 epochs over 256 samples in batches of 32 are 1,600 steps") as caught:
        resolved(scheme="synchronous", epochs=200, batch_size=32)
    assert "Raise training.batch_size to 104" in caught.value.fix
    with pytest.raises(BadConfig, match="takes one step a round"):
        resolved(scheme="synchronous", epochs=10, rounds=2)


@pytest.mark.parametrize("scheme", ["synchronous", "diloco"])
def test_one_worker_has_nobody_to_exchange_with(scheme: str) -> None:
    plain, settings = resolved(workers=1), resolved(workers=1, scheme=scheme)
    assert settings.warnings == (f"training.scheme: {scheme} isn't used: one worker has nobody to exchange with.",)
    assert settings.model_copy(update={"warnings": ()}) == plain
    assert plain.scheme == "local"


def test_diloco_has_an_outer_step_of_its_own() -> None:
    settings = resolved(scheme="diloco")
    assert (settings.scheme, settings.outer_learning_rate, settings.outer_momentum) == ("diloco", 0.7, 0.65)
    assert resolved(scheme="diloco", outer_momentum=0.0).outer_momentum == 0.0
    assert resolved(scheme="diloco", outer_learning_rate=3.0).outer_momentum == 0.0
    assert resolved(scheme="local").rounds == settings.rounds == resolved().rounds


def test_other_workers_have_the_momentum_that_goes_with_them() -> None:
    settings = resolved(workers=8)
    assert {"training.outer_learning_rate", "training.outer_momentum"} < set(settings.inferred)
    assert [settings.with_workers(workers).outer_momentum for workers in (8, 4, 1)] == [0.753, 0.65, 0.3]
    asked = resolved(workers=8, scheme="diloco", outer_momentum=0.5)
    assert asked.with_workers(4).outer_momentum == 0.5
    assert resolved(workers=2).with_workers(4).outer_momentum == 0.0


def test_momentum_makes_up_for_the_noise_of_small_parts_of_a_batch() -> None:
    for workers, momentum in ((2, 0.505), (4, 0.65), (40, 0.889)):
        assert outer_step(TrainingConfig(), "diloco", workers).momentum == momentum
        assert 0.7 / (1 - momentum) == pytest.approx(math.sqrt(workers), rel=0.01)


@pytest.mark.parametrize(
    ("workers", "optimizer", "scheme"), [(1, "adam", "local"), (2, "adam", "local"), (3, "adam", "diloco"),
                                         (4, "lion", "diloco"), (4, "sgd", "local")]
)  # fmt: skip
def test_what_exchanges_rarely_is_told_by_workers_and_optimizer(workers: int, optimizer: Any, scheme: str) -> None:
    assert asked_scheme(TrainingConfig(), workers, optimizer, []) == scheme
    assert asked_scheme(TrainingConfig(scheme="auto"), workers, optimizer, []) == scheme
    assert resolved(workers=workers, optimizer=optimizer).scheme == scheme
    assert asked_scheme(TrainingConfig(scheme="local"), workers, optimizer, []) == "local"


@pytest.mark.parametrize(
    ("workers", "steps", "rounds"),
    [(1, 9, 9), (1, 10_000, 10), (2, 10_000, 10), (3, 10_000, 100), (40, 10_000, 100),
     (8, 320, 20), (8, 100, 10), (8, 9, 9)],
)  # fmt: skip
def test_many_workers_exchange_more_often_if_there_are_steps_between(workers: int, steps: int, rounds: int) -> None:
    assert usual_rounds(workers, steps) == rounds


def chosen(seconds: float, **changes: Any) -> tuple[str, str]:
    settings = resolved(epochs=4, batch_size=32, rounds=8).model_copy(update=changes)
    run = SharedRun(settings, 256, 2, parameters=1_000_000, slots=2, sample_seconds=seconds)
    choice = choose_scheme(run, most_rounds=500)
    # 32 steps of 8 samples by each of 4 workers, in 8 rounds of about 2 s; one worker needs ten of less.
    assert (choice.warning is None) == (seconds > 0.05)
    return choice.scheme, choice.why


def test_exchanging_after_every_step_is_chosen_where_it_costs_little() -> None:
    # Steps of 8 samples; a round moves 16 MB or, of them, 4 MB four times, and has seven objects' latency.
    scheme, why = chosen(0.001)
    assert scheme == "diloco"
    assert why.startswith("4 workers take 32 steps of about 8 ms and share 4 MB of parameters; exchanging")
    assert "the run would take" in why
    scheme, why = chosen(5.0)
    assert scheme == "synchronous" and why.endswith("times as long: no more.")
    scheme, why = chosen(5.0, epochs=125)
    assert scheme == "diloco" and "1,000 rounds, and 500 is the most" in why


def test_a_round_costs_what_it_moves() -> None:
    cost = RoundCost(checkpoint=75e6, update=150e6, scoring=3.0)
    assert cost.seconds(2) == pytest.approx(0.06 + 5 * 0.15 + 3 * 1.0 + 3 * 2.0 + 3.0)
    assert cost.billed_seconds(2) == pytest.approx(7 * 0.15 + 4 * 1.0 + 4 * 2.0 + 3.0)
    # Nine updates are read in two goes.
    assert RoundCost(0, 0, 0).seconds(9) - RoundCost(0, 0, 0).seconds(8) == pytest.approx(0.15)


def test_workers_that_dont_pay_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_core.training.starting.sample_seconds", lambda recipe, spec: 1e-9)
    _, settings = begun("auto", workers=3, rounds=None, epochs=4)
    (warning,) = [warning for warning in settings.warnings if "One worker would take" in warning]
    assert warning.endswith("use fewer workers, or fewer rounds, which costs accuracy.")
    monkeypatch.setattr("shoal_core.training.starting.sample_seconds", lambda recipe, spec: 1.0)
    assert not any("One worker" in warning for warning in begun("auto", workers=3, rounds=None, epochs=4)[1].warnings)


def test_a_scheme_that_was_asked_for_is_warned_of_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_core.training.starting.sample_seconds", lambda recipe, spec: 1e-9)
    for scheme in ("diloco", "synchronous"):
        _, settings = begun(scheme, workers=3, rounds=None, epochs=4)
        assert settings.scheme == scheme and any("One worker would take" in warning for warning in settings.warnings)


def test_one_worker_is_counted_with_the_rounds_that_were_asked_for() -> None:
    settings = resolved(epochs=4, batch_size=32, rounds=30)
    known = {"parameters": 1, "slots": 2, "sample_seconds": 1e-9}
    usual, asked = (SharedRun(settings, 256, 2, **known, asked_rounds=rounds) for rounds in (None, 30))
    assert str(usual.warning("diloco")).startswith("One worker would take about 8 s")
    assert str(asked.warning("diloco")).startswith("One worker would take about 24 s")


def test_rounds_that_were_asked_for_are_kept_where_every_step_would_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_core.training.starting.sample_seconds", lambda recipe, spec: 10.0)
    _, settings = begun("auto", workers=2, rounds=5, batch_size=64, epochs=2)
    assert (settings.scheme, settings.rounds, settings.batch_size) == ("local", 5, 64)
    assert "after every step it would need 8 rounds, and 5 are asked for" in settings.reasons["scheme"]


@pytest.mark.parametrize("scheme", [None, "auto"])
def test_auto_says_why_and_leaves_one_worker_alone(scheme: str | None) -> None:
    _, settings = begun(scheme, workers=2)
    assert settings.scheme == "local" and "training.scheme" in settings.inferred
    assert settings.reasons["scheme"].startswith("local: 2 workers take")
    _, alone = begun(scheme, workers=1)
    assert "scheme" not in alone.reasons and "training.scheme" not in alone.inferred


def test_auto_takes_synchronous_steps_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_core.training.starting.sample_seconds", lambda recipe, spec: 10.0)
    store, settings = begun("auto", workers=2, rounds=None, batch_size=64, epochs=2)
    assert (settings.scheme, settings.rounds, settings.steps_per_round) == ("synchronous", 8, 1)
    assert settings.reasons["scheme"].startswith("synchronous: ")
    assert settings.recipe_config["hidden"] == [8]
    assert store.exists(KEYS.descent_of(KEYS.step_graph))
    gradient = session_of(store.read(KEYS.step_graph), 1)
    assert any(name.startswith(GRADIENT) for name in gradient.outputs)
    assert not one_round(store, 1, 2).finished
