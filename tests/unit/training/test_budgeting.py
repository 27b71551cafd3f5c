"""A budget: what fits, what is chosen, and what the run says of it."""

from __future__ import annotations

import pytest

from shoal_core.data.config import BudgetConfig, DatasetConfig, TrainingConfig
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.training.budgeting import candidates, estimate, plan_budget
from shoal_core.training.recipes import epochs_for
from shoal_core.training.settings import resolve_settings
from shoal_core.training.worker import Worker
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import commit, drawings, image_spec


def pictures(side: int = 28, **config: object) -> Manifest:
    spec, splits = image_spec(side), {"train": drawings(2000, side), "validation": drawings(60, side, seed=1)}
    return commit(MemoryStore(), spec, splits, config=DatasetConfig(**config))


def test_minutes_fall_with_workers_and_dollars_dont():
    manifest = pictures()
    one, four = (estimate(manifest, "cnn", 20, workers) for workers in (1, 4))
    # 625 steps: 10 rounds for one worker, 39 for four, and each waits 5 times for S3.
    assert one.minutes - 10 * 0.81 / 60 == pytest.approx(4 * (four.minutes - 39 * 0.81 / 60))
    assert one.dollars < four.dollars < 4 * one.dollars
    assert estimate(manifest, "cnn", 40, 1).minutes == pytest.approx(2 * one.minutes - 10 * 0.81 / 60)


@pytest.mark.parametrize(
    ("asked", "rounds"),
    [
        ({"rounds": 10}, 10),
        ({"rounds": 500}, 500),
        ({"training": {"scheme": "synchronous"}}, 625),
        ({"training": {"scheme": "synchronous"}, "rounds": 100}, 100),
        ({"training": {"batch_size": 512}}, 10),
        ({"training": {"batch_size": 8}}, 100),
    ],
)
def test_rounds_that_are_asked_for_are_waited_for(asked, rounds):
    manifest = pictures()
    plain, changed = (
        estimate(manifest, "cnn", 20, 4, config=DatasetConfig.model_validate(given)) for given in ({}, asked)
    )
    # By themselves, 625 steps of four workers have 39 rounds.
    assert (changed.minutes - plain.minutes) * 60 == pytest.approx((rounds - 39) * 0.81)
    config = DatasetConfig.model_validate({**asked, "recipe": "cnn", "workers": 4, "budget": {"minutes": 1e4}})
    assert (
        f"about {changed.minutes:.1f} minutes"
        in resolve_settings(
            config.model_copy(update={"training": config.training.model_copy(update={"epochs": 20})}), manifest
        )[0].reasons["budget"]
    )


def test_more_memory_is_faster_and_costs_more():
    manifest = pictures()
    usual, twice = (estimate(manifest, "cnn", 20, 2, Worker(memory_mb=memory)) for memory in (1769, 2 * 1769))
    assert usual.minutes / 2 < twice.minutes < usual.minutes
    assert usual.dollars < twice.dollars < 2 * usual.dollars
    config = DatasetConfig(budget=BudgetConfig(minutes=estimate(manifest, "resnet", 10, 2).minutes))
    few, more = (resolve_settings(config, manifest, worker=Worker(memory_mb=memory))[0] for memory in (1769, 10_240))
    assert few.epochs == 10 < more.epochs
    assert (few.threads, more.threads) == (1, 5)


def test_a_large_budget_takes_the_most_capable_recipe_and_a_small_one_less():
    manifest = pictures()
    whole = estimate(manifest, "resnet", epochs_for("resnet", 2000), 2)
    plan = plan_budget(manifest, BudgetConfig(minutes=2 * whole.minutes), 2, None, None)
    assert (plan.recipe, plan.epochs) == ("resnet", epochs_for("resnet", 2000))
    third = plan_budget(manifest, BudgetConfig(minutes=whole.minutes / 2), 2, None, None)
    assert third.recipe == "resnet" and 3 <= third.epochs < plan.epochs
    assert "would take" in third.why and f"resnet with {third.epochs} epochs takes" in third.why
    fewest = estimate(manifest, "resnet", 3, 2)
    small = plan_budget(manifest, BudgetConfig(minutes=fewest.minutes * 0.9), 2, None, None)
    assert small.recipe == "cnn" and "resnet with" in small.why
    tiny = plan_budget(manifest, BudgetConfig(dollars=estimate(manifest, "linear", 10, 2).dollars), 2, None, None)
    assert (tiny.recipe, tiny.epochs) == ("linear", 10)


def test_what_was_asked_for_stays():
    manifest = pictures()
    cost = estimate(manifest, "cnn", 12, 2)
    plan = plan_budget(manifest, BudgetConfig(minutes=cost.minutes), 2, "cnn", None)
    assert (plan.recipe, plan.epochs) == ("cnn", 12)
    with pytest.raises(BadConfig, match=r"nothing can be trained within .* cnn with 13 epochs would take"):
        plan_budget(manifest, BudgetConfig(minutes=cost.minutes), 2, "cnn", 13)


def test_nothing_fits():
    with pytest.raises(BadConfig, match=r"\$1e-09: .*linear with") as caught:
        plan_budget(pictures(), BudgetConfig(dollars=1e-9), 2, None, None)
    assert "Raise budget" in caught.value.fix


def test_small_images_have_no_room_for_a_residual_network():
    assert candidates(pictures(8), "cnn") == ["cnn", "linear"]


def test_the_run_says_why():
    manifest = pictures(budget=BudgetConfig(minutes=1000), recipe="auto")
    settings, inferred = resolve_settings(manifest.config, manifest)
    assert settings.recipe == "resnet" and {"recipe", "training.epochs"} <= set(inferred)
    assert settings.reasons["recipe"] == settings.reasons["budget"]
    asked = pictures(budget=BudgetConfig(minutes=1000), recipe="cnn", training=TrainingConfig(epochs=4))
    settings, _ = resolve_settings(asked.config, asked)
    assert (settings.recipe, settings.epochs) == ("cnn", 4)
    assert settings.reasons["budget"].startswith("cnn with 4 epochs takes about")


def test_auto_is_what_is_chosen_anyway():
    manifest = pictures(recipe="auto")
    assert resolve_settings(manifest.config, manifest)[0].recipe == "cnn"
