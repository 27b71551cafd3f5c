"""Every optimizer against a numpy reference in float64, over several steps; clipping and what decays."""

import numpy as np
import pytest
from onnx import TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam, AdamW, Lion, Sgd, clip_by_global_norm, decays
from shoal_core.graphs.training_step import build_training_step
from tests.unit.graphs.networks import REGRESSION, batch, load, prefixed, run, small

SHAPES = {"param.dense.weight": (3, 4), "param.dense.bias": (4,)}


def build(optimizer):
    """The update of a weight and a bias, as the training step has it."""
    graph = GraphBuilder()
    gradients = {}
    for name, shape in SHAPES.items():
        graph.input(name, TensorProto.FLOAT, shape)
        gradients[name] = graph.input(f"gradient.{name}", TensorProto.FLOAT, shape)
    graph.input("learning_rate", TensorProto.FLOAT, ())
    graph.input("step", TensorProto.FLOAT, ())
    clipped = optimizer.clip(graph, gradients)
    for name, shape in SHAPES.items():
        slots = {slot: graph.input(f"state.{slot}.{name}", TensorProto.FLOAT, shape) for slot in optimizer.slots}
        for key, tensor in optimizer.emit(graph, name, clipped[name], slots).items():
            output = f"new.{name}" if key == "parameter" else f"new.state.{key}.{name}"
            graph.output(graph.emit("Identity", tensor, output=output))
    return load(graph.build("update"))


