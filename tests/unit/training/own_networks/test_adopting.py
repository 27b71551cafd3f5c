"""A foreign network becomes a forward graph: what is trained, what is turned around, and what is refused by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shoal_core.errors import BadConfig, BadNetwork, ShoalError, TooLarge, UnsupportedOperator
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Sgd
from shoal_core.graphs.rules.registry import supported_operators
from shoal_core.graphs.signature import (
    CategoriesInput,
    Classification,
    ImageInput,
    Multilabel,
    NetworkSignature,
    NumbersInput,
    Regression,
    SequenceInput,
    TokenColumn,
    TokensInput,
)
from shoal_core.graphs.training_step import build_training_step, forward_with_parameters
from shoal_core.training.networks.adopting import Adopted, adopt_network
from shoal_core.training.networks.config import LIMITS, MAX_NETWORK_BYTES, NetworkConfig
from shoal_core.training.networks.inputs import given_inputs
from shoal_core.training.networks.work import seconds_per_sample
from tests.unit.graphs.networks import batch, load, prefixed, run
from tests.unit.training.own_networks import made
from tests.unit.training.own_networks.made import constant, node

CLASSES = Classification(classes=3)
IMAGES = NetworkSignature(image=ImageInput(shape=(1, 8, 8), mean=(100.0,), std=(60.0,)), task=CLASSES)
ROWS = NetworkSignature(numbers=NumbersInput(mean=(1.0,) * 4, std=(2.0,) * 4, missing=(False,) * 4), task=CLASSES)
TABLE = NetworkSignature(
    numbers=NumbersInput(mean=(1.0, -2.0), std=(2.0, 0.5), missing=(True, False)),
    categories=CategoriesInput(cardinalities=(9, 3)),
    task=CLASSES,
)
TEXTS = NetworkSignature(tokens=TokensInput(columns=(TokenColumn(length=12, cardinality=20),)), task=CLASSES)
WINDOWS = NetworkSignature(
    sequence=SequenceInput(steps=12, mean=(1.0, 2.0), std=(2.0, 1.0), missing=(False, False)), task=CLASSES
)
NUMBERS = ROWS.model_copy(update={"task": Regression(mean=5.0, std=2.0)})


def adopt(data: bytes, signature: NetworkSignature, **settings: str) -> Adopted:
    return adopt_network(data, signature, NetworkConfig(sha256="0" * 64, **settings))


def answers(forward: ForwardGraph, tensors: dict[str, np.ndarray]) -> np.ndarray:
    return run(load(forward_with_parameters(forward)), {**tensors, **prefixed(forward)})[forward.output]


def step(forward: ForwardGraph, signature: NetworkSignature, size: int = 6, **noise: np.ndarray) -> dict[str, Any]:
    """The outputs of one step of plain descent."""
    optimizer = Sgd(momentum=0.0)
    session = load(build_training_step(forward, loss_for(signature.task), optimizer))
    feeds = prefixed(forward) | {
        f"state.{slot}.{name}": np.zeros_like(value)
        for slot in optimizer.slots
        for name, value in forward.initial.items()
    }
    scalars = {"learning_rate": np.float32(0.01), "step": np.float32(0)}
    return run(session, {**batch(signature, size, seed=1), **feeds, **scalars, **noise})


@pytest.mark.parametrize(
    ("data", "signature"),
    [
        (made.convolutional(), IMAGES),
        (made.keras_like(), IMAGES),
        (made.dense(), ROWS),
        (made.dense(15), TABLE),
        (made.by_parts(), TABLE),
        (made.bag_of_words(), TEXTS),
        (made.recurrent(), WINDOWS),
        (made.dense(outputs=1), NUMBERS),
        (made.dense(outputs=4), ROWS.model_copy(update={"task": Multilabel(classes=4)})),
    ],
    ids=["torch", "keras", "rows", "table", "parts", "texts", "windows", "regression", "labels"],
)
def test_a_network_takes_the_datasets_tensors_and_a_step_lowers_its_loss(data, signature):
    adopted = adopt(data, signature)
    forward = adopted.forward
    noise = {f"noise.{name}": np.ones((6, 4, 4, 4), np.float32) for name in forward.dropouts}
    first = step(forward, signature, **noise)
    renewed = {name: first[f"new.param.{name}"] for name in forward.parameters}
    buffers = {name: first[f"new.buffer.{name}"] for name in forward.buffers}
    still = [name for name in forward.parameters if not np.any(renewed[name] != forward.initial[name])]
    assert set(still) <= ({"conv.bias"} if forward.buffers else set())  # the batch's mean takes it away again
    second = step(
        ForwardGraph(forward.model, forward.parameters, renewed, buffers, forward.dropouts), signature, **noise
    )
    assert second["loss"] < first["loss"]
    rows = answers(forward, {name: array for name, array in batch(signature, 5, seed=2).items() if name != "target"})
    assert rows.shape == (5, signature.outputs)
    assert seconds_per_sample(forward) > 0
    again = adopt(data, signature)
    assert again.forward.model.SerializeToString(deterministic=True) == forward.model.SerializeToString(
        deterministic=True
    )
    assert given_inputs(signature)


def test_batch_normalization_and_dropout_train_again():
    adopted = adopt(made.convolutional(), IMAGES)
    forward = adopted.forward
    assert forward.parameters == ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight", "head.bias")
    assert set(forward.buffers) == {"norm.running_mean", "norm.running_var"}
    assert len(forward.dropouts) == 1
    assert "BatchNormalization trains on the batch's own statistics (1)" in " ".join(adopted.notes)
    shape = (6, 4, 4, 4)
    whole = step(forward, IMAGES, **{f"noise.{forward.dropouts[0]}": np.ones(shape, np.float32)})
    none = step(forward, IMAGES, **{f"noise.{forward.dropouts[0]}": np.zeros(shape, np.float32)})
    assert np.any(whole["new.buffer.norm.running_mean"] != 0)
    assert np.any(whole["new.param.conv.weight"] != forward.initial["conv.weight"])
    np.testing.assert_array_equal(none["new.param.conv.weight"], forward.initial["conv.weight"])  # nothing got through


def test_what_dropout_leaves_is_scaled_up():
    extra = [constant("half", np.float32(0.5)), node("Dropout", ["h", "half"], "t")]
    dropping = adopt(made.with_node(extra), ROWS).forward
    doubled = made.with_node([node("Identity", ["h"], "t")], {"last.weight": 2 * made.drawn(3, 6, seed=2)})
    kept = step(dropping, ROWS, **{f"noise.{dropping.dropouts[0]}": np.ones((6, 6), np.float32)})
    assert kept["loss"] == pytest.approx(float(step(adopt(doubled, ROWS).forward, ROWS)["loss"]), rel=1e-6)


def test_batch_normalization_exported_in_training_mode_is_read_as_any_other():
    statistics = {"scale": 1.0, "shift": 0.0, "mean": 0.5, "var": 2.0}
    weights = {name: np.full(6, value, np.float32) for name, value in statistics.items()}
    extra = [node("BatchNormalization", ["h", *weights], ["t", "m", "v"], training_mode=1, momentum=0.8)]
    adopted = adopt(made.with_node(extra, weights), ROWS)
    assert set(adopted.forward.buffers) == {"mean", "var"}
    outputs = step(adopted.forward, ROWS)
    assert np.all(outputs["new.buffer.mean"] != np.float32(0.5))
    tensors = {name: array for name, array in batch(ROWS, 1).items() if name != "target"}
    assert np.isfinite(answers(adopted.forward, tensors)).all()  # by the running statistics


def test_shapes_that_are_worked_out_from_the_batch_are_followed():
    """As PyTorch's exporter writes the end of an LSTM: [N, 2, 3] to [N, 2 * 3], by its own shape."""
    extra = [
        constant("apart", [-1, 2, 3]), node("Reshape", ["h", "apart"], "three"), node("Shape", ["three"], "s", start=0),
        *(constant(f"i{place}", [place]) for place in range(4)),
        node("Slice", ["s", "i0", "i1"], "n"), node("Slice", ["s", "i1", "i2"], "a"),
        node("Slice", ["s", "i2", "i3"], "b"), constant("minus", [-1]),
        node("Mul", ["a", "b"], "ab"), node("Reshape", ["ab", "minus"], "width"),
        node("Concat", ["n", "width"], "sizes", axis=0), node("Mul", ["n", "a"], "na"),
        node("Concat", ["na", "b"], "rows", axis=0),
        node("Reshape", ["three", "rows"], "flat"), node("Reshape", ["flat", "sizes"], "u"),
        node("Shape", ["u"], "su", start=0, end=1), constant("six", [6]), node("Concat", ["su", "six"], "full", axis=0),
        node("Expand", ["row", "full"], "wide"), node("Add", ["u", "wide"], "t"),
    ]  # fmt: skip
    forward = adopt(made.with_node(extra, {"row": made.drawn(1, 6)}), ROWS).forward
    shapes = {value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
              for value in forward.model.graph.value_info}  # fmt: skip
    assert shapes["own.flat"] == ["N*2", 3]  # b * t rows, as a layer over all steps has them
    assert shapes["own.u"] == ["N", 6] and shapes["own.wide"] == ["N", 6] and shapes["own.three"] == ["N", 2, 3]
    assert step(forward, ROWS)["loss"] > 0


