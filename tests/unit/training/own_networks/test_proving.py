"""A fitted network on a real batch: gradients beside differences of the loss, and networks that can't learn."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from shoal_core.errors import BadNetwork
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.rules import registry
from shoal_core.training.networks.proving import Proof, prove
from tests.unit.graphs.networks import batch
from tests.unit.training.own_networks import made
from tests.unit.training.own_networks.made import constant, node
from tests.unit.training.own_networks.test_adopting import IMAGES, ROWS, TEXTS, WINDOWS, adopt


def proof(data: bytes, signature=ROWS, seconds: float = 30.0) -> Proof:
    forward = adopt(data, signature).forward
    return prove(forward, loss_for(signature.task, None, {}), batch(signature, 12, seed=3), seconds)


@pytest.mark.parametrize(
    ("data", "signature"),
    [
        (made.convolutional(), IMAGES),
        (made.keras_like(), IMAGES),
        (made.dense(), ROWS),
        (made.bag_of_words(), TEXTS),
        (made.recurrent(), WINDOWS),
    ],
    ids=["torch", "keras", "rows", "texts", "windows"],
)
def test_a_right_network_passes(data, signature):
    assert all("gradient of 0" in warning for warning in proof(data, signature).warnings)


def test_a_network_whose_loss_nothing_moves_is_told():
    dead = made.with_node(
        [constant("low", np.float32(-1e6)), node("Add", ["h", "low"], "d"), node("Relu", ["d"], "t")],
        {"last.weight": np.zeros((3, 6), np.float32)},
    )
    forward = adopt(dead, ROWS, trainable="first.*").forward
    with pytest.raises(BadNetwork, match="every gradient is 0") as caught:
        prove(forward, loss_for(ROWS.task, None, {}), batch(ROWS, 12), 30)
    assert "ReLUs that never open" in caught.value.fix
    found = prove(adopt(dead, ROWS).forward, loss_for(ROWS.task, None, {}), batch(ROWS, 12), 30)
    assert re.search(
        r"of 4 tensors have a gradient of 0 on real samples: 'first.weight', 'first.bias'", found.warnings[0]
    )


def test_a_network_that_hardly_learns_is_told():
    tiny = [constant("little", np.float32(1e-12)), node("Mul", ["h", "little"], "t")]
    forward = adopt(made.with_node(tiny), ROWS, trainable="first.*").forward
    (warning,) = prove(forward, loss_for(ROWS.task, None, {}), batch(ROWS, 12), 30).warnings
    assert "hardly learns: 30 steps on one batch" in warning
    assert prove(forward, loss_for(ROWS.task, None, {}), batch(ROWS, 12), -1).warnings == ()  # no time left to tell


def test_a_loss_that_isnt_finite_is_refused():
    extra = [constant("zero", np.float32(0)), node("Mul", ["h", "zero"], "z"), node("Log", ["z"], "t")]
    with pytest.raises(BadNetwork, match="or its gradient isn't finite"):
        proof(made.with_node(extra))


def test_probabilities_by_another_way_than_one_softmax_are_refused():
    nodes = [
        node("Gemm", ["x", "w"], "z"),
        node("Exp", ["z"], "e"),
        constant("axis", [1]),
        node("ReduceSum", ["e", "axis"], "s"),
        node("Div", ["e", "s"], "y"),
    ]
    data = made.network(nodes, {"w": made.drawn(4, 3)}, {"x": (made.FLOAT, ["N", 4])}, {"y": ["N", 3]})
    with pytest.raises(BadNetwork, match="answers probabilities"):
        proof(data)


def test_rows_that_are_not_one_per_sample_are_refused():
    extra = [constant("sizes", [-1, 6]), constant("twice", [2, 1]), node("Tile", ["h", "twice"], "u"),
             node("Reshape", ["u", "sizes"], "t")]  # fmt: skip
    with pytest.raises(BadNetwork, match="answers 12 samples with 24 rows"):
        proof(made.with_node(extra))


def test_a_wrong_gradient_is_found(monkeypatch):
    forward = adopt(made.dense(), ROWS).forward
    right = registry.RULES["Relu"]

    def doubled(step):
        (gradient,) = right(step)
        return [lambda: step.emit("Mul", gradient(), step.graph.scalar(2, step.x))]

    monkeypatch.setattr("shoal_core.graphs.autodiff.RULES", {**registry.RULES, "Relu": doubled})
    with pytest.raises(BadNetwork, match="gradient isn't that of its loss"):
        prove(forward, loss_for(ROWS.task, None, {}), batch(ROWS, 12), 30)


def test_what_the_runtime_refuses_is_told():
    forward = adopt(made.dense(), ROWS).forward
    fed = batch(ROWS, 12)
    with pytest.raises(BadNetwork, match="ONNX Runtime can't run the network on real samples"):
        prove(forward, loss_for(ROWS.task, None, {}), {**fed, "numbers": fed["numbers"][:, :2]}, 30)
    broken = replace(forward, initial={**forward.initial, "first.weight": np.full((6, 4), np.nan, np.float32)})
    with pytest.raises(BadNetwork, match="isn't finite"):
        prove(broken, loss_for(ROWS.task, None, {}), fed, 30)
