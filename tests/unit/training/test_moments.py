"""What a network is told about its data."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.data.manifest import QUANTILES, Manifest, NumberSummary
from shoal_core.errors import BadDataset
from shoal_core.graphs.signature import Multilabel
from shoal_core.training.moments import clipped_moments
from shoal_core.training.signatures import signature_of
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import commit, profile_spec, profiles, sequence_spec, summary, waves


def labels(**statistics: object) -> Manifest:
    manifest = commit(MemoryStore(), profile_spec(), {"train": profiles(200)})
    return manifest.model_copy(update={"statistics": manifest.statistics.model_copy(update=statistics)})


def test_a_table_of_everything():
    signature = signature_of(labels())
    assert signature.task == Multilabel(classes=3)
    assert signature.numbers is not None and len(signature.numbers.mean) == 2  # a number, and what the date gives
    assert (signature.numbers.fill, signature.numbers.bounds) == ((), ())
    assert signature.categories is not None and signature.categories.cardinalities == (5,)
    assert signature.tokens is not None
    assert [(column.length, column.cardinality) for column in signature.tokens.columns] == [(6, 10)]


def test_fills_and_bounds_reach_the_network():
    numbers = signature_of(labels(fills={"x0": 7.5}, bounds={"day.elapsed": (-1.0, 1.0)})).numbers
    assert numbers is not None
    assert (numbers.fill, numbers.bounds) == ((7.5, None), (None, (-1.0, 1.0)))


def test_a_sequence_has_its_steps_and_columns():
    manifest = commit(MemoryStore(), sequence_spec(), {"train": waves(100)})
    sequence = signature_of(manifest).sequence
    assert sequence is not None and (sequence.steps, sequence.columns) == (12, 2)
    assert sequence.missing == (True, True)
    assert sequence.mean[0] == pytest.approx(100, abs=1)


def test_a_missing_statistic_is_named():
    with pytest.raises(BadDataset, match=r"column 'day\.elapsed'"):
        signature_of(labels(numbers={"x0": summary(np.arange(5.0))}))


def test_outliers_that_are_clipped_do_not_decide_the_scale():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(50, 10, 100_000), [1e9] * 10])
    found = summary(values)
    bounds = tuple(np.quantile(values, (0.001, 0.999)).tolist())
    clipped = np.clip(values, *bounds)
    mean, std = clipped_moments(found, bounds)
    assert found.std > 1e6
    assert mean == pytest.approx(clipped.mean(), rel=0.01)
    assert std == pytest.approx(clipped.std(), rel=0.1)


def test_what_is_not_clipped_keeps_its_exact_moments():
    values = np.random.default_rng(0).exponential(3, 1000)
    found = summary(values)
    assert clipped_moments(found, None) == (found.mean, found.std)
    assert clipped_moments(found, (-1.0, 1e6)) == (found.mean, found.std)
    without = found.model_copy(update={"quantiles": ()})
    assert clipped_moments(without, (0.5, 2.0)) == (found.mean, found.std)


def test_a_column_clipped_to_one_value_keeps_its_moments():
    found = NumberSummary(count=9, mean=1.0, std=2.0, minimum=0.0, maximum=9.0, quantiles=(1.0,) * len(QUANTILES))
    assert clipped_moments(found, (1.0, 1.0)) == (1.0, 2.0)
