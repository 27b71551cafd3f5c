import json

import numpy as np
import onnx
import pytest

from shoal_core.errors import BadNetwork
from shoal_core.graphs.export import export_model
from shoal_core.graphs.training_step import forward_with_parameters
from tests.unit.graphs.networks import (
    IMAGES,
    MIXED,
    NETWORK_IDS,
    NETWORKS,
    REGRESSION,
    STRANGE,
    batch,
    load,
    prefixed,
    run,
    small,
)

CLASSIFIERS = [network for network in NETWORKS if network[1].task.kind == "classification"]
CLASSIFIER_IDS = [name for name, network in zip(NETWORK_IDS, NETWORKS, strict=True) if network in CLASSIFIERS]
CLASSES = ["zebra", "ärmel", "c,\"d'"]


def forward_bytes(forward):
    return forward_with_parameters(forward).SerializeToString()


@pytest.mark.parametrize(("recipe", "signature"), CLASSIFIERS, ids=CLASSIFIER_IDS)
def test_classification_answers_softmax_of_the_network(recipe, signature):
    forward = small(recipe, signature)
    exported = export_model(forward_bytes(forward), forward.initial, "classification", CLASSES, buffers=forward.buffers)
    assert {value.name for value in onnx.load_from_string(exported).graph.input} == set(forward.data_inputs)
    for samples in (1, 6):
        data = batch(signature, samples)
        logits = run(load(forward_bytes(forward)), {**data, **prefixed(forward)})["logits"].astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answer = run(load(exported), data)
        assert list(answer) == ["probabilities"]
        assert answer["probabilities"].dtype == np.float32
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("recipe", ["fasttext", "mlp", "transformer"])
def test_multilabel_answers_a_probability_for_each_label(recipe):
    forward = small(recipe, MIXED)
    exported = export_model(forward_bytes(forward), forward.initial, "multilabel", [*CLASSES, "d"])
    data = batch(MIXED, 5)
    logits = run(load(forward_bytes(forward)), {**data, **prefixed(forward)})["logits"].astype(np.float64)
    answer = run(load(exported), data)
    np.testing.assert_allclose(answer["probabilities"], 1 / (1 + np.exp(-logits)), atol=1e-6)
    properties = {entry.key: entry.value for entry in onnx.load_from_string(exported).metadata_props}
    assert (properties["shoal.task"], json.loads(properties["shoal.classes"])) == ("multilabel", [*CLASSES, "d"])


def test_regression_answers_in_original_units():
    forward = small("mlp", REGRESSION)
    exported = export_model(forward_bytes(forward), forward.initial, "regression", target_mean=50.0, target_std=10.0)
    data = batch(REGRESSION, 5)
    standardised = run(load(forward_bytes(forward)), {**data, **prefixed(forward)})["prediction"]
    answer = run(load(exported), data)
    assert list(answer) == ["value"]
    assert answer["value"].shape == (5,)
    np.testing.assert_allclose(answer["value"], 50 + 10 * standardised[:, 0], rtol=1e-6)


def test_one_plain_file_with_metadata():
    forward = small("cnn", IMAGES)
    model = onnx.load_from_string(export_model(forward_bytes(forward), forward.initial, "classification", CLASSES))
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["shoal.task"] == "classification"
    assert json.loads(properties["shoal.classes"]) == CLASSES
    assert model.producer_name == "shoal"
    assert model.ir_version <= 10
    assert {node.domain for node in model.graph.node} == {""}
    assert [value.name for value in model.graph.input] == ["image"]
    assert not model.graph.value_info
    assert set(forward.parameters) <= {tensor.name for tensor in model.graph.initializer}


def test_same_arguments_same_bytes():
    files = []
    for _ in range(2):
        forward = small("mlp", IMAGES)
        files.append(export_model(forward_bytes(forward), forward.initial, "classification", CLASSES))
    assert files[0] == files[1]


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_parameters_that_dont_fit_are_refused(change):
    forward = small("mlp", REGRESSION)
    parameters = dict(forward.initial)
    if change == "missing":
        del parameters["output.bias"]
    elif change == "unknown":
        parameters["output.bias2"] = np.zeros(1, dtype=np.float32)
    else:
        parameters["output.bias"] = np.zeros(2, dtype=np.float32)
    with pytest.raises(BadNetwork, match=r"output\.bias"):
        export_model(forward_bytes(forward), parameters, "regression")


def test_wrong_number_of_class_names_is_refused():
    forward = small("mlp", IMAGES)
    with pytest.raises(BadNetwork, match="3 classes, but 2"):
        export_model(forward_bytes(forward), forward.initial, "classification", ["a", "b"])


def test_buffers_that_dont_fit_are_refused():
    forward = small("resnet", IMAGES)
    with pytest.raises(BadNetwork, match=r"Buffer 'stage0\.block0\.first\.norm\.mean'"):
        export_model(forward_bytes(forward), forward.initial, "classification", CLASSES)


@pytest.mark.parametrize("kind", STRANGE)
def test_anomalies_are_scored_and_called(kind):
    forward = small("autoencoder", STRANGE[kind])
    data = batch(STRANGE[kind], 6)
    expected = run(load(forward_bytes(forward)), {**data, **prefixed(forward)})["score"][:, 0]
    threshold = float(np.median(expected))
    exported = export_model(forward_bytes(forward), forward.initial, "anomaly", threshold=threshold)
    answer = run(load(exported), data)
    assert list(answer) == ["score", "anomalous"]
    np.testing.assert_allclose(answer["score"], expected, rtol=1e-5)
    assert answer["anomalous"].dtype == np.bool_
    np.testing.assert_array_equal(answer["anomalous"], answer["score"] > np.float32(threshold))
    assert 0 < answer["anomalous"].sum() < 6
    properties = {entry.key: entry.value for entry in onnx.load_from_string(exported).metadata_props}
    assert properties == {"shoal.task": "anomaly"}
