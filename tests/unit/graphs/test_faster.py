"""Nodes that a step runs in another form than their own: the same values and gradients come out."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from shoal_core.graphs.autodiff import backward, trace
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Sgd
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.rules.blocked import DOMAIN, has_blocks
from shoal_core.graphs.rules.forwards import emit_faster
from shoal_core.graphs.rules.rule import Node
from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature
from shoal_core.graphs.training_step import build_training_step
from tests.unit.graphs.networks import batch, load, prefixed, run

FLOAT = TensorProto.FLOAT
# Channels in, channels out, what the node says; the operands are of 9 x 6 places.
CONVOLUTIONS = {
    "plain": (16, 32, {"pads": [1, 1, 1, 1]}),
    "unequal pads": (32, 16, {"pads": [0, 2, 1, 0]}),
    "strides": (16, 32, {"pads": [1, 1, 1, 1], "strides": [2, 3]}),
    "dilations": (16, 16, {"pads": [2, 1, 2, 1], "dilations": [2, 1]}),
    "few channels": (3, 16, {"pads": [1, 1, 1, 1]}),
    "phases": (32, 16, {"pads": [0, 0, 0, 1], "strides": [3, 2]}),
    "phases of an axis": (16, 16, {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
    "same": (16, 32, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "wide pads": (32, 16, {"pads": [3, 3, 3, 3]}),
}


def model_of(node, shapes):
    graph = GraphBuilder(namespace="forward")
    for name, shape in shapes.items():
        graph.input(name, FLOAT, shape)
    graph.copy(node)
    graph.output(graph.emit("Identity", node.output[0], output="answer"))
    return graph.build("network")


def gradients(model, parameters, blocked):
    """The network's answer and its gradients, as a graph."""
    graph = GraphBuilder(namespace="step", blocked=blocked)
    tape = trace(graph, model, parameters)
    graph.input("seed", FLOAT, graph.shape("answer"))
    found = backward(graph, tape, {"answer": "seed"}, parameters)
    graph.output("answer")
    for name in parameters:
        graph.output(graph.emit("Identity", found[name], output=f"gradient.{name}"))
    return graph.build("gradients")


def answers(model, feeds):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)


@pytest.mark.skipif(not has_blocks(), reason="this processor's runtime has no blocks")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("use", CONVOLUTIONS)
def test_convolutions_in_blocks_equal_plain_ones(use, bias):
    channels, outputs, attributes = CONVOLUTIONS[use]
    shapes = {"x": ("N", channels, 9, 6), "w": (outputs, channels, 3, 3), **({"b": (outputs,)} if bias else {})}
    model = model_of(helper.make_node("Conv", list(shapes), ["y"], **attributes), shapes)
    plain, blocked = (gradients(model, list(shapes), blocked) for blocked in (False, True))
    assert DOMAIN in {item.domain for item in blocked.opset_import}
    assert DOMAIN not in {item.domain for item in plain.opset_import}
    turned = "ConvTranspose" in {node.op_type for node in blocked.graph.node}
    assert turned == (use in ("few channels", "strides", "same", "wide pads"))
    random = np.random.default_rng(0)
    # Whole blocks of samples, and not.
    for samples in (1, 5, 16, 21):
        feeds = {
            name: random.normal(size=[samples if dim == "N" else dim for dim in shape]).astype(np.float32)
            for name, shape in shapes.items()
        }
        answer = answers(model, feeds)[0]
        feeds["seed"] = random.normal(size=answer.shape).astype(np.float32)
        for found, expected in zip(answers(blocked, feeds), answers(plain, feeds), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


def pool_of(sizes, **attributes):
    shapes = {"x": ("N", 3, *sizes)}
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2] * len(sizes), **attributes)
    return model_of(node, shapes)


@pytest.mark.parametrize("sizes", [(6, 4), (7, 5), (2, 3)])
def test_a_pool_by_pairs_gives_what_the_runtimes_own_does(sizes):
    model = pool_of(sizes, strides=[2, 2])
    step = gradients(model, ["x"], False)
    assert "MaxPool" not in {node.op_type for node in step.graph.node}
    reference = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    # Few different values: of equal ones the first gets the gradient, as in PyTorch.
    for x in (random.integers(0, 3, (5, 3, *sizes)), random.normal(size=(1, 3, *sizes))):
        feeds = {"x": x.astype(np.float32)}
        (pooled,) = reference.run(None, feeds)
        seed = random.normal(size=pooled.shape).astype(np.float32)
        answer, gradient = answers(step, feeds | {"seed": seed})
        np.testing.assert_array_equal(answer, pooled)
        expected = np.zeros_like(feeds["x"])
        for place in np.ndindex(pooled.shape):
            sample, channel, row, column = place
            window = feeds["x"][sample, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            down, right = divmod(int(window.argmax()), 2)
            expected[sample, channel, 2 * row + down, 2 * column + right] = seed[place]
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [
        ((6, 6), {}),  # windows overlap
        ((6, 6), {"strides": [2, 1]}),
        ((6, 6), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((6, 6), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((7, 7), {"strides": [2, 2], "ceil_mode": 1}),
        ((6, 6), {"strides": [2, 2], "dilations": [2, 2]}),
        ((6,), {"strides": [2]}),
        ((6, 6, 6), {"strides": [2, 2, 2]}),
        ((6, "M"), {"strides": [2, 2]}),
        ((1, 6), {"strides": [2, 2], "pads": [0, 0, 1, 0]}),
    ],
)
def test_other_pools_stay_as_they_are(sizes, attributes):
    graph = GraphBuilder()
    graph.input("x", FLOAT, ("N", 3, *sizes))
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2] * len(sizes), **attributes)
    assert emit_faster(graph, Node.of(node), trained=True) is None


