"""Whole training steps, against finite differences of the loss and a numpy reference of the optimizers."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from shoal_core.errors import BadNetwork
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam, Sgd
from shoal_core.graphs.signature import Anomaly, Multilabel
from shoal_core.graphs.training_step import build_training_step, forward_with_parameters
from tests.unit.graphs.networks import IMAGES, NETWORK_IDS, NETWORKS, REGRESSION, batch, load, prefixed, run, small

OPTIMIZERS = [Sgd(), Sgd(momentum=0.5), Adam()]


def off_corners(forward):
    """With biases of 0, a unit that nothing reaches stands exactly on ReLU's corner, where there is no slope."""
    random = np.random.default_rng(5)
    moved = {
        name: value + random.uniform(0.01, 0.1, value.shape).astype(np.float32)
        for name, value in forward.initial.items()
    }
    return replace(forward, initial=moved)


def slots(forward, optimizer, fill=0.0):
    return {
        f"state.{slot}.{name}": np.full_like(value, fill)
        for slot in optimizer.slots
        for name, value in forward.initial.items()
    }


def step_feeds(forward, optimizer, signature, samples, step=0, rate=0.01, fill=0.0):
    scalars = {"learning_rate": np.float32(rate), "step": np.float32(step)}
    return {**batch(signature, samples), **scalars, **prefixed(forward), **slots(forward, optimizer, fill)}


def gradients_of(forward, signature, samples):
    """Exact gradients, from one step of plain descent with rate 1."""
    plain = Sgd(momentum=0.0)
    step = load(build_training_step(forward, loss_for(signature.task), plain))
    outputs = run(step, step_feeds(forward, plain, signature, samples, rate=1.0))
    return outputs["loss"], {name: outputs[f"new.state.momentum.{name}"] for name in forward.parameters}


def reference_loss(forward_session, feeds, signature):
    """The mean loss of a batch in float64."""
    output = run(forward_session, feeds)
    if "logits" in output:
        logits = output["logits"].astype(np.float64)
        if isinstance(signature.task, Multilabel):
            target = feeds["target"]
            return (np.logaddexp(0, logits) - target * logits).mean()
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -log_probabilities[np.arange(len(logits)), feeds["target"]].mean()
    if isinstance(signature.task, Anomaly):
        return output["score"][feeds["target"] == 0].mean()
    standardised = (feeds["target"].astype(np.float64) - signature.task.mean) / signature.task.std
    return ((output["prediction"][:, 0] - standardised) ** 2).mean()


def loss_function(forward, signature):
    """The loss in float64 from the network's answers; where it trains on the batch's statistics, as the step says."""
    if forward.buffers:
        step = load(build_training_step(forward, loss_for(signature.task), Sgd()))
        return lambda feeds: float(run(step, feeds)["loss"])
    session = load(forward_with_parameters(forward))
    return lambda feeds: reference_loss(session, feeds, signature)


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_gradients_equal_directional_differences_of_the_loss(recipe, signature, samples):
    forward = off_corners(small(recipe, signature))
    loss, gradients = gradients_of(forward, signature, samples)
    loss_of = loss_function(forward, signature)
    feeds = step_feeds(forward, Sgd(), signature, samples)
    assert loss.shape == ()
    assert loss == pytest.approx(loss_of(feeds), abs=1e-5)
    # One parameter at a time, moved along its own gradient, where the slope is the gradient's length.
    for name, gradient in gradients.items():
        length = np.linalg.norm(gradient.astype(np.float64))
        if length == 0:
            continue
        direction = (gradient / length).astype(np.float32)
        change = 2e-4
        moved = [
            loss_of({**feeds, f"param.{name}": (forward.initial[name] + sign * np.float32(change) * direction)})
            for sign in (np.float32(1), np.float32(-1))
        ]
        assert (moved[0] - moved[1]) / (2 * change) == pytest.approx(length, rel=0.02, abs=2e-3), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("recipe", "signature"), [NETWORKS[0], NETWORKS[3]], ids=["cnn", "mlp"])
