import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.spec import CategoryColumn, NumberColumn, PreprocessingSpec, TableInput, TargetSpec
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
    assert moments.summary().model_dump() == {
        "count": 0,
        "missing": 1,
        "mean": 0.0,
        "std": 0.0,
        "minimum": 0.0,
        "maximum": 0.0,
    }


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
