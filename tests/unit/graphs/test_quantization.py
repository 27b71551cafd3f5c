"""int8 models: standard operators, the same bytes twice, answers near the original's; what can't be is refused."""

import tempfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.optimization import largest_difference, optimize_offline
from shoal_core.graphs.quantization import needs_reduced_range, quantize_dynamic, quantize_static
from tests.unit.graphs.networks import NETWORK_IDS, NETWORKS, batch
from tests.unit.graphs.test_optimization import exported


def inputs(signature, samples, seed=0):
    data = batch(signature, samples)
    data.pop("target")
    return data


def static(signature, model, **changes):
    return quantize_static(model, [inputs(signature, 16), inputs(signature, 8)], **{"reduce_range": True} | changes)


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_an_int8_model_is_plain_and_answers_nearly_the_same(recipe, signature, kind):
    source = optimize_offline(exported(recipe, signature))

    def quantize():
        return static(signature, source) if kind == "static" else quantize_dynamic(source, reduce_range=True)

    quantized = quantize()
    assert quantized == quantize()
    model, original = onnx.load_from_string(quantized), onnx.load_from_string(source)
    assert {node.domain for node in model.graph.node} == {""}
    assert [item.domain for item in model.opset_import] == [""]
    assert list(model.metadata_props) == list(original.metadata_props)
    assert (model.ir_version, model.opset_import[0].version) <= (10, 22)
    assert not model.graph.value_info
    difference = largest_difference(source, quantized, inputs(signature, 16))
    assert 0 < difference < 0.2


def test_the_batch_stays_dynamic():
    recipe, signature = NETWORKS[0]
    source = exported(recipe, signature)
    for samples in (1, 3, 50):
        assert largest_difference(source, static(signature, source), inputs(signature, samples)) < 0.2


def test_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    recipe, signature = NETWORKS[0]
    static(signature, exported(recipe, signature))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_anything_to_quantise_is_refused():
    graph = GraphBuilder()
    graph.input("x", TensorProto.FLOAT, ("N", 2))
    graph.output(graph.emit("Tanh", "x", output="y"))
    model = graph.build("tanh").SerializeToString()
    with pytest.raises(BadNetwork, match="no operator that quantisation would speed up"):
        quantize_static(model, [{"x": np.ones((4, 2), np.float32)}], reduce_range=False)
    with pytest.raises(BadNetwork, match="no operator that quantisation would speed up"):
        quantize_dynamic(model, reduce_range=False)


def test_calibration_without_samples_is_refused():
    recipe, signature = NETWORKS[0]
    with pytest.raises(BadNetwork, match="can't be quantised"):
        quantize_static(exported(recipe, signature), [], reduce_range=True)


@pytest.mark.parametrize(("machine", "reduced"), [("x86_64", True), ("AMD64", True), ("aarch64", False)])
def test_x86_keeps_weights_to_seven_bits(machine, reduced):
    assert needs_reduced_range(machine) is reduced


def test_reduced_weights_keep_to_seven_bits():
    recipe, signature = NETWORKS[0]
    model = onnx.load_from_string(static(signature, exported(recipe, signature)))
    weights = [
        onnx.numpy_helper.to_array(item)
        for item in model.graph.initializer
        if item.data_type == TensorProto.INT8 and len(item.dims) > 1
    ]
    assert weights
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64
