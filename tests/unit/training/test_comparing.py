"""Champion and challenger on the same samples: counted once, merged exactly, told in the champion's own codes."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.canonical import canonical_json
from shoal_core.data.cleaning_config import PromoteConfig
from shoal_core.data.shards import decode_shard
from shoal_core.data.spec import CategoryColumn, PreprocessingSpec, TableInput, TextColumn
from shoal_core.data.translating import Incomparable, Translation
from shoal_core.keys import ModelKeys, RunKeys
from shoal_core.registry.challenging import Challenge, gain_in_points
from shoal_core.registry.promotion import Standing, newest_serves
from shoal_core.registry.routing import Aliases, Limits, start_canary
from shoal_core.training.comparing import Comparison, Paired, compare, compare_shard
from shoal_core.training.optimizing import optimize_model
from tests.unit.training.datasets import table_spec, target_spec
from tests.unit.training.networks import exported_graph
from tests.unit.training.runs import CLASSES, FEATURES, RUN, classification_run, regression_run

MOMENT = "2026-11-21T08:00:00+00:00"


def graph(seed=5, task="classification", noise=0.0):
    outputs = CLASSES if task == "classification" else 1
    weight = np.random.default_rng(5).normal(size=(FEATURES, outputs))
    weight = weight + noise * np.random.default_rng(seed).normal(size=weight.shape)
    return exported_graph(FEATURES, outputs, task, {"weight": weight, "bias": np.zeros(outputs)})


def finished(champion, run=classification_run, task="classification"):
    store, settings, manifest = run()
    store.write(RunKeys(RUN).model, graph(task=task))
    optimize_model(store, RUN)
    keys = ModelKeys(settings.dataset, 1)
    store.write(keys.onnx, champion)
    store.write(keys.spec, canonical_json(manifest.spec.model_dump(mode="json")))
    return store, settings, manifest


def test_the_paired_counts_are_those_of_a_plain_loop():
    other = graph(noise=1.5, seed=9)
    store, _, manifest = finished(other)
    found = compare(store, RUN, 1)
    parts = [decode_shard(store.read(shard.key)) for shard in manifest.test]
    numbers, target = (np.concatenate([part[name] for part in parts]) for name in ("numbers", "target"))
    import onnxruntime

    def right(model):
        session = onnxruntime.InferenceSession(model)
        return session.run(None, {"numbers": numbers})[0].argmax(axis=1) == target

    mine, theirs = right(store.read(RunKeys(RUN).model)), right(other)
    assert found.paired.samples == len(target)
    assert found.paired.better == int((mine & ~theirs).sum())
    assert found.paired.worse == int((theirs & ~mine).sum())
    assert found.paired.mean_gain == pytest.approx(mine.mean() - theirs.mean())
    assert found.metrics is not None and found.metrics.accuracy == pytest.approx(theirs.mean())


def test_a_version_against_itself_is_neither_better_nor_worse():
    store, _, _ = finished(graph())
    found = compare(store, RUN, 1)
    assert (found.paired.better, found.paired.worse, found.paired.p_value) == (0, 0, 1.0)
    assert found.paired.interval == (0.0, 0.0)


def test_each_part_is_compared_once_and_a_repetition_changes_nothing():
    store, _, _ = finished(graph(noise=1))
    compare_shard(store, RUN, 1, 1)
    first = compare(store, RUN, 1)
    objects = dict(store.objects)
    assert compare(store, RUN, 1) == first
    assert store.objects == objects
    assert [key for key in store.keys("runs/") if "champion" in key] == [
        RunKeys(RUN).champion_shard(1, shard) for shard in (0, 1)
    ]


def test_numbers_are_compared_by_their_squared_errors():
    store, _, _ = finished(graph(task="regression", noise=0.5, seed=2), regression_run, "regression")
    found = compare(store, RUN, 1)
    assert found.metrics is not None and found.metrics.rmse > 0
    low, high = found.paired.interval
    assert low <= found.paired.mean_gain <= high


@pytest.mark.parametrize("champion", [b"no model", exported_graph(FEATURES + 1, CLASSES, "classification",
    {"weight": np.ones((FEATURES + 1, CLASSES)), "bias": np.zeros(CLASSES)})])  # fmt: skip
def test_a_champion_that_cant_answer_isnt_compared(champion):
    store, _, _ = finished(champion)
    assert "fails on the test split" in compare(store, RUN, 1).reason


def test_a_champion_whose_answers_arent_finite_doesnt_fail_the_challengers_run():
    weight = np.full((FEATURES, CLASSES), np.nan)
    champion = exported_graph(FEATURES, CLASSES, "classification", {"weight": weight, "bias": np.zeros(CLASSES)})
    store, _, _ = finished(champion)
    found = compare(store, RUN, 1)
    assert found.metrics is None and found.reason == "its answers on the test split aren't finite"


def test_a_champion_that_is_gone_or_of_another_kind_is_named():
    store, settings, manifest = finished(graph())
    assert "aren't there" in compare(store, RUN, 7).reason
    spec = manifest.spec.model_copy(update={"target": target_spec(4)})
    keys = ModelKeys(settings.dataset, 2)
    store.write(keys.onnx, graph())
    store.write(keys.spec, canonical_json(spec.model_dump(mode="json")))
    assert "classes differ" in compare(store, RUN, 2).reason


errors = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=40)


@given(errors, st.integers(0, 40), st.integers(0, 40))
def test_any_cut_merges_to_the_same(pairs, first, second):
    mine, theirs = np.array(pairs, np.float64).T
    cuts = sorted({0, min(first, len(pairs)), min(second, len(pairs)), len(pairs)})
    parts = [Paired.of(mine[low:high], theirs[low:high]) for low, high in itertools.pairwise(cuts)]
    merged = Paired()
    for part in reversed(parts):
        merged = merged.merge(part)
    assert merged == Paired.of(mine, theirs)


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 0.03125), (10, 2, 0.03857421875), (0, 1, 1.0)]
)
def test_the_exact_test_is_the_binomial_one(better, worse, p):
    assert Paired(samples=100, better=better, worse=worse).p_value == pytest.approx(p)


def test_large_counts_are_near_the_exact_test():
    large = Paired(samples=10**6, better=1200, worse=1000).p_value
    exact = 2 * sum(math.comb(2200, count) for count in range(1001)) / 2**2200
    assert large == pytest.approx(exact, rel=0.02)


def table(colours, vocabulary=()):
    columns = (CategoryColumn(name="colour", categories=colours), CategoryColumn(name="k", categories=("a",)))
    texts = (TextColumn(name="t", length=3, vocabulary=vocabulary),) if vocabulary else ()
    return PreprocessingSpec(kind="table", table=TableInput(categories=columns, texts=texts), target=target_spec(2))


def test_codes_are_translated_to_what_the_other_spec_gives():
    new, old = table(("blue", "green", "red"), ("cat", "dog", "owl")), table(("green", "red"), ("dog", "owl"))
    samples = [("blue", "dog owl cat"), ("green", "owl"), ("red", "cat"), (None, None), ("black", "unicorn dog")]
    rows = [{"colour": colour, "k": "a", "t": text} for colour, text in samples]
    translated = Translation(new, old)(new.encode_rows(rows))
    wanted = old.encode_rows(rows)
    assert all(np.array_equal(translated[name], wanted[name]) for name in wanted)


def test_equal_specs_change_nothing():
    spec = table_spec()
    tensors = {"numbers": np.zeros((2, 4), np.float32)}
    assert Translation(spec, spec)(tensors)["numbers"] is tensors["numbers"]


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (table(("a",)), table(("a", "b")), "1 of the values that one knows"),
        (table(("a",), ("x",)), table(("a",), ("x", "y")), "column 't'"),
        (table_spec(4), table_spec(5), "inputs differ in table.numbers"),
        (table_spec(4, 3), table_spec(4, 2), "classes differ"),
        (table_spec(4, 3), table_spec(4, 0), "one is for classification"),
    ],
)
def test_what_cant_be_translated_is_named(source, target, reason):
    with pytest.raises(Incomparable, match=reason):
        Translation(source, target)


def challenge(points, **wishes):
    """A challenger that is so many points better than a champion of 0.8 accuracy."""
    metrics = {"accuracy": 0.8 + points / 100}

    class Champion:
        accuracy = 0.8

    found = Comparison.model_construct(champion=1, paired=Paired(samples=100, better=3, worse=1), metrics=Champion())
    return Challenge(PromoteConfig(**wishes), "classification", metrics, "test", lambda champion: found)


@pytest.mark.parametrize(
    ("points", "wishes", "decision"),
    [
        (1.0, {}, "production"),
        (0.0, {}, "candidate"),
        (-1.0, {}, "candidate"),
        (0.4, {"margin": 0.5}, "candidate"),
        (0.6, {"margin": 0.5}, "production"),
        (-5.0, {"mode": "always"}, "production"),
        (5.0, {"mode": "never"}, "candidate"),
        (5.0, {"metric": "rmse"}, "candidate"),
    ],
)
def test_who_serves(points, wishes, decision):
    found = challenge(points, **wishes)(Standing(Aliases(1)))
    assert found["decision"] == decision
    assert found["reason"]
    json.dumps(found, allow_nan=False)


def test_what_is_decided_before_any_look():
    ask = challenge(-5.0)
    assert ask(Standing(None))["decision"] == "production"
    assert ask(Standing(Aliases(1), late=True))["decision"] == "late"
    canary = start_canary(Aliases(1), 2, [5, 100], 60, Limits(), MOMENT)
    assert "version 2 is a canary" in ask(Standing(canary))["reason"]
    assert newest_serves(Standing(Aliases(1)))["decision"] == "production"


def test_points_are_hundredths_or_percent_of_an_error():
    assert gain_in_points("accuracy", 0.9, 0.8) == pytest.approx(10)
    assert gain_in_points("rmse", 9, 10) == pytest.approx(10)
    assert gain_in_points("rmse", 0, 0) == 0
    assert gain_in_points("rmse", 1, 0) < 0
