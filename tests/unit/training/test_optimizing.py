"""The fidelity gate: an optimised model is served only when it answers alike."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.errors import BadInput, FidelityLost, NotFound
from shoal_core.graphs import optimization
from shoal_core.keys import RunKeys
from shoal_core.training.optimizing import PROBABILITY_TOLERANCE, optimize_model, read_optimization, require_fidelity
from tests.unit.training.networks import exported_graph
from tests.unit.training.runs import CLASSES, FEATURES, RUN, classification_run


def model(scale: float = 1.0) -> bytes:
    weights = np.random.default_rng(5).normal(size=(FEATURES, CLASSES)).astype(np.float32) * scale
    return exported_graph(FEATURES, CLASSES, "classification", {"weight": weights, "bias": np.zeros(CLASSES)})


def finished_run():
    store, _, _ = classification_run()
    store.write(RunKeys(RUN).model, model())
    return store


def test_a_faithful_model_is_accepted():
    store = finished_run()
    result = optimize_model(store, RUN)
    assert result.accepted and result.reason is None
    assert result.model_key == RunKeys(RUN).optimized_model
    assert result.difference is not None and result.difference <= PROBABILITY_TOLERANCE
    assert (result.split, result.samples) == ("test", 64)
    assert result.bytes_after == len(store.read(RunKeys(RUN).optimized_model))
    objects = dict(store.objects)
    assert optimize_model(store, RUN) == result
    assert store.objects == objects


@pytest.mark.parametrize(("answer", "reason"), [(model(1.5), "differs from the original by"), (b"rubbish", "")])
def test_an_unfaithful_model_is_not_served(monkeypatch, answer, reason):
    store = finished_run()
    monkeypatch.setattr(optimization, "optimize_offline", lambda original: answer)
    result = optimize_model(store, RUN)
    assert not result.accepted
    assert result.reason is not None and reason in result.reason
    assert result.reason.endswith("The original model is kept.")
    assert result.model_key == RunKeys(RUN).model
    assert not store.exists(RunKeys(RUN).optimized_model)
    assert read_optimization(store, RUN) == result


@pytest.mark.parametrize("difference", [2e-5, float("inf"), float("nan")])
def test_fidelity_has_a_limit(difference):
    require_fidelity(RUN, 1e-5, 1e-5, 10)
    with pytest.raises(FidelityLost, match="'tiny-v1'"):
        require_fidelity(RUN, difference, 1e-5, 10)


def test_an_unfinished_run_or_a_damaged_record_is_refused():
    store, _, _ = classification_run()
    with pytest.raises(NotFound):
        optimize_model(store, RUN)
    store.write(RunKeys(RUN).optimization, b"{}")
    with pytest.raises(BadInput, match=r"optimization\.json"):
        read_optimization(store, RUN)