def tensors(seed, scale=1.0):
    random = np.random.default_rng(seed)
    return {name: (scale * random.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}


def steps(optimizer, count=4, rate=0.01, scale=1.0):
    """The parameters after each step, with a new gradient in each."""
    session, values = build(optimizer), tensors(0)
    values |= {f"state.{slot}.{name}": np.zeros(shape, np.float32) for slot in optimizer.slots
               for name, shape in SHAPES.items()}  # fmt: skip
    for step in range(count):
        gradients = {f"gradient.{name}": value for name, value in tensors(step + 1, scale).items()}
        outputs = run(session, {**values, **gradients, "learning_rate": np.float32(rate), "step": np.float32(step)})
        values = {name.removeprefix("new."): value for name, value in outputs.items()}
        yield {name: values[name] for name in SHAPES}


class Reference:
    """The updates as their papers write them, in float64."""

    def __init__(self, optimizer, rate=0.01):
        self.o, self.rate, self.step = optimizer, rate, 0
        self.p = {name: value.astype(np.float64) for name, value in tensors(0).items()}
        self.slots = {name: {slot: np.zeros(shape) for slot in optimizer.slots} for name, shape in SHAPES.items()}

    def update(self, gradients):
        self.step += 1
        gradients = {name: value.astype(np.float64) for name, value in gradients.items()}
        if self.o.clip_norm is not None:
            norm = np.sqrt(sum((value**2).sum() for value in gradients.values()))
            gradients = {name: value * min(1, self.o.clip_norm / (norm + 1e-6)) for name, value in gradients.items()}
        for name, gradient in gradients.items():
            decay = self.o.weight_decay if name.endswith("weight") else 0.0
            update = getattr(self, self.o.name)
            self.p[name] = update(self.p[name], gradient, self.slots[name], decay)
        return self.p

    def sgd(self, p, g, slots, decay):
        g = g + decay * p
        slots["momentum"] = self.o.momentum * slots["momentum"] + g
        way = g + self.o.momentum * slots["momentum"] if self.o.nesterov else slots["momentum"]
        return p - self.rate * way

    def adam(self, p, g, slots, decay):
        return p - self._adam(g + decay * p, slots)

    def adamw(self, p, g, slots, decay):
        return p - self.rate * decay * p - self._adam(g, slots)

    def lion(self, p, g, slots, decay):
        direction = np.sign(self.o.beta1 * slots["m"] + (1 - self.o.beta1) * g)
        slots["m"] = self.o.beta2 * slots["m"] + (1 - self.o.beta2) * g
        return p - self.rate * (direction + decay * p)

    def _adam(self, g, slots):
        b1, b2 = self.o.beta1, self.o.beta2
        slots["m"] = b1 * slots["m"] + (1 - b1) * g
        slots["v"] = b2 * slots["v"] + (1 - b2) * g * g
        m, v = slots["m"] / (1 - b1**self.step), slots["v"] / (1 - b2**self.step)
        return self.rate * m / (np.sqrt(v) + self.o.epsilon)


OPTIMIZERS = {
    "sgd": Sgd(),
    "plain": Sgd(momentum=0.0),
    "nesterov": Sgd(nesterov=True),
    "sgd_decay": Sgd(momentum=0.5, weight_decay=0.1),
    "nesterov_decay": Sgd(nesterov=True, weight_decay=0.1),
    "sgd_clipped": Sgd(weight_decay=0.1, clip_norm=1.5),
    "adam": Adam(),
    "adam_decay": Adam(weight_decay=0.1),
    "adam_clipped": Adam(clip_norm=0.5),
    "adamw": AdamW(),
    "adamw_decay": AdamW(weight_decay=0.5, beta1=0.8, beta2=0.95),
    "lion": Lion(),
    "lion_clipped": Lion(weight_decay=0.0, clip_norm=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_numpy(name):
    reference = Reference(OPTIMIZERS[name])
    for step, found in enumerate(steps(OPTIMIZERS[name]), 1):
        expected = reference.update(tensors(step))
        for parameter, value in found.items():
            np.testing.assert_allclose(value, expected[parameter], rtol=2e-5, atol=2e-6, err_msg=f"{parameter} {step}")


@pytest.mark.parametrize("optimizer", [Sgd(weight_decay=0.3), Adam(weight_decay=0.3), AdamW(), Lion()], ids=repr)
def test_biases_do_not_decay(optimizer):
    kind = type(optimizer)
    decayed, undecayed = list(steps(optimizer)), list(steps(kind(weight_decay=0.0)))
    for with_decay, without in zip(decayed, undecayed, strict=True):
        assert with_decay["param.dense.bias"].tobytes() == without["param.dense.bias"].tobytes()
        assert with_decay["param.dense.weight"].tobytes() != without["param.dense.weight"].tobytes()


@pytest.mark.parametrize(
    ("parameter", "rank", "expected"),
    [
        ("param.dense0.weight", 2, True),
        ("param.block0.convolution0.weight", 4, True),
        ("param.categories0.table", 2, True),
        ("param.dense0.bias", 1, False),
        ("param.rnn.bias", 2, False),
        ("param.lstm.bias_ih_l0", 2, False),
        ("param.norm1.weight", 1, False),
        ("param.block0.groupnorm.scale", 4, False),
        ("param.BatchNorm.weight", 2, False),
        ("param.temperature", 0, False),
    ],
)
def test_what_decays(parameter, rank, expected):
    assert decays(parameter, rank) is expected


def clipped(values, longest):
    graph = GraphBuilder()
    gradients = {name: graph.input(name, TensorProto.FLOAT, value.shape) for name, value in values.items()}
    for name, tensor in clip_by_global_norm(graph, gradients, longest).items():
        graph.output(graph.emit("Identity", tensor, output=f"clipped.{name}"))
    return run(load(graph.build("clip")), values)


def test_a_long_gradient_is_scaled_to_the_norm_and_keeps_its_direction():
    values = {"a": np.float32([[3.0, 0.0]]), "b": np.float32([4.0])}
    outputs = clipped(values, 1.0)
    np.testing.assert_allclose(outputs["clipped.a"], [[0.6, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(outputs["clipped.b"], [0.8], rtol=1e-6)


def test_a_short_gradient_and_none_at_all_stay_as_they_are():
    values = {"a": np.float32([[0.3, 0.1]]), "b": np.float32([0.4])}
    outputs = clipped(values, 1.0)
    assert all(outputs[f"clipped.{name}"].tobytes() == value.tobytes() for name, value in values.items())
    assert clipped({"a": np.zeros(3, np.float32)}, 1.0)["clipped.a"].tolist() == [0, 0, 0]


def test_a_training_step_clips_the_whole_gradient():
    forward = small("mlp", REGRESSION)
    changes = []
    for longest in (None, 1e-3):
        optimizer = Sgd(momentum=0.0, clip_norm=longest)
        session = load(build_training_step(forward, loss_for(REGRESSION.task), optimizer))
        state = {f"state.momentum.{name}": np.zeros_like(value) for name, value in forward.initial.items()}
        scalars = {"learning_rate": np.float32(1), "step": np.float32(0)}
        outputs = run(session, {**batch(REGRESSION, 4), **scalars, **prefixed(forward), **state})
        gradients = [outputs[f"new.state.momentum.{name}"].ravel() for name in forward.parameters]
        changes.append(np.concatenate(gradients).astype(np.float64))
    assert np.linalg.norm(changes[0]) > 1e-2
    assert np.linalg.norm(changes[1]) == pytest.approx(1e-3, rel=1e-3)
    np.testing.assert_allclose(changes[1] * np.linalg.norm(changes[0]) / 1e-3, changes[0], rtol=5e-3, atol=1e-6)


def test_clipping_keeps_nan_and_turns_an_overflowing_gradient_into_no_step():
    assert np.isnan(clipped({"a": np.float32([np.nan, 1])}, 1.0)["clipped.a"]).all()
    assert clipped({"a": np.float32([1e30, 1])}, 1.0)["clipped.a"].tolist() == [0, 0]
    assert np.isnan(clipped({"a": np.float32([np.inf, 1])}, 1.0)["clipped.a"][0])


def test_the_update_is_the_same_bytes_every_time():
    first, second = (list(steps(AdamW(clip_norm=1.0))) for _ in range(2))
    assert all(a[name].tobytes() == b[name].tobytes() for a, b in zip(first, second, strict=True) for name in a)
