import hashlib

import numpy as np
import onnx
import pytest

from shoal_core.errors import BadConfig, BadModel, TooLarge
from shoal_core.importing import backbones
from shoal_core.importing.backbones import prepare_backbone
from shoal_core.importing.describing import ModelDescription, read_description
from shoal_core.importing.limits import Limits
from shoal_core.importing.trial import try_model
from shoal_core.importing.verifying import VerifiedModel
from shoal_core.training.sessions import Session
from tests.support.backbones import SIDE, VOCABULARY, image_network, text_network

IMAGE = {"size": SIDE, "mean": [0.5], "std": [0.25]}
TEXT = {"vocabulary": list(VOCABULARY), "unit": "wordpiece", "length": 6, "padding": 0, "unknown": 1}


def described(**fields):
    return ModelDescription.model_validate({"backbone": True, **fields})


def prepared(data, description):
    """What importing does, without the process of its own around the trial."""
    found = try_model(data, description.sample, Limits(), description.hints)
    digest = hashlib.sha256(data).hexdigest()
    verified = VerifiedModel.model_validate({"digest": digest, "bytes": len(data), **found})
    return prepare_backbone(data, verified, description)


def features(found, **tensors):
    return Session(found.model, 1).run(tensors)["features"]


def images(count=4, channels=3):
    return np.random.default_rng(2).integers(0, 256, (count, channels, SIDE, SIDE)).astype(np.uint8)


def test_a_classifier_loses_its_last_layer_and_says_so():
    found = prepared(image_network(), described(image=IMAGE))
    assert found.chosen[1] == "features: tensor 'k'; the last layer (Gemm) in front of output 'y' is cut off"
    assert "BatchNormalization keeps the mean and variance" in found.chosen[-1]
    assert (found.fields["width"], found.fields["pooling"], found.fields["mixes_rows"]) == (10, "none", False)
    whole = onnx.load_model_from_string(image_network())
    whole.graph.output.append(onnx.helper.make_tensor_value_info("k", 1, None))
    scaled = ((images() / 255 - 0.5) / 0.25).astype(np.float32)
    expected = Session(whole.SerializeToString(), 1).run({"x": scaled})["k"]
    np.testing.assert_allclose(features(found, image=images()), expected, rtol=1e-4, atol=1e-5)
    assert b"stem.variance" not in found.model, "folded into the convolution before it"


def test_its_blocks_are_told_from_the_end():
    blocks = prepared(image_network(), described(image=IMAGE)).named("net", 3).blocks
    assert [(block.shape, block.parameters) for block in blocks] == [((6, 6, 6), 60), ((6, 6, 6), 2 * 324 + 6)]
    assert blocks[1].operators == ("Conv", "Relu", "Add")


def test_an_output_that_no_layer_stands_in_front_of_is_taken_as_it_is():
    whole = onnx.load_model_from_string(image_network())
    del whole.graph.node[-4:], whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info("i", 1, ["n", 10, 6, 6]))
    found = prepared(whole.SerializeToString(), described(image=IMAGE))
    assert "output 'i'; no last layer stands in front of it" in found.chosen[1]
    assert found.fields["pooling"] == "mean"
    flat = prepared(whole.SerializeToString(), described(image=IMAGE, backbone={"pooling": "flatten"}))
    assert flat.fields["width"] == 360
    means = features(flat, image=images()).reshape(4, 10, 36).mean(axis=2)
    np.testing.assert_allclose(features(found, image=images()), means, rtol=1e-4, atol=1e-5)


def test_features_may_be_any_tensor_and_an_unknown_one_is_refused_with_its_neighbours():
    found = prepared(image_network(), described(image=IMAGE, backbone={"features": "g"}))
    assert (found.fields["source"], found.fields["width"]) == ("g", 6)
    with pytest.raises(BadConfig, match=r"no output follows from a tensor 'stem\.men'"):
        prepared(image_network(), described(image=IMAGE, backbone={"features": "stem.men"}))


def test_an_older_operator_set_is_converted():
    found = prepared(image_network(opset=13), described(image=IMAGE))
    assert [item.version for item in onnx.load_model_from_string(found.model).opset_import if not item.domain] == [21]
    newer = prepared(image_network(), described(image=IMAGE))
    np.testing.assert_allclose(features(found, image=images()), features(newer, image=images()), rtol=1e-4, atol=1e-5)


def test_a_text_is_the_mean_of_its_tokens_without_the_padding():
    found = prepared(text_network(), described(text=TEXT))
    assert (found.fields["width"], found.fields["pooling"]) == (5, "mean")
    short = np.array([[4, 6, 8, 0, 0, 0]], np.int32)
    long = np.array([[4, 6, 8, 4, 6, 8]], np.int32)
    np.testing.assert_allclose(features(found, tokens=short), features(found, tokens=long), rtol=1e-5)
    (block,) = found.named("encoder", 1).blocks
    assert (block.shape, block.kept, block.parameters) == ((6, 5), ("tokens",), 30)


def test_what_cannot_be_a_backbone_is_refused():
    with pytest.raises(BadConfig, match="nothing says how"):
        prepared(image_network(), described())
    with pytest.raises(BadConfig, match="takes 2 samples a call, always"):
        prepared(image_network(batch=2), described(image=IMAGE))
    with pytest.raises(BadConfig, match="pooling: first means nothing for features of shape"):
        prepared(image_network(), described(image=IMAGE, backbone={"features": "g", "pooling": "first"}))
    whole = onnx.load_model_from_string(image_network())
    whole.graph.node.append(onnx.helper.make_node("Cast", ["k"], ["whole"], to=onnx.TensorProto.INT32))
    whole.graph.node.append(onnx.helper.make_node("Cast", ["whole"], ["z"], to=onnx.TensorProto.FLOAT))
    whole.graph.node.append(onnx.helper.make_node("Exp", ["k"], ["unused"]))
    whole.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 10]))
    with pytest.raises(BadModel, match="Tensor 'whole' is int32"):
        prepared(whole.SerializeToString(), described(image=IMAGE, backbone={"features": "whole"}))
    with pytest.raises(BadConfig, match="no output follows from a tensor 'unused'"):
        prepared(whole.SerializeToString(), described(image=IMAGE, backbone={"features": "unused"}))


def test_a_large_one_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(backbones, "MAX_BACKBONE_BYTES", 100)
    with pytest.raises(TooLarge, match="100 are allowed"):
        prepared(image_network(), described(image=IMAGE))


def test_the_description_takes_a_flag_or_wishes_and_names_unknown_fields():
    assert read_description(b"backbone: true", lambda name: b"").backbone_wishes.pooling is None
    assert read_description(b"backbone: {pooling: mean}", lambda name: b"").backbone_wishes.pooling == "mean"
    with pytest.raises(BadConfig, match=r"unknown field 'backbone.poling'.*'pooling'"):
        read_description(b"backbone: {poling: mean}", lambda name: b"")