def test_update_equals_numpy(recipe, signature, optimizer):
    forward = small(recipe, signature)
    _, gradients = gradients_of(forward, signature, 4)
    session = load(build_training_step(forward, loss_for(signature.task), optimizer))
    outputs = run(session, step_feeds(forward, optimizer, signature, 4, step=3, fill=0.25))
    for name, parameter in forward.initial.items():
        p, g = parameter.astype(np.float64), gradients[name].astype(np.float64)
        if isinstance(optimizer, Sgd):
            m = optimizer.momentum * 0.25 + g
            expected = p - 0.01 * m
            np.testing.assert_allclose(outputs[f"new.state.momentum.{name}"], m, rtol=1e-5, atol=1e-6)
        else:
            m, v = 0.9 * 0.25 + 0.1 * g, 0.999 * 0.25 + 0.001 * g * g
            corrected = (m / (1 - 0.9**4)) / (np.sqrt(v / (1 - 0.999**4)) + 1e-8)
            expected = p - 0.01 * corrected
            np.testing.assert_allclose(outputs[f"new.state.m.{name}"], m, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(outputs[f"new.state.v.{name}"], v, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs[f"new.param.{name}"], expected, rtol=1e-5, atol=1e-6)


def test_first_adam_step_without_gradient_history_is_finite():
    forward = small("mlp", REGRESSION)
    outputs = run(
        load(build_training_step(forward, loss_for(REGRESSION.task), Adam())),
        step_feeds(forward, Adam(), REGRESSION, 2),
    )
    assert all(np.isfinite(value).all() for value in outputs.values())


def test_inputs_and_outputs_keep_the_contract():
    forward = small("cnn", IMAGES)
    step = build_training_step(forward, loss_for(IMAGES.task), Adam())
    names = list(forward.parameters)
    state = [f"state.{slot}.{name}" for slot in ("m", "v") for name in names]
    parameters = [f"param.{name}" for name in names]
    inputs = {value.name for value in step.graph.input}
    assert inputs == {"image", "target", "learning_rate", "step", *parameters, *state}
    assert {value.name for value in step.graph.output} == {
        "loss",
        *(f"new.{name}" for name in [*parameters, *state]),
    }
    assert step.ir_version <= 10
    assert [(item.domain, item.version <= 22) for item in step.opset_import] == [("", True)]
    assert {node.domain for node in step.graph.node} == {""}
    batched = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in step.graph.input[:1]}
    assert batched == {"image": "N"}


def test_buffers_are_inputs_and_outputs_and_follow_the_batches():
    forward = small("resnet", IMAGES)
    step = build_training_step(forward, loss_for(IMAGES.task), Sgd())
    buffers = {f"buffer.{name}" for name in forward.buffers}
    assert buffers and buffers <= {value.name for value in step.graph.input}
    assert {f"new.{name}" for name in buffers} <= {value.name for value in step.graph.output}
    assert not buffers & {f"buffer.{name}" for name in forward.parameters}
    assert set(forward.data_inputs) == {"image"}
    session, feeds = load(step), step_feeds(forward, Sgd(), IMAGES, 6, rate=0.0)
    # The stem's statistics don't depend on what is trained: they approach those of the repeated batch.
    for _ in range(200):
        outputs = run(session, feeds)
        feeds |= {name: outputs[f"new.{name}"] for name in buffers}
    image = IMAGES.image
    pixels = feeds["image"] - np.float32(image.mean).reshape(-1, 1, 1)
    standardised = pixels / np.float32(image.std).reshape(-1, 1, 1)
    weight = forward.initial["stem.weight"]
    padded = np.pad(standardised, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwij,ocij->nohw", windows, weight)
    found = [feeds[f"buffer.stem.norm.{name}"] for name in ("mean", "variance")]
    np.testing.assert_allclose(found[0], convolved.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], convolved.transpose(1, 0, 2, 3).reshape(3, -1).var(1, ddof=1), rtol=1e-3)


def test_a_buffer_that_nothing_renews_is_refused():
    forward = small("resnet", IMAGES)
    broken = onnx.ModelProto()
    broken.CopyFrom(forward.model)
    broken.graph.input.append(onnx.helper.make_tensor_value_info("buffer.idle", onnx.TensorProto.FLOAT, [2]))
    idle = replace(forward, model=broken, buffers={**forward.buffers, "idle": np.zeros(2, np.float32)})
    with pytest.raises(BadNetwork, match=r"renews buffer 'buffer\.idle'"):
        build_training_step(idle, loss_for(IMAGES.task), Sgd())


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_same_arguments_same_bytes(recipe, signature):
    steps = [
        build_training_step(small(recipe, signature, seed=3), loss_for(signature.task), Adam()).SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    ]
    assert steps[0] == steps[1]


def test_training_lowers_the_loss():
    forward = small("cnn", IMAGES)
    optimizer = Adam()
    session = load(build_training_step(forward, loss_for(IMAGES.task), optimizer))
    feeds = step_feeds(forward, optimizer, IMAGES, 8)
    losses = []
    for step in range(60):
        outputs = run(session, {**feeds, "step": np.float32(step)})
        losses.append(float(outputs["loss"]))
        feeds |= {name.removeprefix("new."): value for name, value in outputs.items() if name != "loss"}
    assert losses[-1] < losses[0] / 3


def test_forward_without_batch_dimension_is_refused():
    forward = small("mlp", REGRESSION)
    broken = onnx.ModelProto()
    broken.CopyFrom(forward.model)
    broken.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(BadNetwork, match="numbers"):
        forward_with_parameters(ForwardGraph(broken, forward.parameters, forward.initial))
