"""Search spaces: how they are written, what is refused, what is drawn from them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.errors import BadConfig
from shoal_core.training.requests import overridden
from shoal_core.training.tuning.records import overrides_of
from shoal_core.training.tuning.sampling import Sampler
from shoal_core.training.tuning.space import check_space, nested, parse_space

SPACE: dict[str, Any] = {
    "recipes": {
        "mlp": {"network.hidden": {"choice": [[64, 32], [128]]}, "training.learning_rate": {"uniform": [0.001, 0.002]}},
        "linear": {},
    },
    "training": {"learning_rate": {"log_uniform": [1e-4, 1e-1]}, "epochs": 4},
    "training.batch_size": {"int": [8, 64]},
    "augment.noise": {"uniform": [0, 0.1]},
}


def drawn(space: dict[str, Any], trials: int, seed: int = 0, baseline: bool = False) -> list[dict[str, Any]]:
    sampler = Sampler(parse_space(space), seed, baseline)
    found = [sampler(number) for number in range(trials)]
    return [values for values in found if values is not None]


def test_a_space_is_written_with_dots_or_nested_and_reads_back_the_same() -> None:
    space = parse_space(SPACE)
    assert set(space.fields) == {"training.learning_rate", "training.epochs", "training.batch_size", "augment.noise"}
    assert set(space.recipes) == {"mlp", "linear"}
    assert parse_space(space.document()) == space
    check_space(space, DatasetConfig())


@pytest.mark.parametrize(
    ("space", "reason", "fix"),
    [
        ({}, "is empty", "field: distribution"),
        ({"training.learning_rat": 1}, "learning_rat", "Did you mean 'learning_rate'?"),
        ({"training.learning_rate": {"uniform": [0.1, 20]}}, "learning_rate: 20.0 isn't allowed", "at most 10"),
        ({"training.learning_rate": {"uniform": [0.2, 0.1]}}, "0.2 is above 0.1", "lower one first"),
        ({"training.learning_rate": {"log_uniform": [0, 1]}}, "needs numbers above 0, not 0", "uniform"),
        ({"training.learning_rate": {"log_uniform": [0.1]}}, "isn't a lowest and a highest", "log_uniform"),
        ({"training.learning_rate": {"uniform": ["a", 1]}}, "isn't a lowest and a highest", "uniform"),
        ({"training.learning_rate": {"uniform": [math.inf, 1]}}, "isn't JSON", "numbers"),
        ({"training.epochs": {"int": [1.5, 3]}}, "int needs whole numbers", "uniform"),
        ({"training.epochs": {"uniform": [1, 3]}}, "training.epochs", "whole number"),
        ({"training.epochs": {"choice": []}}, "isn't a list", "choice"),
        ({"training.epochs": {"choice": [1], "int": [1, 2]}}, "of several forms", "choice"),
        ({"training.epochs": {"choice": list(range(101))}}, "has 101 choices", "at most 100"),
        ({"workers": {"int": [1, 4]}}, "workers is the same for every trial", "one worker"),
        ({"budget.minutes": 3}, "budget.minutes is the same for every trial", "search's own"),
        ({"split.test": 0.2}, "split.test doesn't say how to train", "can be varied"),
        ({"target": "x"}, "target doesn't say how to train", "can be varied"),
        ({"recipe": {"choice": ["mlp", "forest"]}}, "'forest' isn't allowed", "mlp"),
        ({"recipe": {"uniform": [0, 1]}}, "recipe isn't a number", "choice"),
        ({"recipe": "mlp", "recipes": {"mlp": {}}}, "both recipe and recipes", "Keep"),
        ({"recipes": 5}, "isn't a list of recipes", "mlp"),
        ({"recipes": {"mlp": 5}}, "holds no fields", "{mlp: {}}"),
        ({"recipes": {"mlp": {"recipe": "cnn"}}}, "names a recipe again", "Leave"),
        ({"training": {"epochs": 3}, "training.epochs": 4}, "is there twice", "once"),
        ({"augment": {"choice": ["auto"]}, "augment.noise": 0.1}, "augment", "one of them"),
        ({f"network.a{number}": 1 for number in range(51)}, "has 51 fields", "at most 50"),
        ({"card.owner": "x" * 70_000}, "bytes", "Keep it under"),
    ],
)
def test_what_cant_be_tried_is_refused_by_name(space: dict[str, Any], reason: str, fix: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parsed = parse_space(space)
        check_space(parsed, DatasetConfig())
        nested(Sampler(parsed, 0, False)(0) or {})
    assert reason in caught.value.reason and "earch space" in caught.value.reason
    assert fix in caught.value.fix


def test_a_trial_is_a_function_of_seed_and_number() -> None:
    values = drawn(SPACE, 20)
    assert values == drawn(SPACE, 20)
    assert values[13] == Sampler(parse_space(SPACE), 0, False)(13)
    assert values != drawn(SPACE, 20, seed=1)
    # Written down once: the same on every machine, for every release of Python.
    assert drawn({"training.learning_rate": {"log_uniform": [1e-4, 1e-1]}}, 3) == [
        {"training.learning_rate": 0.0001512},
        {"training.learning_rate": 0.003912},
        {"training.learning_rate": 0.0001558},
    ]


def test_what_is_drawn_lies_within_its_bounds_and_is_valid() -> None:
    for values in drawn(SPACE, 60):
        config = overridden(DatasetConfig(), overrides_of(values))
        low, high = (0.001, 0.002) if values["recipe"] == "mlp" else (1e-4, 1e-1)
        assert low <= values["training.learning_rate"] <= high
        assert 8 <= values["training.batch_size"] <= 64
        assert ("network.hidden" in values) == (values["recipe"] == "mlp")
        assert (config.workers, config.budget, config.training.epochs) == (1, None, 4)
        assert config.network == ({"hidden": values["network.hidden"]} if values["recipe"] == "mlp" else {})


def test_recipes_take_turns() -> None:
    recipes = [values["recipe"] for values in drawn(SPACE, 12)]
    assert recipes == recipes[:2] * 6 and len(set(recipes[:2])) == 2


def test_logarithms_are_drawn_evenly() -> None:
    values = drawn({"training.learning_rate": {"log_uniform": [1e-4, 1e-1]}}, 400)
    decades = [math.floor(math.log10(entry["training.learning_rate"])) for entry in values]
    assert all(100 < decades.count(decade) < 165 for decade in (-4, -3, -2))


def test_nothing_is_tried_twice_and_a_small_space_ends() -> None:
    space = {"recipe": {"choice": ["mlp", "linear"]}, "training.batch_size": {"choice": [16, 32]}}
    values = drawn(space, 10)
    assert sorted((entry["recipe"], entry["training.batch_size"]) for entry in values) == [
        ("linear", 16), ("linear", 32), ("mlp", 16), ("mlp", 32),
    ]  # fmt: skip
    sampler = Sampler(parse_space(space), 0, False)
    assert (sampler.most(3), sampler.most(9)) == (3, 4)


def test_the_first_trial_may_change_nothing() -> None:
    values = drawn(SPACE, 3, baseline=True)
    assert values[0] == {} and values[1]["recipe"]