def test_batch_normalization_may_keep_the_files_statistics():
    adopted = adopt(made.convolutional(), IMAGES, batch_norm="frozen")
    assert not adopted.forward.buffers
    assert any("BatchNormalization keeps the statistics of the file (1): as asked" in note for note in adopted.notes)
    assert "norm.weight" in adopted.forward.parameters


def test_tensors_that_an_exporter_merged_are_trained_apart():
    adopted = adopt(made.convolutional(merged=True), IMAGES)
    forward = adopted.forward
    # Scale and variance were one tensor, bias and mean another.
    assert {"ones", "zeros"} < set(forward.parameters)
    assert len(forward.buffers) == 2 and not set(forward.buffers) & set(forward.parameters)
    extra = [
        node("LayerNormalization", ["h", "ones", "zeros"], "n", axis=-1),
        node("Relu", ["n"], "r"),
        node("LayerNormalization", ["r", "ones", "zeros"], "t", axis=-1),
    ]
    weights = {"ones": np.ones(6, np.float32), "zeros": np.zeros(6, np.float32)}
    adopted = adopt(made.with_node(extra, weights), ROWS)
    assert {"ones", "ones.2", "zeros", "zeros.2"} < set(adopted.forward.parameters)
    assert any("'ones' was merged of 2 tensors" in note for note in adopted.notes)
    tied = adopt(made.with_node(extra, weights), ROWS, trainable="*")
    assert "ones.2" not in tied.forward.parameters and "ones" in tied.forward.parameters


