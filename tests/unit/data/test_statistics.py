import json
import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.config import DatasetConfig
from shoal_core.data.filling import count_outliers, summarise
from shoal_core.data.manifest import QUANTILES, NumberSummary
from shoal_core.data.sketches import MAX_VALUES, RELATIVE_ERROR
from shoal_core.data.spec import (
    CategoryColumn,
    DateColumn,
    NumberColumn,
    PreprocessingSpec,
    SequenceInput,
    TableInput,
    TargetSpec,
    TextColumn,
)
from shoal_core.data.statistics import Moments, StatisticsAccumulator

FLOATS = st.floats(width=32, allow_infinity=False)


@given(st.lists(FLOATS), st.lists(st.integers(0, 60), max_size=6), st.randoms(use_true_random=False))
def test_any_chunking_and_order_gives_the_same_bits(values, cuts, random):
    array = np.array(values, np.float32)
    whole = Moments()
    whole.add(array)
    chunks = np.split(array, sorted(cut for cut in cuts if cut <= len(values)))
    random.shuffle(chunks)
    merged = Moments()
    for chunk in chunks:
        part = Moments()
        part.add(chunk)
        merged.merge(part)
    assert merged.summary() == whole.summary()


@given(st.lists(FLOATS.filter(lambda value: not math.isnan(value)), min_size=1))
def test_the_mean_is_the_correctly_rounded_one(values):
    moments = Moments()
    moments.add(np.array(values, np.float32))
    found = moments.summary()
    assert math.isclose(found.mean, math.fsum(values) / len(values), rel_tol=1e-15, abs_tol=1e-300)
    assert (found.minimum, found.maximum, found.count) == (min(values), max(values), len(values))


def test_numbers_and_bytes_agree_with_numpy():
    random = np.random.default_rng(0)
    numbers = random.normal(1e4, 1, 50_000).astype(np.float32)
    numbers[::7] = np.nan
    pixels = random.integers(0, 256, (40, 9, 9), np.uint8)
    for array in (numbers, pixels):
        moments = Moments()
        moments.add(array)
        found = moments.summary()
        exact = array.astype(np.float64)
        assert found.missing == int(np.isnan(exact).sum())
        np.testing.assert_allclose([found.mean, found.std], [np.nanmean(exact), np.nanstd(exact)], rtol=1e-9)


def test_nothing_present_is_all_zero():
    moments = Moments()
    moments.add(np.array([np.nan], np.float32))
    assert moments.summary() == NumberSummary(count=0, missing=1, mean=0.0, std=0.0, minimum=0.0, maximum=0.0)


VALUES = st.lists(st.one_of(FLOATS, st.integers(-5, 5).map(float), st.just(math.nan)), max_size=400)


@settings(deadline=None)
@given(VALUES, st.integers(1, 64), st.randoms(use_true_random=False))
def test_one_and_many_shards_in_any_order_give_the_same_bits(values, shards, random):
    array = np.array(values, np.float32)
    whole = Moments()
    whole.add(array)
    parts = []
    for chunk in np.array_split(array[random.sample(range(len(array)), len(array))], shards):
        part = Moments()
        part.add(chunk)
        # Each part travels as JSON, as it does between a shard's packer and commit.
        parts.append(Moments.from_state(json.loads(json.dumps(part.state()))))
    random.shuffle(parts)
    merged = Moments()
    for part in parts:
        merged.merge(part)
    assert merged.summary() == whole.summary()
    assert merged.state() == whole.state()


@given(st.lists(FLOATS.filter(lambda value: not math.isnan(value) and abs(value) > 1e-30), min_size=1, max_size=900))
def test_quantiles_are_within_the_bound_of_numpys(values):
    array = np.array(values, np.float32)
    moments = Moments()
    moments.add(array)
    found = moments.summary().quantiles
    exact = np.quantile(array.astype(np.float64), QUANTILES, method="inverted_cdf")
    np.testing.assert_allclose(found, exact, rtol=RELATIVE_ERROR)