def test_a_pool_whose_indices_are_read_or_that_nothing_trains_through_stays_as_it_is():
    graph = GraphBuilder()
    graph.input("x", FLOAT, ("N", 3, 6, 6))
    usual = {"kernel_shape": [2, 2], "strides": [2, 2]}
    both = helper.make_node("MaxPool", ["x"], ["y", "places"], **usual)
    assert emit_faster(graph, Node.of(both), trained=True) is None
    assert emit_faster(graph, Node.of(helper.make_node("MaxPool", ["x"], ["y"], **usual)), trained=False) is None


@pytest.mark.parametrize(
    ("shape", "weight", "attributes"),
    [
        (("N", 16, 9, 7), (16, 16, 1, 1), {}),  # products are as fast
        (("N", 16, 9, 7), (24, 16, 3, 3), {}),  # no whole blocks
        (("N", 12, 9, 7), (16, 12, 3, 3), {}),
        (("N", 16, 9, 7), (16, 1, 3, 3), {"group": 16}),
        (("N", 16, 9), (16, 16, 3), {}),
        (("N", 16, "M", 7), (16, 16, 3, 3), {}),
    ],
)
def test_other_convolutions_stay_as_they_are(shape, weight, attributes):
    graph = GraphBuilder(blocked=True)
    graph.input("x", FLOAT, shape)
    graph.input("w", FLOAT, weight)
    assert emit_faster(graph, Node.of(helper.make_node("Conv", ["x", "w"], ["y"], **attributes)), trained=True) is None


@pytest.mark.skipif(not has_blocks(), reason="this processor's runtime has no blocks")
def test_a_step_in_blocks_gives_the_same_bytes_again():
    signature = NetworkSignature(
        image=ImageInput(shape=(1, 12, 12), mean=(100.0,), std=(60.0,)), task=Classification(classes=3)
    )
    forward = build_forward("vgg", {"channels": [16, 32], "convolutions": 2, "hidden": 8}, signature, 0)
    feeds = batch(signature, 21) | prefixed(forward) | {"learning_rate": np.float32(0.1), "step": np.float32(0)}
    feeds |= {f"state.momentum.{name}": np.zeros_like(value) for name, value in forward.initial.items()}
    model = build_training_step(forward, loss_for(signature.task), Sgd())
    assert DOMAIN in {item.domain for item in model.opset_import}
    first, second = (run(load(model), feeds) for _ in range(2))
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("state", [False, True])
def test_an_lstm_in_a_loop_gives_all_that_the_runtimes_own_does(direction, state):
    ways = 2 if direction == "bidirectional" else 1
    shapes = {"x": ("T", "N", 3), "w": (ways, 8, 3), "r": (ways, 8, 2), "b": (ways, 16)}
    shapes |= {"h": (ways, "N", 2), "c": (ways, "N", 2)} if state else {}
    inputs = ["x", "w", "r", "b", *(["", "h", "c"] if state else [])]
    node = helper.make_node("LSTM", inputs, ["y", "last", "cell"], hidden_size=2, direction=direction)
    random = np.random.default_rng(0)
    feeds = {
        name: random.normal(size=[{"N": 3, "T": 5}.get(dim, dim) for dim in shape]).astype(np.float32)
        for name, shape in shapes.items()
    }
    found = []
    for faster in (False, True):
        graph = GraphBuilder()
        for name, shape in shapes.items():
            graph.input(name, FLOAT, shape)
        if faster:
            assert emit_faster(graph, Node.of(node), trained=True) is not None
        else:
            graph.copy(node)
        for name in node.output:
            graph.output(name)
        found.append(answers(graph.build("lstm"), feeds))
    for mine, own in zip(*found, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-5, atol=1e-6)


def test_an_lstm_that_isnt_trained_or_is_unusual_stays_as_it_is():
    graph = GraphBuilder()
    for name, shape in {"x": (5, "N", 3), "w": (1, 8, 3), "r": (1, 8, 2)}.items():
        graph.input(name, FLOAT, shape)
    graph.input("lengths", TensorProto.INT32, ("N",))
    inputs = ["x", "w", "r"]
    plain = helper.make_node("LSTM", inputs, ["y"], hidden_size=2)
    assert emit_faster(graph, Node.of(plain), trained=False) is None
    for unusual in (
        helper.make_node("LSTM", inputs, ["y"], hidden_size=2, clip=3.0),
        helper.make_node("LSTM", [*inputs, "", "lengths"], ["y"], hidden_size=2),
    ):
        assert emit_faster(graph, Node.of(unusual), trained=True) is None