def test_a_tied_tensor_is_one_where_it_is_named():
    extra = [node("MatMul", ["h", "square"], "a"), node("Relu", ["a"], "b"), node("MatMul", ["b", "square"], "t")]
    weights = {"square": made.drawn(6, 6)}
    with pytest.raises(BadNetwork, match=r"'square' is read by 2 nodes \('node_a', 'node_t'\)") as caught:
        adopt(made.with_node(extra, weights), ROWS)
    assert "optimize=False" in caught.value.fix and "network.trainable" in caught.value.fix
    for adopted in (
        adopt(made.with_node(extra, weights), ROWS, trainable="*"),
        adopt(made.with_node(extra, weights, trainable=["square", "first.weight"]), ROWS),
    ):
        assert adopted.forward.parameters.count("square") == 1
        assert "as they were named" in " ".join(adopted.notes)


def test_only_what_is_named_is_trained():
    adopted = adopt(made.convolutional(), IMAGES, trainable="head.*")
    assert adopted.forward.parameters == ("head.weight", "head.bias")
    assert not adopted.forward.buffers  # nothing of the BatchNormalization is trained
    assert any("nothing of them is trained" in note for note in adopted.notes)
    with pytest.raises(BadConfig, match="no tensor is called 'tail") as caught:
        adopt(made.convolutional(), IMAGES, trainable="head.*, tail.*")
    assert "conv.weight" in caught.value.fix


