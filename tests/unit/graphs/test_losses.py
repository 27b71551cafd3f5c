"""Every loss by a formula of its own in float64, and its gradient by finite differences of that formula."""

import numpy as np
import pytest
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.losses import (
    AbsoluteError,
    Binary,
    CrossEntropy,
    Focal,
    Huber,
    Reconstruction,
    SquaredError,
    loss_for,
)
from shoal_core.graphs.signature import Anomaly, Classification, Multilabel, Regression
from tests.unit.graphs.networks import load, run

WEIGHTS = (0.5, 2.0, 1.25)


def evaluate(loss, output, target):
    graph = GraphBuilder()
    graph.input("output", TensorProto.FLOAT, ("N", output.shape[1]))
    tensors = loss.emit(graph, "output")
    graph.output(graph.emit("Identity", tensors.value, output="value"))
    graph.output(graph.emit("Identity", tensors.gradient, output="gradient"))
    result = run(load(graph.build("loss")), {"output": output, "target": target})
    return result["value"], result["gradient"]


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits, target, weights=(1.0, 1.0, 1.0), smoothing=0.0):
    classes = logits.shape[1]
    wanted = (1 - smoothing) * np.eye(classes)[target] + smoothing / classes
    return -(np.asarray(weights) * wanted * log_softmax(logits)).sum(axis=1).mean()


def focal(logits, target, gamma=2.0, weights=(1.0, 1.0, 1.0)):
    log_p = log_softmax(logits)[np.arange(len(target)), target]
    return -(np.asarray(weights)[target] * (1 - np.exp(log_p)) ** gamma * log_p).mean()


def huber(prediction, target, delta):
    distance = np.abs(prediction[:, 0] - target)
    return np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2)).mean()


CLASSIFICATION = {
    "plain": (CrossEntropy(), cross_entropy),
    "weighted": (CrossEntropy(WEIGHTS), lambda x, t: cross_entropy(x, t, WEIGHTS)),
    "smoothed": (CrossEntropy(label_smoothing=0.1), lambda x, t: cross_entropy(x, t, smoothing=0.1)),
    "both": (CrossEntropy(WEIGHTS, 0.2), lambda x, t: cross_entropy(x, t, WEIGHTS, 0.2)),
    "focal": (Focal(), focal),
    "focal_1": (Focal(gamma=1.0), lambda x, t: focal(x, t, 1.0)),
    "focal_half": (Focal(gamma=0.5), lambda x, t: focal(x, t, 0.5)),
    "focal_0": (Focal(gamma=0.0), cross_entropy),
    "focal_weighted": (Focal(3.0, WEIGHTS), lambda x, t: focal(x, t, 3.0, WEIGHTS)),
}
REGRESSION = {
    "squared": (SquaredError(), lambda x, t: ((x[:, 0] - t) ** 2).mean()),
    "absolute": (AbsoluteError(), lambda x, t: np.abs(x[:, 0] - t).mean()),
    "huber": (Huber(), lambda x, t: huber(x, t, 1.0)),
    "huber_near": (Huber(delta=0.3), lambda x, t: huber(x, t, 0.3)),
}


def slopes(formula, output, target):
    output, found = output.astype(np.float64), np.zeros(output.shape)
    for index in np.ndindex(*output.shape):
        ends = []
        for sign in (1, -1):
            moved = output.copy()
            moved[index] += sign * 1e-6
            ends.append(formula(moved, target))
        found[index] = (ends[0] - ends[1]) / 2e-6
    return found


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_losses(name, samples):
    loss, formula = CLASSIFICATION[name]
    random = np.random.default_rng(0)
    logits = (2 * random.normal(size=(samples, 3))).astype(np.float32)
    target = random.integers(0, 3, samples)
    value, gradient = evaluate(loss, logits, target)
    assert value.shape == ()
    assert value == pytest.approx(formula(logits.astype(np.float64), target), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes(formula, logits, target), atol=2e-6)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses(name, samples):
    loss, formula = REGRESSION[name]
    random = np.random.default_rng(1)
    prediction = (2 * random.normal(size=(samples, 1))).astype(np.float32)
    target = random.normal(size=samples).astype(np.float32)
    value, gradient = evaluate(loss, prediction, target)
    assert value.shape == ()
    assert value == pytest.approx(formula(prediction.astype(np.float64), target), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes(formula, prediction, target), atol=1e-6)


@pytest.mark.parametrize(
    "loss", [CrossEntropy(), CrossEntropy((1.0, 2.0), 0.1), Focal(), Focal(0.5), Focal(5.0)], ids=repr
)
@pytest.mark.parametrize("target", [0, 1])
def test_huge_logits_stay_finite(loss, target):
    value, gradient = evaluate(loss, np.float32([[1e4, -1e4]]), np.asarray([target]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_cross_entropy_of_huge_logits():
    value, gradient = evaluate(CrossEntropy(), np.float32([[1e4, -1e4]]), np.asarray([1]))
    assert value == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1, -1]])