def test_many_different_values_are_sketched_and_few_are_exact():
    random = np.random.default_rng(3)
    for array in (random.lognormal(3, 2, 100_000), random.normal(0, 1, 100_000), random.poisson(7, 100_000)):
        values = array.astype(np.float32)
        moments = Moments()
        moments.add(values)
        exact = np.quantile(values.astype(np.float64), QUANTILES, method="inverted_cdf")
        rtol = 0 if len(np.unique(values)) <= MAX_VALUES else RELATIVE_ERROR
        np.testing.assert_allclose(moments.summary().quantiles, exact, rtol=rtol)
        histogram = np.histogram(values.astype(np.float64), 20)[0]
        assert sum(moments.summary().histogram) == len(values)
        assert np.abs(np.array(moments.summary().histogram) - histogram).sum() < 0.12 * len(values)


def test_the_mode_is_the_most_frequent_value_and_the_smallest_of_equals():
    moments = Moments()
    moments.add(np.array([3, 1, 3, 2, 1, -0.0, 0.0, 0.0], np.float32))
    assert moments.summary().mode == 0.0
    moments.add(np.array([3, 1], np.float32))
    assert moments.summary().mode == 0.0
    moments.add(np.array([1], np.float32))
    assert moments.summary().mode == 1.0


def test_mixed_magnitudes_sum_exactly():
    values = np.array([1e30, 1.0, -1e30, 2.0**-140, 3.5, 2.0**-149], np.float32)
    moments = Moments()
    moments.add(values)
    exact = sum(Fraction(float(value)) for value in values) / len(values)
    assert Fraction(moments.summary().mean) == Fraction(float(exact))
    squares = sum(Fraction(float(value)) ** 2 for value in values) / len(values)
    assert math.isclose(moments.summary().std, math.sqrt(squares - exact**2), rel_tol=1e-15)


def test_accumulators_merge():
    spec = PreprocessingSpec(
        kind="table",
        table=TableInput(
            numbers=(NumberColumn(name="a"),), categories=(CategoryColumn(name="b", categories=("x", "y")),)
        ),
        target=TargetSpec(task="classification", column="t", classes=("n", "p")),
    )
    random = np.random.default_rng(1)
    batch = {
        "numbers": random.normal(size=(30, 1)).astype(np.float32),
        "categories": random.integers(0, 3, (30, 1)),
        "target": random.integers(0, 2, 30),
    }
    whole, left, right = (StatisticsAccumulator(spec) for _ in range(3))
    whole.add(batch)
    left.add({name: array[:11] for name, array in batch.items()})
    right.add({name: array[11:] for name, array in batch.items()})
    right.merge(left)
    found = right.summary()
    assert found == whole.summary()
    assert found.samples == 30 == sum(found.classes.values()) == sum(found.categories["b"].counts)
    assert found.categories["b"].cardinality == 3


def everything_spec() -> PreprocessingSpec:
    return PreprocessingSpec(
        kind="table",
        table=TableInput(
            numbers=(NumberColumn(name="a"), NumberColumn(name="flag")),
            dates=(DateColumn(name="day", features=("elapsed", "hour")),),
            categories=(CategoryColumn(name="b", categories=("x", "y"), buckets=3),),
            texts=(TextColumn(name="t", length=3), TextColumn(name="u", length=2)),
        ),
        target=TargetSpec(task="multilabel", column="l", classes=("n", "p", "q")),
    )


def everything(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 5)).astype(np.float32)
    numbers[:, 1] = np.arange(count) % 2000 == 0
    numbers[::7, 0] = np.nan
    return {
        "numbers": numbers,
        "categories": random.integers(0, 6, (count, 1)),
        "tokens": random.integers(0, 3, (count, 5)).astype(np.int32),
        "target": random.integers(0, 2, (count, 3)).astype(np.uint8),
    }


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 5))
def test_all_statistics_are_the_same_for_any_number_of_shards(count, shards, seed):
    spec, batch = everything_spec(), everything(count, seed)
    whole, merged = StatisticsAccumulator(spec), StatisticsAccumulator(spec)
    whole.add(batch)
    for chosen in reversed(np.array_split(np.arange(count), shards)):
        part = StatisticsAccumulator(spec)
        part.add({name: array[chosen] for name, array in batch.items()})
        merged.merge(StatisticsAccumulator.from_state(spec, json.loads(json.dumps(part.state()))))
    assert merged.summary() == whole.summary()
    assert summarise(merged, spec, DatasetConfig()) == summarise(whole, spec, DatasetConfig())


