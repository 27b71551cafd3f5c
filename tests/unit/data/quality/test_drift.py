import numpy as np
import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import Manifest
from shoal_core.data.quality.distributions import Cumulative, distributions_of
from shoal_core.data.quality.drift import compare_versions
from shoal_core.data.spec import CategoryColumn, ImageInput, NumberColumn, PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.statistics import StatisticsAccumulator

SPEC = PreprocessingSpec(
    kind="table",
    table=TableInput(
        numbers=(NumberColumn(name="x"),), categories=(CategoryColumn(name="c", categories=("a", "b", "z")),)
    ),
    target=TargetSpec(task="classification", column="y", classes=("no", "yes")),
)


def statistics(x, c=None, y=None, spec=SPEC):
    x = np.asarray(x, np.float32)
    c = np.ones(len(x), np.int64) if c is None else np.asarray(c)
    y = np.arange(len(x)) % 2 if y is None else np.asarray(y)
    found = StatisticsAccumulator(spec)
    found.add({"numbers": x[:, None], "categories": c[:, None], "target": y})
    return found.summary()


def manifest(found, spec=SPEC):
    return Manifest(dataset="d", version="v1", spec=spec, config=DatasetConfig(), train=(), statistics=found)


def drift(before, after):
    report = compare_versions(manifest(before), SPEC, after)
    return {column.name: column for column in report.columns}, report


def normal(count, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_the_same_data_doesnt_drift():
    found, report = drift(statistics(normal(1000)), statistics(normal(1000)))
    assert {column.level for column in found.values()} == {"none"}
    assert found["x"].psi == found["x"].ks == 0
    assert (report.version, report.samples, report.thresholds["psi_large"]) == ("v1", (1000, 1000), 0.25)


def test_another_sample_of_one_distribution_doesnt_drift_even_when_it_is_small():
    for seed in range(20):
        before, after = statistics(normal(60, seed=seed)), statistics(normal(60, seed=100 + seed))
        assert drift(before, after)[0]["x"].level == "none"


def test_a_shift_is_found_and_measured():
    found = drift(statistics(normal(5000)), statistics(normal(5000, 1.0, 1)))[0]["x"]
    assert found.level == "large"
    assert found.ks == pytest.approx(0.383, abs=0.03)  # of N(0, 1) and N(1, 1): 2 * Phi(1/2) - 1
    assert found.psi == pytest.approx(1.0, abs=0.2)  # their symmetric divergence is 1
    assert found.reasons[0].startswith("the values lie differently (PSI")


def test_a_column_of_few_values_is_cut_between_them():
    before = statistics(np.repeat([0, 1], [600, 400]))
    after = statistics(np.repeat([0, 1], [400, 600]))
    assert drift(before, after)[0]["x"].psi == pytest.approx(0.2 * np.log(1.5) * 2, abs=0.01)


def test_missing_values_that_grow_are_told():
    x = normal(1000)
    gaps = x.copy()
    gaps[:100] = np.nan
    found = drift(statistics(x), statistics(gaps))[0]["x"]
    assert (found.level, found.missing, found.reasons) == ("moderate", 0.1, ("10 percentage points more missing",))
    empty = drift(statistics(x), statistics(np.full(1000, np.nan)))[0]["x"]
    assert (empty.level, empty.psi, empty.missing) == ("large", None, 1.0)


def test_missing_categories_are_a_share_of_their_own_version():
    found = drift(statistics(normal(1000), [0] * 100 + [1] * 900), statistics(normal(100), [0] * 30 + [1] * 70))[0]["c"]
    assert found.missing == pytest.approx(0.2) and found.level == "large"


def test_categories_that_come_and_go_are_named():
    codes = np.repeat([1, 2], 500)
    other = np.repeat([1, 3], 500)
    found = drift(statistics(normal(1000), codes), statistics(normal(1000), other))[0]["c"]
    assert (found.level, found.added, found.lost) == ("large", ("z",), ("b",))
    assert found.reasons[1:] == ("new: z", "gone: b")


def test_class_balance_comes_first():
    before, after = np.repeat([0, 1], 500), np.repeat([0, 1], [900, 100])
    _, report = drift(statistics(normal(1000), y=before), statistics(normal(1000), y=after))
    assert (report.columns[0].kind, report.columns[0].level) == ("classes", "large")


def test_columns_that_come_and_go_are_named():
    slim = SPEC.model_copy(update={"table": TableInput(numbers=(NumberColumn(name="new"),))})
    accumulator = StatisticsAccumulator(slim)
    accumulator.add({"numbers": normal(50).astype(np.float32)[:, None], "target": np.arange(50) % 2})
    report = compare_versions(manifest(statistics(normal(50))), slim, accumulator.summary())
    assert (report.columns_added, report.columns_lost) == (("new",), ("c", "x"))


def test_the_cumulative_share_is_near_the_true_one():
    x = np.exp(normal(20_000)).astype(np.float32)
    share = Cumulative(statistics(x).numbers["x"])
    for place in (0.05, 0.3, 1.0, 3.0, 10.0):
        assert share(place) == pytest.approx(float((x <= place).mean()), abs=0.05)
    assert (share(-1), share(1e9)) == (0, 1)


def test_distributions_tell_every_column():
    found = distributions_of(SPEC, statistics([1, 2, np.nan, 4], [1, 1, 2, 0]), {"x": 3})
    x, c = found
    assert (x.name, x.kind, x.count, x.missing, x.minimum, x.maximum, x.outliers) == ("x", "number", 3, 1, 1, 4, 3)
    assert sum(x.histogram) == 3 and x.quantiles["0.5"] == 2
    assert [(entry.value, entry.count) for entry in c.top] == [("a", 2), ("b", 1)]
    assert (c.distinct, c.missing, c.other) == (2, 1, 0)


def test_images_have_channels():
    spec = PreprocessingSpec(
        kind="image",
        image=ImageInput(height=2, width=2, channels=3, color="hsv"),
        target=TargetSpec(task="classification", classes=("a", "b")),
    )
    found = StatisticsAccumulator(spec)
    found.add({"image": np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), "target": np.array([0, 1])})
    assert [column.name for column in distributions_of(spec, found.summary())] == ["hue", "saturation", "value"]