def test_settings_scalars_and_statistics_of_decomposed_normalisation_stay():
    extra = [
        node("Sub", ["h", "bn/moving_mean:0"], "c"),
        node("Mul", ["c", "half"], "d"),
        node("Clip", ["d", "low", "high"], "t"),
    ]
    weights = {
        "bn/moving_mean:0": made.drawn(6),
        "half": np.float32(0.5),
        "low": np.float32(-6),
        "high": np.float32(6),
    }
    adopted = adopt(made.with_node(extra, weights), ROWS)
    assert set(adopted.forward.parameters) == {"first.weight", "first.bias", "last.weight", "last.bias"}
    assert any("'bn/moving_mean:0' are statistics" in note for note in adopted.notes)


def test_an_activation_at_the_end_is_left_out_and_told():
    for end, note in (("Softmax", "answers by Softmax"), ("LogSoftmax", "answers by Softmax"), ("Sigmoid", "Softmax")):
        plain, ended = adopt(made.dense(), ROWS), adopt(made.dense(end=end), ROWS)
        tensors = {name: array for name, array in batch(ROWS, 5).items() if name != "target"}
        np.testing.assert_array_equal(answers(plain.forward, tensors), answers(ended.forward, tensors))
        assert any(end in told and note in told for told in ended.notes)
    labels = ROWS.model_copy(update={"task": Multilabel(classes=3)})
    assert any("answers by Sigmoid" in told for told in adopt(made.dense(end="Sigmoid"), labels).notes)


def test_one_number_is_enough_for_two_classes():
    two = ROWS.model_copy(update={"task": Classification(classes=2)})
    adopted = adopt(made.dense(outputs=1, end="Sigmoid"), two)
    tensors = {name: array for name, array in batch(two, 5).items() if name != "target"}
    rows = answers(adopted.forward, tensors)
    assert rows.shape == (5, 2) and not rows[:, 0].any() and rows[:, 1].any()
    assert any("second class's" in note for note in adopted.notes)


def test_images_may_be_read_with_channels_last_or_in_a_row():
    notes = " ".join(adopt(made.keras_like(), IMAGES).notes)
    assert "channels last" in notes and "Softmax" in notes and "15 was converted" in notes
    assert any("in a row" in note for note in adopt(made.dense(64), IMAGES).notes)


def test_what_a_network_leaves_out_stays_an_input():
    adopted = adopt(made.dense(3, name="numbers"), TABLE.model_copy(update={"categories": None}))
    assert adopted.forward.data_inputs == ("numbers",)
    data = made.network(
        [node("Gemm", ["numbers", "w"], "a"), node("Gather", ["table", "tokens"], "e"), constant("axis", [1]),
         node("ReduceMean", ["e", "axis"], "m", keepdims=0), node("Add", ["a", "m"], "y")],
        {"w": made.drawn(3, 3), "table": made.drawn(20, 3)},
        {"numbers": (made.FLOAT, ["N", 3]), "tokens": (made.INT64, ["N", 12])},
        {"y": ["N", 3]},
    )  # fmt: skip
    mixed = TABLE.model_copy(update={"tokens": TEXTS.tokens})
    adopted = adopt(data, mixed)
    assert set(adopted.forward.data_inputs) == {"numbers", "categories", "tokens"}
    assert any("learns nothing from the dataset's categories" in note for note in adopted.notes)


def old_opset() -> bytes:
    model = onnx.load_from_string(made.dense())
    model.opset_import[0].version = 11
    return bytes(model.SerializeToString())


def test_an_old_operator_set_is_converted():
    assert any("Operator set 11 was converted to 21" in note for note in adopt(old_opset(), ROWS).notes)