@pytest.mark.parametrize("loss", [CrossEntropy(WEIGHTS), Focal(2.0, WEIGHTS)], ids=repr)
def test_the_mean_does_not_depend_on_how_samples_are_spread(loss):
    random = np.random.default_rng(2)
    logits, target = random.normal(size=(8, 3)).astype(np.float32), random.integers(0, 3, 8)
    whole, gradient = evaluate(loss, logits, target)
    parts = [evaluate(loss, logits[half], target[half]) for half in (slice(0, 4), slice(4, 8))]
    assert whole == pytest.approx(np.mean([value for value, _ in parts]), rel=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([part for _, part in parts]) / 2, atol=1e-7)


@pytest.mark.parametrize("kind", [SquaredError, AbsoluteError, Huber])
@pytest.mark.parametrize(("mean", "std", "divisor"), [(0.0, 1.0, 1.0), (5.0, 2.0, 2.0), (5.0, 0.0, 1.0)])
def test_the_target_is_standardised(kind, mean, std, divisor):
    prediction, target = np.float32([[1], [-1], [0.5]]), np.float32([6, 5, 3])
    value, gradient = evaluate(kind(mean, std), prediction, target)
    expected, expected_gradient = evaluate(kind(), prediction, (target - np.float32(mean)) / np.float32(divisor))
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def test_loss_fits_the_task():
    task = Classification(classes=3)
    assert loss_for(Classification(classes=2)) == CrossEntropy()
    assert loss_for(task, "focal", {"gamma": 1.5, "class_weights": list(WEIGHTS)}) == Focal(1.5, WEIGHTS)
    assert loss_for(task, "cross_entropy", {"label_smoothing": 0.1}) == CrossEntropy(label_smoothing=0.1)
    number = Regression(mean=3.0, std=2.0)
    assert loss_for(number) == SquaredError(3.0, 2.0)
    assert loss_for(number, "absolute", {}) == AbsoluteError(3.0, 2.0)
    assert loss_for(number, "huber", {"delta": 2.0}) == Huber(3.0, 2.0, 2.0)
    with pytest.raises(KeyError):
        loss_for(number, "focal")


def binary(logits, target, weights=(1.0, 1.0, 1.0)):
    softplus = np.logaddexp(0, logits), np.logaddexp(0, -logits)
    return (np.asarray(weights) * target * softplus[1] + (1 - target) * softplus[0]).mean()


def soft_cross_entropy(logits, target, weights=(1.0, 1.0, 1.0), smoothing=0.0):
    wanted = (1 - smoothing) * target + smoothing / logits.shape[1]
    return -(np.asarray(weights) * wanted * log_softmax(logits)).sum(axis=1).mean()


SHARES = {
    "binary": (Binary(), binary),
    "binary_weighted": (Binary(WEIGHTS), lambda x, t: binary(x, t, WEIGHTS)),
    "soft": (CrossEntropy(soft=True), soft_cross_entropy),
    "soft_both": (CrossEntropy(WEIGHTS, 0.2, soft=True), lambda x, t: soft_cross_entropy(x, t, WEIGHTS, 0.2)),
}


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("name", SHARES)
def test_losses_of_shares(name, samples):
    loss, formula = SHARES[name]
    random = np.random.default_rng(4)
    output = random.normal(0, 3, (samples, 3)).astype(np.float32)
    target = random.dirichlet(np.ones(3), samples).astype(np.float32)
    value, gradient = evaluate(loss, output, target)
    np.testing.assert_allclose(value, formula(output.astype(np.float64), target), rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes(formula, output, target), rtol=1e-3, atol=1e-6)


def test_binary_never_overflows():
    output = np.float32([[1e4, -1e4, 0.0]])
    value, gradient = evaluate(Binary(), output, np.float32([[0, 1, 1]]))
    np.testing.assert_allclose(value, (2e4 + np.log(2)) / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1 / 3, -1 / 3, -1 / 6]], rtol=1e-6)


def test_several_labels_have_their_loss():
    assert loss_for(Multilabel(classes=3)) == Binary()
    assert loss_for(Multilabel(classes=3), "binary", {"class_weights": [1.0, 2.0, 3.0]}) == Binary((1.0, 2.0, 3.0))
    with pytest.raises(KeyError):
        loss_for(Multilabel(classes=3), "focal")


def test_known_anomalies_teach_nothing():
    scores = np.float32([[0.5], [7.0], [1.5], [1e30]])
    value, gradient = evaluate(Reconstruction(), scores, np.array([0, 1, 0, 1]))
    assert value == 1.0
    assert gradient.ravel().tolist() == [0.5, 0, 0.5, 0]
    value, gradient = evaluate(loss_for(Anomaly()), scores, np.ones(4, np.int64))
    assert value == 0.0
    assert not gradient.any()
