import numpy as np
import onnx
import pytest

from shoal_core.data.spec import ImageInput
from shoal_core.errors import BadConfig, BadNetwork
from shoal_core.graphs.forward import PARAMETER
from shoal_core.graphs.grafting import block_of, frozen_part, joined, tuned_part
from shoal_core.graphs.recipes import build_transfer
from shoal_core.graphs.signature import Classification, FeaturesInput, NetworkSignature
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.training.sessions import Session
from tests.support.backbones import SIDE, bring, image_network
from tests.support.stores import MemoryStore

OWN = ImageInput(height=SIDE, width=SIDE, channels=3)


@pytest.fixture(scope="module")
def brought():
    store = MemoryStore()
    backbone = bring(store, "net", image_network(), {"image": {"size": SIDE, "mean": [0.5], "std": [0.25]}})
    return backbone, onnx.load_model_from_string(store.read("models/net/1/model.onnx"))


@pytest.fixture(scope="module")
def grey_network():
    store = MemoryStore()
    backbone = bring(store, "net", image_network(channels=1), {"image": {"size": SIDE, "color": "grey"}})
    return backbone, onnx.load_model_from_string(store.read("models/net/1/model.onnx"))


def images(height=SIDE, width=SIDE, channels=3, count=3):
    return np.random.default_rng(4).integers(0, 256, (count, channels, height, width)).astype(np.uint8)


def run(model, **feeds):
    return Session(model.SerializeToString(), 1).run(feeds)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_frozen_and_tuned_parts_joined_answer_as_the_backbone(brought, blocks):
    backbone, graph = brought
    frozen = frozen_part(graph, backbone, OWN, blocks)
    expected = run(graph, image=images())["features"]
    features = run(frozen, image=images())["features"]
    if not blocks:
        assert np.array_equal(features, expected)
        return
    assert features.shape[1:] == block_of(backbone, blocks).shape
    tuned = tuned_part(graph, backbone, blocks)
    values = {PARAMETER + name: value for name, value in tuned.initial.items()}
    vector = run(tuned.model, features=features, **values)["vector"]
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    assert all(name.startswith("model.") for name in tuned.parameters)


@pytest.mark.parametrize("blocks", [0, 2])
def test_the_head_and_the_backbone_become_one_network(brought, blocks):
    backbone, graph = brought
    shape = block_of(backbone, blocks).shape if blocks else (backbone.width,)
    signature = NetworkSignature(features=FeaturesInput(shape=shape), task=Classification(classes=3))
    tuned = tuned_part(graph, backbone, blocks) if blocks else None
    forward = build_transfer({"hidden": [8], "dropout": 0.5}, signature, 1, tuned, 20)
    assert len(forward.dropouts) == 2
    head, frozen = forward_with_parameters(forward), frozen_part(graph, backbone, OWN, blocks)
    values = {PARAMETER + name: value for name, value in forward.initial.items()}
    whole = run(joined(frozen, head), image=images(), **values)["logits"]
    parts = run(head, features=run(frozen, image=images())["features"], **values)["logits"]
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)


def test_images_of_another_size_are_resized_inside_the_graph(brought):
    backbone, graph = brought
    larger = ImageInput(height=2 * SIDE, width=2 * SIDE, channels=3)
    flat = np.repeat(np.repeat(images(), 2, axis=2), 2, axis=3)
    grey = np.full((1, 3, 2 * SIDE, 2 * SIDE), 77, np.uint8)
    frozen = frozen_part(graph, backbone, larger, 0)
    plain = run(graph, image=np.full((1, 3, SIDE, SIDE), 77, np.uint8))["features"]
    np.testing.assert_allclose(run(frozen, image=grey)["features"], plain, rtol=1e-5)
    near = run(frozen, image=flat)["features"] - run(graph, image=images())["features"]
    assert np.abs(near).max() < 0.5 * np.abs(plain).max()


def test_grey_becomes_colour_and_colour_grey(brought, grey_network):
    backbone, graph = brought
    grey = ImageInput(height=SIDE, width=SIDE, channels=1)
    pixels = images(channels=1)
    answer = run(frozen_part(graph, backbone, grey, 0), image=pixels)["features"]
    np.testing.assert_allclose(answer, run(graph, image=np.repeat(pixels, 3, axis=1))["features"], rtol=1e-5)
    backbone, graph = grey_network
    answer = run(frozen_part(graph, backbone, OWN, 0), image=np.repeat(pixels, 3, axis=1))["features"]
    np.testing.assert_allclose(answer, run(graph, image=pixels)["features"], rtol=1e-4, atol=1e-5)


def test_more_blocks_than_there_are_and_parts_of_other_operator_sets_are_refused(brought):
    backbone, graph = brought
    with pytest.raises(BadConfig, match=r"3 blocks; 'net' has 2 that can be trained. Fix: Use 1 to 2"):
        block_of(backbone, 3)
    signature = NetworkSignature(features=FeaturesInput(shape=(10,)), task=Classification(classes=3))
    other = forward_with_parameters(build_transfer({}, signature, 1, None, 21))
    with pytest.raises(BadNetwork, match="operator set 20, its head 21"):
        joined(frozen_part(graph, backbone, OWN, 0), other)


def test_a_wrong_setting_of_the_head_is_named():
    signature = NetworkSignature(features=FeaturesInput(shape=(10,)), task=Classification(classes=3))
    with pytest.raises(BadConfig, match="'dropout' of the network of recipe 'transfer' is wrong"):
        build_transfer({"dropout": 1}, signature, 1, None, 21)