def loop() -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 6]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, ["N", 6]),
        ],
    )
    extra = [constant("times", np.int64(3)), node("Loop", ["times", "", "h"], "t", body=body)]
    return made.with_node(extra)


def custom() -> bytes:
    extra = [helper.make_node("Fancy", ["h"], ["t"], name="fancy", domain="com.example")]
    return made.with_node(extra, opsets=[helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)])


def fixed_batch() -> bytes:
    extra = [constant("sizes", [1, 6]), node("Reshape", ["h", "sizes"], "t")]
    return made.with_node(extra)


def cut() -> bytes:
    nodes = [
        node("Gemm", ["x", "first.weight", "first.bias"], "h", transB=1),
        node("ArgMax", ["h"], "i", axis=1, keepdims=0),
        constant("depth", np.int64(3)),
        constant("values", np.array([0, 1], np.float32)),
        node("OneHot", ["i", "depth", "values"], "y", axis=-1),
    ]
    weights = {"first.weight": made.drawn(3, 4), "first.bias": made.drawn(3, seed=1)}
    return made.network(nodes, weights, {"x": (made.FLOAT, ["N", 4])}, {"y": ["N", 3]})


def no_weights() -> bytes:
    nodes = [constant("w", made.drawn(4, 3)), node("MatMul", ["x", "w"], "y")]
    return made.network(nodes, {}, {"x": (made.FLOAT, ["N", 4])}, {"y": ["N", 3]})


def two_outputs() -> bytes:
    nodes = [node("MatMul", ["x", "w"], "y"), node("MatMul", ["x", "v"], "z")]
    weights = {"w": made.drawn(4, 3), "v": made.drawn(4, 3, seed=1)}
    return made.network(nodes, weights, {"x": (made.FLOAT, ["N", 4])}, {"y": ["N", 3], "z": ["N", 3]})


@pytest.mark.parametrize(
    ("data", "signature", "kind", "named", "fix"),
    [
        (lambda: made.with_node([node("Hardmax", ["h"], "t")]), ROWS, UnsupportedOperator,
         r"no gradient for Hardmax \(node 'node_t'\)", ", ".join(supported_operators())),
        (loop, ROWS, UnsupportedOperator, r"Operator Loop \(node 'node_t'\) is control flow", "Use only"),
        (custom, ROWS, BadNetwork, "Operator 'Fancy' .* of domain 'com.example'", "standard operators"),
        (lambda: made.with_node([node("RandomNormalLike", ["h"], "r"), node("Add", ["h", "r"], "t")]), ROWS,
         UnsupportedOperator, "RandomNormalLike .* draws random numbers", "Use only"),
        (lambda: made.convolutional(side=16), IMAGES, BadNetwork,
         r"'x' of the network takes samples of shape \[1, 16, 16\]; this dataset's are image FP32 \[N, 1, 8, 8\]",
         "image_size"),
        (lambda: made.convolutional(channels=3), IMAGES, BadNetwork, r"\[3, 8, 8\]", "image.color"),
        (lambda: made.dense(5), ROWS, BadNetwork, r"shape \[5\]; this dataset's are rows FP32 \[N, 4\]", "Build it"),
        (lambda: made.dense(15), TABLE.model_copy(update={"tokens": TEXTS.tokens}), BadNetwork,
         "1 inputs, of which 'x' is none of this dataset's", "tokens or numbers or categories or mask"),
        (lambda: made.dense(outputs=7), ROWS, BadNetwork, "answers 7 numbers .* the dataset has 3 classes", "3"),
        (lambda: made.dense(outputs=2), NUMBERS, BadNetwork, "answers 2 numbers .* a regression has one", "one output"),
        (lambda: made.dense(outputs=1, end="Sigmoid"), NUMBERS, BadNetwork, "ends in Sigmoid", "without the Sigmoid"),
        (fixed_batch, ROWS, BadNetwork, r"answers \[1, 3\] whatever the batch", "free batch"),
        (cut, ROWS, BadNetwork, "No gradient leads .*'first.weight', 'first.bias'.* can't learn", "ArgMax"),
        (no_weights, ROWS, BadNetwork, "holds nothing to train", "float32"),
        (two_outputs, ROWS, BadNetwork, r"has 2 outputs \(y, z\), and 2 of them fit", "network.output=NAME"),
        (lambda: b"not onnx at all", ROWS, BadNetwork, "can't be read as ONNX", "shoal convert"),
        (lambda: b"\x08" * (MAX_NETWORK_BYTES + 1), ROWS, TooLarge, "134,217,729 bytes; 134,217,728", "smaller"),
        (lambda: made.dense(opset=23), ROWS, BadNetwork, "operator set ai.onnx 23", "opset 22"),
    ],
    ids=["operator", "loop", "domain", "random", "size", "channels", "width", "mixed", "classes", "numbers", "bounded",
         "batch", "cut", "weightless", "outputs", "bytes", "large", "new"],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_by_name_before_anything_runs(data, signature, kind, named, fix):
    with pytest.raises(ShoalError) as caught:
        adopt(data(), signature)
    assert type(caught.value) is kind
    assert re.search(named, caught.value.reason), caught.value.reason
    assert fix in caught.value.fix


def test_a_name_that_is_no_text_is_refused():
    data = made.dense().replace(b"first.weight", b"first.weigh\xff")
    with pytest.raises(BadNetwork, match="A name in the network isn't UTF-8 text"):
        adopt(data, ROWS)


def test_an_output_may_be_named():
    assert adopt(two_outputs(), ROWS, output="z").forward.parameters == ("v",)
    with pytest.raises(BadConfig, match="no output 'q'"):
        adopt(two_outputs(), ROWS, output="q")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "network.sha256: Field required"),
        ({"sha256": "zz"}, "network.sha256"),
        ({"sha256": "0" * 64, "batch_norm": "off"}, "network.batch_norm"),
        ({"sha256": "0" * 64, "hidden": [1]}, "network.hidden"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, named):
    with pytest.raises(BadConfig, match=named) as caught:
        NetworkConfig.of(values)
    assert "sha256, trainable, output, batch_norm" in caught.value.fix


