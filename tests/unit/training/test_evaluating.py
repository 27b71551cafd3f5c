"""Evaluation of the exported model: parts, their merge, the baseline and the splits that stand in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadInput, BadRequest, NotFound
from shoal_core.keys import RunKeys
from shoal_core.training.candidates import read_optimization
from shoal_core.training.evaluating import MAX_SHOWN_MATRIX, evaluate_shard, merge_evaluation, read_evaluation
from shoal_core.training.metrics import ClassificationCounts
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.sessions import Session
from shoal_core.training.states import MAX_EVALUATION_SHARDS
from tests.unit.training.datasets import blobs, commit, table_spec
from tests.unit.training.networks import exported_graph
from tests.unit.training.runs import CLASSES, FEATURES, RUN, classification_run, regression_run

WEIGHTS = np.random.default_rng(5).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def with_model(store):
    parameters = {"weight": WEIGHTS, "bias": np.zeros(CLASSES, np.float32)}
    store.write(RunKeys(RUN).model, exported_graph(FEATURES, CLASSES, "classification", parameters))
    optimize_model(store, RUN)
    return store


def evaluated(store, shards):
    for shard in shards:
        evaluate_shard(store, RUN, shard)
    return merge_evaluation(store, RUN)


def test_the_merged_evaluation_is_that_of_all_test_samples():
    store, _, manifest = classification_run()
    evaluation = evaluated(with_model(store), [1, 0])
    test = [decode_shard(store.read(shard.key)) for shard in manifest.test]
    numbers = np.concatenate([part["numbers"] for part in test])
    target = np.concatenate([part["target"] for part in test])
    session = Session(store.read(read_optimization(store, RUN).model_key), 1)
    whole = ClassificationCounts.of(session.run({"numbers": numbers})["probabilities"], target).metrics(["a", "b", "c"])
    assert evaluation.metrics.confusion_matrix == whole.confusion_matrix
    assert evaluation.metrics.loss == pytest.approx(whole.loss)
    assert (evaluation.split, evaluation.samples, evaluation.metrics.classes) == ("test", 90, ["a", "b", "c"])
    assert evaluation.baseline.always == "a"
    assert evaluation.baseline.metrics["accuracy"] == pytest.approx(30 / 90)
    assert evaluation == read_evaluation(store, RUN)


@pytest.mark.parametrize(("classes", "shown"), [(MAX_SHOWN_MATRIX, True), (MAX_SHOWN_MATRIX + 1, False), (1000, False)])
def test_a_record_of_many_classes_fits_an_item_of_the_catalog(classes, shown):
    store, _, _ = classification_run()
    evaluation = evaluated(with_model(store), [0, 1])
    names = [f"class {number}" for number in range(classes)]
    record = evaluation.model_copy(update={"metrics": ClassificationCounts.empty(classes).metrics(names)}).record()
    assert ("confusion_matrix" in record) == shown
    assert len(record["per_class"]) == classes
    assert len(json.dumps(record)) < 300_000


def test_regression_has_a_mean_baseline():
    store, settings, _ = regression_run()
    parameters = {"weight": np.array([[20.0], [40], [60], [80]], np.float32), "bias": np.array([1000], np.float32)}
    store.write(RunKeys(RUN).model, exported_graph(FEATURES, 1, "regression", parameters))
    optimize_model(store, RUN)
    evaluation = evaluated(store, [0, 1])
    assert evaluation.metrics.rmse == pytest.approx(1.0, abs=0.2)
    assert evaluation.metrics.r2 > 0.999
    assert evaluation.baseline.always == settings.target_mean
    assert abs(evaluation.baseline.metrics["r2"]) < 0.1


def test_repeating_any_part_changes_nothing():
    store, _, _ = classification_run()
    evaluated(with_model(store), [0, 1])
    objects = dict(store.objects)
    evaluated(store, [1, 0, 1])
    assert store.objects == objects
    del store.objects[RunKeys(RUN).shard_evaluation(1)], store.objects[RunKeys(RUN).evaluation]
    evaluated(store, [1])
    assert store.objects == objects


def test_without_test_samples_validation_stands_in_and_is_said_so():
    store, settings, manifest = classification_run()
    splits = {"train": blobs(256), "validation": blobs(60, seed=1)}
    without = commit(store, table_spec(), splits, config=manifest.config)
    changes = {"manifest_digest": without.digest, "evaluation_split": "validation", "warnings": ("flattering",)}
    store.write(RunKeys(RUN).settings, settings.model_copy(update=changes).encode())
    evaluation = evaluated(with_model(store), [0])
    assert (evaluation.split, evaluation.samples, evaluation.warnings) == ("validation", 60, ("flattering",))


def test_many_shards_are_shared_by_few_items():
    store, settings, manifest = classification_run()
    splits = {"train": blobs(256), "test": blobs(2 * MAX_EVALUATION_SHARDS + 3, seed=2)}
    many = commit(store, table_spec(), splits, shard_samples=1, config=manifest.config)
    store.write(RunKeys(RUN).settings, settings.model_copy(update={"manifest_digest": many.digest}).encode())
    assert evaluated(with_model(store), range(MAX_EVALUATION_SHARDS)).samples == 2 * MAX_EVALUATION_SHARDS + 3


def test_what_is_missing_is_named():
    store, _, _ = classification_run()
    with pytest.raises(NotFound, match="no model to serve yet"):
        evaluate_shard(store, RUN, 0)
    with_model(store)
    with pytest.raises(BadRequest, match="no evaluation shard 2"):
        evaluate_shard(store, RUN, 2)
    evaluate_shard(store, RUN, 0)
    with pytest.raises(NotFound, match="shard 1 of run 'tiny-v1' hasn't been evaluated"):
        merge_evaluation(store, RUN)
    store.write(RunKeys(RUN).evaluation, b"[]")
    with pytest.raises(BadInput, match=r"evaluation\.json"):
        read_evaluation(store, RUN)
