import numpy as np
import pytest
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.losses import CrossEntropy, SquaredError, loss_for
from shoal_core.graphs.signature import Classification, Regression
from tests.unit.graphs.networks import load, run


def evaluate(loss, output, target):
    graph = GraphBuilder()
    graph.input("output", TensorProto.FLOAT, ("N", output.shape[1]))
    tensors = loss.emit(graph, "output")
    graph.output(graph.emit("Identity", tensors.value, output="value"))
    graph.output(graph.emit("Identity", tensors.gradient, output="gradient"))
    result = run(load(graph.build("loss")), {"output": output, "target": target})
    return result["value"], result["gradient"]


@pytest.mark.parametrize("samples", [1, 4])
def test_cross_entropy(samples):
    random = np.random.default_rng(0)
    logits, target = random.normal(size=(samples, 3)).astype(np.float32), random.integers(0, 3, samples)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    value, gradient = evaluate(CrossEntropy(), logits, target)
    assert value == pytest.approx(-np.log(probabilities[np.arange(samples), target]).mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, (probabilities - np.eye(3)[target]) / samples, atol=1e-6)


def test_cross_entropy_of_huge_logits_is_finite():
    value, gradient = evaluate(CrossEntropy(), np.float32([[1e4, -1e4]]), np.asarray([1]))
    assert value == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1, -1]])


@pytest.mark.parametrize(("mean", "std", "divisor"), [(0.0, 1.0, 1.0), (5.0, 2.0, 2.0), (5.0, 0.0, 1.0)])
def test_squared_error_standardises_the_target(mean, std, divisor):
    prediction, target = np.float32([[1], [-1], [0.5]]), np.float32([6, 5, 3])
    difference = prediction[:, 0] - (target - mean) / divisor
    value, gradient = evaluate(SquaredError(mean, std), prediction, target)
    assert value == pytest.approx((difference**2).mean())
    np.testing.assert_allclose(gradient[:, 0], 2 * difference / 3, rtol=1e-6)


def test_loss_fits_the_task():
    assert loss_for(Classification(classes=2)) == CrossEntropy()
    assert loss_for(Regression(mean=3.0, std=2.0)) == SquaredError(3.0, 2.0)