def test_the_trials_limits_leave_time_for_an_answer_over_http():
    assert LIMITS.wall_seconds <= 22 and LIMITS.model_bytes == MAX_NETWORK_BYTES


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The same file with one thing changed: an operator, an operand, an attribute, a size, or a bit."""
    model = onnx.load_from_string(data)
    graph = model.graph
    node = graph.node[random.integers(len(graph.node))]
    kind = random.integers(6)
    if kind == 0:
        node.op_type = str(random.choice(["Relu", "Conv", "Gather", "Reshape", "Concat", "Expand", "Split", "TopK"]))
    elif kind == 1 and node.input:
        every = [name for other in graph.node for name in other.input]
        node.input[random.integers(len(node.input))] = every[random.integers(len(every))]
    elif kind == 2 and node.attribute:
        del node.attribute[random.integers(len(node.attribute))]
    elif kind == 3:
        graph.node.remove(node)
    elif kind == 4:
        tensor = graph.initializer[random.integers(len(graph.initializer))]
        if tensor.dims:
            tensor.dims[random.integers(len(tensor.dims))] = int(random.choice([0, 1, 5, 100]))
    else:
        flipped = bytearray(data)
        flipped[random.integers(len(flipped))] ^= 1 << int(random.integers(8))
        return bytes(flipped)
    return bytes(model.SerializeToString())


def test_a_damaged_network_is_fitted_or_refused_and_nothing_else():
    random = np.random.default_rng(5)
    networks = [(made.convolutional(), IMAGES), (made.keras_like(), IMAGES), (made.recurrent(), WINDOWS)]
    fitted = refused = 0
    for number in range(150):
        data, signature = networks[number % len(networks)]
        try:
            adopt(damaged(data, random), signature)
            fitted += 1
        except ShoalError as error:
            refused += 1
            assert error.reason
    assert fitted > 10 and refused > 50