def test_texts_labels_and_categories_are_counted():
    spec, batch = everything_spec(), everything(200)
    whole = StatisticsAccumulator(spec)
    whole.add(batch)
    found = whole.summary()
    assert found.classes == dict(zip("npq", batch["target"].sum(0).tolist(), strict=True))
    lengths = (batch["tokens"][:, :3] != 0).sum(1)
    assert found.texts["t"].mean == lengths.mean() and found.texts["u"].maximum <= 2
    assert list(found.numbers) == ["a", "flag", "day.elapsed", "day.hour_sin", "day.hour_cos"]
    assert sum(found.categories["b"].counts) == 200


def test_sequences_count_every_step():
    spec = PreprocessingSpec(
        kind="sequence",
        sequence=SequenceInput(time="t", window=4, numbers=(NumberColumn(name="a"), NumberColumn(name="b"))),
        target=TargetSpec(task="regression", column="y"),
    )
    windows = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    whole = StatisticsAccumulator(spec)
    whole.add({"sequence": windows, "target": np.ones(3, np.float32)})
    found = summarise(whole, spec, DatasetConfig())
    assert (found.numbers["a"].count, found.numbers["b"].mean) == (12, windows[..., 1].mean())
    assert found.fills == {"a": 10.0, "b": 11.0}


def test_fills_and_bounds_follow_the_configuration():
    spec, batch = everything_spec(), everything(5000)
    whole = StatisticsAccumulator(spec)
    whole.add(batch)
    plain = summarise(whole, spec, DatasetConfig())
    low, high = plain.bounds["a"]
    exact = np.quantile(batch["numbers"][~np.isnan(batch["numbers"][:, 0]), 0], [0.001, 0.999], method="inverted_cdf")
    np.testing.assert_allclose([low, high], exact, rtol=RELATIVE_ERROR)
    # A rare flag would lose all its ones; sine and cosine of a date have no outliers.
    assert list(plain.bounds) == ["a"]
    assert plain.fills["a"] == plain.numbers["a"].quantiles[QUANTILES.index(0.5)]
    assert set(plain.fills) == set(plain.numbers)
    assert 4 <= count_outliers(whole, spec, plain.bounds)["a"] <= 16
    asked = DatasetConfig.model_validate(
        {
            "missing": "mean",
            "outliers": "keep",
            "columns": {"a": {"missing": -1, "outliers": {"quantile": 0.05}}, "flag": {"missing": "mode"}},
        }
    )
    found = summarise(whole, spec, asked)
    assert found.fills["a"] == -1.0 and found.fills["flag"] == 0.0
    assert found.fills["day.elapsed"] == found.numbers["day.elapsed"].mean
    assert found.bounds["a"] == (found.numbers["a"].quantiles[2], found.numbers["a"].quantiles[6])


def test_values_that_come_again_add_up_exactly():
    generator = np.random.default_rng(3)
    for different in (3, 700, 60_000):
        known = np.concatenate([generator.normal(0, 1e3, different), [-0.0, 1e-40, 3e38]]).astype(np.float32)
        values = known[generator.integers(0, len(known), 50_000)]
        moments = Moments()
        moments.add(values)
        exact = [Fraction(value) for value in values.tolist()]
        assert moments.mean == float(sum(exact) / len(exact))
        squares = sum(value * value for value in exact) / len(exact) - (sum(exact) / len(exact)) ** 2
        assert math.isclose(moments.std, math.sqrt(squares), rel_tol=1e-12)
        assert (moments.count, moments.minimum, moments.maximum) == (len(values), values.min(), values.max())
        singly = Moments()
        for part in np.array_split(values, 40):
            singly.add(part)
        assert singly.state() == moments.state()
