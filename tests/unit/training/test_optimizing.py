"""The fidelity gate: what answers differently, or loses more than it may, isn't served, and the reason is kept."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.errors import BadInput, NotFound
from shoal_core.graphs import optimization, quantization
from shoal_core.keys import RunKeys
from shoal_core.training.candidates import read_optimization
from shoal_core.training.optimizing import PROBABILITY_TOLERANCE, agreement, difference, optimize_model
from tests.support.stores import MemoryStore
from tests.unit.training.networks import exported_graph
from tests.unit.training.runs import CLASSES, FEATURES, RUN, classification_run, regression_run


def model(scale: float = 1.0, task: str = "classification") -> bytes:
    outputs = CLASSES if task == "classification" else 1
    weights = np.random.default_rng(5).normal(size=(FEATURES, outputs)).astype(np.float32) * scale
    return exported_graph(FEATURES, outputs, task, {"weight": weights, "bias": np.zeros(outputs)})


def finished_run() -> MemoryStore:
    store, _, _ = classification_run()
    store.write(RunKeys(RUN).model, model())
    return store


def test_every_candidate_is_measured_and_one_is_served() -> None:
    store = finished_run()
    result = optimize_model(store, RUN)
    assert [candidate.name for candidate in result.candidates] == [
        "float32",
        "float32-optimized",
        "pruned",
        "int8-static",
        "int8-dynamic",
    ]
    assert (result.split, result.samples, result.metric) == ("validation", 60, "accuracy")
    # One layer alone has no outputs that another one reads.
    assert "No layer has channels that can go" in (result.candidate("pruned").reason or "")
    for candidate in result.candidates:
        if candidate.name == "pruned":
            continue
        assert candidate.metric is not None
        assert candidate.bytes
        assert set(candidate.latency_ms) == ({"1", "64"} if candidate.accepted else set())
        assert candidate.accepted == (candidate.reason is None)
    faithful = result.candidate("float32-optimized")
    assert faithful.accepted
    assert faithful.difference is not None and faithful.difference <= PROBABILITY_TOLERANCE
    assert result.candidate(result.served).accepted
    assert store.exists(result.model_key)


def test_it_is_measured_once() -> None:
    store = finished_run()
    result = optimize_model(store, RUN)
    objects = dict(store.objects)
    assert optimize_model(store, RUN) == result == read_optimization(store, RUN)
    assert store.objects == objects


def test_a_regression_is_measured_by_its_error() -> None:
    store, _, _ = regression_run()
    store.write(RunKeys(RUN).model, model(task="regression"))
    result = optimize_model(store, RUN)
    assert result.metric == "rmse"
    assert result.candidate("float32").metric == result.candidate("float32-optimized").metric


@pytest.mark.parametrize(("answer", "reason"), [(model(1.5), "its answers differ by"), (b"rubbish", "ONNX Runtime")])
def test_an_unfaithful_graph_is_not_served(monkeypatch, answer, reason) -> None:
    store = finished_run()
    monkeypatch.setattr(optimization, "optimize_offline", lambda original: answer)
    refused = optimize_model(store, RUN).candidate("float32-optimized")
    assert not refused.accepted
    assert refused.reason is not None and reason in refused.reason
    assert not refused.latency_ms


def test_a_truly_broken_quantisation_is_caught() -> None:
    """Calibrated on samples a thousand times smaller than real ones, every activation is cut off."""
    store = finished_run()
    real = quantization.quantize_static

    def broken(source, batches, *, reduce_range):
        tiny = [{name: array / 1000 for name, array in batch.items()} for batch in batches]
        return real(source, tiny, reduce_range=reduce_range)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization, "quantize_static", broken)
        result = optimize_model(store, RUN)
    caught = result.candidate("int8-static")
    assert not caught.accepted
    assert caught.reason is not None
    assert "points of accuracy; 0.5 are allowed" in caught.reason or "agrees with the float32 model" in caught.reason
    assert result.served != "int8-static"
    assert optimize_model(finished_run(), RUN).candidate("int8-static").agreement > caught.agreement


def test_int8_can_be_refused() -> None:
    store, settings, manifest = classification_run()
    store.write(RunKeys(RUN).model, model())
    wishes = manifest.config.optimize.model_copy(update={"int8": False, "prune": False})
    changed = manifest.model_copy(update={"config": manifest.config.model_copy(update={"optimize": wishes})})
    (key,) = [key for key in store.objects if key.endswith("manifest.json")]
    store.write(key, changed.encode())
    store.write(RunKeys(RUN).settings, settings.model_copy(update={"manifest_digest": changed.digest}).encode())
    assert [candidate.name for candidate in optimize_model(store, RUN).candidates] == ["float32", "float32-optimized"]


def test_agreement_counts_answers_that_stay() -> None:
    _, settings, _ = classification_run()
    first = [np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4]])]
    second = [np.array([[0.6, 0.4], [0.1, 0.9]]), np.array([[0.4, 0.6]])]
    assert agreement(first, second, settings) == pytest.approx(2 / 3)
    assert difference(first, second) == pytest.approx(0.3)
    assert difference(first, [np.full((2, 2), np.nan), second[1]]) is None
    several = settings.model_copy(update={"task": "multilabel"})
    assert agreement(first, second, several) == pytest.approx(2 / 3)
    numbers = settings.model_copy(update={"task": "regression", "target_std": 10.0})
    assert agreement([np.array([1.0, 2.0])], [np.array([1.9, 3.1])], numbers) == 0.5


def test_an_unfinished_run_or_a_damaged_record_is_refused() -> None:
    store, _, _ = classification_run()
    with pytest.raises(NotFound):
        optimize_model(store, RUN)
    store.write(RunKeys(RUN).optimization, b"{}")
    with pytest.raises(BadInput, match=r"optimization\.json"):
        read_optimization(store, RUN)
