from itertools import pairwise
from typing import get_args

import numpy as np
import onnx
import pytest

from shoal_core.data.config_types import Recipe
from shoal_core.errors import BadConfig
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes import build_forward, default_config, recipe_names
from shoal_core.graphs.signature import (
    CategoriesInput,
    Classification,
    ImageInput,
    NetworkSignature,
    Regression,
    TokensInput,
)
from shoal_core.graphs.training_step import forward_with_parameters
from tests.unit.graphs.networks import (
    EVENTS,
    IMAGES,
    MIXED,
    NETWORK_IDS,
    NETWORKS,
    REGRESSION,
    SEQUENCES,
    SERIES,
    SMALL,
    TABLE,
    TEXTS,
    batch,
    load,
    prefixed,
    run,
    small,
)


def image_signature(channels, height, width):
    image = ImageInput(shape=(channels, height, width), mean=(0.0,) * channels, std=(1.0,) * channels)
    return NetworkSignature(image=image, task=Classification(classes=10))


def answer(forward: ForwardGraph, data):
    session = load(forward_with_parameters(forward))
    return run(session, {**data, **prefixed(forward)})[forward.output]


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_any_batch_size_runs(recipe, signature, samples):
    result = answer(small(recipe, signature), batch(signature, samples))
    assert result.shape == (samples, signature.outputs)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_seed_decides_the_bytes(recipe, signature):
    first, again, other = (small(recipe, signature, seed) for seed in (1, 1, 2))
    assert first.model.SerializeToString(deterministic=True) == again.model.SerializeToString(deterministic=True)
    assert all(np.array_equal(first.initial[name], again.initial[name]) for name in first.parameters)
    assert all(np.array_equal(first.buffers[name], again.buffers[name]) for name in first.buffers)
    assert any(not np.array_equal(first.initial[name], other.initial[name]) for name in first.parameters)


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_graph_keeps_to_portable_onnx(recipe, signature):
    model = forward_with_parameters(small(recipe, signature))
    assert model.ir_version <= 10
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 21)]
    assert not model.graph.value_info
    batched = [
        value for value in (*model.graph.input, *model.graph.output) if not value.name.startswith(("param.", "buffer."))
    ]
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in batched} == {"N"}
    onnx.checker.check_model(model, full_check=True)


def test_table_equals_numpy():
    """A linear model over the features, computed by hand."""
    forward = build_forward("mlp", {"hidden": []}, TABLE, seed=0)
    data = batch(TABLE, 4)
    scaled = (data["numbers"] - np.float32([1, -2, 5])) / np.float32([2, 0.5, 1])
    missing = np.isnan(data["numbers"])
    codes = np.where((data["categories"] >= 0) & (data["categories"] < [3, 30]), data["categories"], 0)
    features = np.concatenate(
        [
            np.where(missing, 0, scaled),
            missing[:, [0, 2]],
            np.eye(3)[codes[:, 0]],
            forward.initial["categories1.table"][codes[:, 1]],
        ],
        axis=1,
    )
    expected = features @ forward.initial["output.weight"] + forward.initial["output.bias"]
    np.testing.assert_allclose(answer(forward, data), expected, rtol=1e-5, atol=1e-5)


def test_image_is_standardised_by_channel():
    # The second channel's deviation of 0 counts as 1.
    image = ImageInput(shape=(2, 8, 9), mean=(100.0, 120.0), std=(60.0, 0.0))
    signature = NetworkSignature(image=image, task=Classification(classes=3))
    forward = build_forward("mlp", {"hidden": []}, signature, seed=0)
    data = batch(signature, 2)
    scaled = (data["image"] - np.float32([100, 120]).reshape(1, 2, 1, 1)) / np.float32([60, 1]).reshape(1, 2, 1, 1)
    expected = scaled.reshape(2, -1) @ forward.initial["output.weight"]
    np.testing.assert_allclose(answer(forward, data), expected, rtol=1e-4, atol=1e-3)


def test_categories_alone_are_enough():
    signature = NetworkSignature(categories=CategoriesInput(cardinalities=(1, 17)), task=Regression())
    codes = np.asarray([[0, 16], [3, -1]])
    assert answer(small("mlp", signature), {"categories": codes}).shape == (2, 1)


@pytest.mark.parametrize("recipe", ["cnn", "resnet", "vgg"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 4, 40), (1, 28, 28), (3, 64, 48), (3, 5, 7)])
def test_image_defaults_fit_images_of_any_size(shape, recipe):
    signature = image_signature(*shape)
    forward = build_forward(recipe, default_config(recipe, signature, 1400), signature, seed=0)
    assert answer(forward, {"image": np.zeros((2, *shape), dtype=np.uint8)}).shape == (2, 10)
    # Small enough to travel: the dense layer doesn't explode with the image.
    assert sum(value.size for value in forward.initial.values()) < 4_000_000


@pytest.mark.parametrize("recipe", ["cnn", "resnet", "vgg"])
def test_networks_for_the_largest_images_stay_small(recipe):
    signature = image_signature(3, 512, 512)
    forward = build_forward(recipe, default_config(recipe, signature, 1400), signature, seed=0)
    assert sum(value.size for value in forward.initial.values()) < 4_000_000


def test_a_resnet_with_groups_has_no_running_statistics():
    forward = build_forward("resnet", {"channels": [3, 4], "normalization": "group", "groups": 2}, IMAGES, seed=0)
    assert not forward.buffers
    assert "GroupNormalization" in {node.op_type for node in forward.model.graph.node}
    data = batch(IMAGES, 5)
    whole = answer(forward, data)
    # No sample sees another.
    alone = answer(forward, {name: tensor[:1] for name, tensor in data.items()})
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-5, atol=1e-5)
    assert np.isfinite(whole).all()


def test_what_suits_many_samples_is_chosen_for_them():
    large, small = (default_config("mlp", TABLE, samples) for samples in (50_000, 5_000))
    assert (large["hidden"], large["layer_norm"], large["residual"]) == ([256, 256], True, True)
    assert (small["hidden"], small["layer_norm"], small["residual"]) == ([128, 64], False, False)
    many, few = (default_config("fasttext", TEXTS, samples) for samples in (10_000, 9_999))
    assert (many["width"], many["pairs"], many["pooling"]) == (8, 200_000, "root")
    assert (few["width"], few["pairs"], few["pooling"]) == (64, 0, "mean")


def test_defaults_are_valid_json_configs():
    for recipe, signature in NETWORKS:
        for samples in (10, 10_000, 1_000_000):
            config = default_config(recipe, signature, samples)
            assert build_forward(recipe, config, signature, seed=0).parameters


@pytest.mark.parametrize(
    ("recipe", "config", "signature", "message"),
    [
        ("gpt", {}, TABLE, "no recipe 'gpt'"),
        ("rnn", {}, TABLE, "'rnn' needs texts or sequences"),
        ("crnn", {}, REGRESSION, "'crnn' needs texts or sequences"),
        ("fasttext", {}, SEQUENCES, "'fasttext' needs texts"),
        ("text-cnn", {}, TABLE, "'text-cnn' needs texts"),
        ("transformer", {"width": 6, "heads": 4}, TEXTS, "'network'.*multiple of heads"),
        ("mlp", {"hidden": [0]}, TABLE, r"hidden\.0"),
        ("mlp", {"layers": 3}, TABLE, "layers"),
        ("cnn", {}, REGRESSION, "needs images"),
        ("resnet", {}, REGRESSION, "'resnet' needs images"),
        ("vgg", {}, TABLE, "'vgg' needs images"),
        ("resnet", {"normalization": "layer"}, IMAGES, "normalization"),
        ("cnn", {}, image_signature(1, 3, 9), "4x4"),
    ],
)
def test_bad_configs_are_named(recipe, config, signature, message):
    with pytest.raises(BadConfig, match=message):
        build_forward(recipe, config, signature, seed=0)


def test_recipe_names():
    # A network of the user's own isn't built by a recipe.
    assert recipe_names() == tuple(sorted({*get_args(Recipe)} - {"network"}))


def longer(signature: NetworkSignature, data, more: int):
    """The same texts with more padding behind each column."""
    columns, parts, start = [], [], 0
    for column in signature.tokens.columns:
        part = data["tokens"][:, start : start + column.length]
        parts.append(np.pad(part, ((0, 0), (0, more))))
        columns.append(column.model_copy(update={"length": column.length + more}))
        start += column.length
    return (
        signature.model_copy(update={"tokens": TokensInput(columns=tuple(columns))}),
        data | {"tokens": np.concatenate(parts, axis=1)},
    )


POOLED = [
    ("crnn", {"pooling": "last"}),
    ("crnn", {"pooling": "max", "cell": "lstm"}),
    ("fasttext", {}),
    ("linear", {}),
    ("mlp", {}),
    *(("rnn", {"pooling": pooling, "layers": 2}) for pooling in ("last", "mean", "max")),
    ("rnn", {"cell": "lstm", "directions": 1, "pooling": "last"}),
    ("text-cnn", {}),
    ("transformer", {}),
]


@pytest.mark.parametrize("signature", [TEXTS, MIXED], ids=["text", "mixed"])
@pytest.mark.parametrize(("recipe", "config"), POOLED, ids=str)
def test_padding_changes_no_answer(recipe, config, signature):
    data = batch(signature, 6)
    forward = build_forward(recipe, SMALL[recipe] | config, signature, seed=3)
    wider, padded = longer(signature, data, 6)
    other = build_forward(recipe, SMALL[recipe] | config, wider, seed=3)
    assert {name: x.shape for name, x in forward.initial.items()} == {n: x.shape for n, x in other.initial.items()}
    np.testing.assert_allclose(answer(forward, data), answer(other, padded), rtol=1e-5, atol=1e-6)
    assert np.ptp(answer(forward, data), axis=0).min() > 0


@pytest.mark.parametrize(("recipe", "config"), POOLED, ids=str)
def test_samples_do_not_see_each_other(recipe, config):
    data = batch(TEXTS, 5)
    forward = build_forward(recipe, SMALL[recipe] | config, TEXTS, seed=3)
    alone = [answer(forward, {"tokens": data["tokens"][index : index + 1]}) for index in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), answer(forward, data), rtol=1e-5, atol=1e-6)


def test_missing_numbers_are_filled_and_outliers_clipped_before_standardising():
    forward = build_forward("linear", {"text_width": 3}, MIXED, seed=0)
    plain = {"categories": np.zeros((3, 2), np.int64), "tokens": np.zeros((3, 11), np.int32)}
    found = answer(forward, plain | {"numbers": np.float32([[np.nan, -9], [2.5, -2.5], [2.5, np.nan]])})
    same = answer(forward, plain | {"numbers": np.float32([[2.5, -2.5], [2.5, -8], [2.5, -2.0]])})
    weight = forward.initial["output.weight"]
    indicators = weight[len(MIXED.tokens.columns) * 3 + 2 :][:2]
    np.testing.assert_allclose(found, same + np.stack([indicators[0], 0 * indicators[0], indicators[1]]), atol=1e-5)


def test_a_sequence_equals_numpy():
    forward = build_forward("linear", {}, SEQUENCES, seed=0)
    data = batch(SEQUENCES, 3)
    raw, missing = data["sequence"], np.isnan(data["sequence"])
    values = np.where(missing, np.float32([4, -2]), raw)
    values[..., 0] = np.clip(values[..., 0], -2, 3)
    scaled = (values - np.float32([1, -2])) / np.float32([2, 0.5])
    features = np.concatenate([scaled, missing[..., :1]], axis=2).reshape(3, -1)
    expected = features @ forward.initial["output.weight"] + forward.initial["output.bias"]
    np.testing.assert_allclose(answer(forward, data), expected, rtol=1e-4, atol=1e-5)


def test_categories_of_a_sequence_are_one_hot_step_by_step():
    forward = build_forward("linear", {}, EVENTS, seed=0)
    codes = batch(EVENTS, 5)["categories"]
    known = np.where((codes >= 0) & (codes < 4), codes, 0)
    features = np.eye(4, dtype=np.float32)[known[..., 0]].reshape(5, -1)
    expected = features @ forward.initial["output.weight"] + forward.initial["output.bias"]
    np.testing.assert_allclose(answer(forward, {"categories": codes}), expected, rtol=1e-4, atol=1e-5)


def test_many_categories_of_a_sequence_are_embedded():
    forward = build_forward("rnn", {"units": 3}, SERIES, seed=0)
    assert forward.initial["categories1.table"].shape[0] == 30 and "categories0.table" not in forward.initial


@pytest.mark.parametrize(("pooling", "power"), [("mean", 1.0), ("root", 0.5)])
def test_a_bag_is_of_the_tokens_that_are_there(pooling, power):
    forward = build_forward("fasttext", {"width": 4, "pairs": 5, "pooling": pooling}, TEXTS, seed=0)
    ids = np.int32([[0] * 9, [3, 5, 3, 0, 0, 0, 0, 0, 0], [99, -4, 11, 2, 2, 2, 2, 2, 2]])
    known = [[], [3, 5, 3], [1, 1, 11, 2, 2, 2, 2, 2, 2]]
    features = []
    for text in known:
        pairs = [(first * 1_000_003 + second) % 5 for first, second in pairwise(text)]
        bags = [("text0.tokens.table", text), ("text0.pairs.table", pairs)]
        sums = [forward.initial[name][rows].sum(0) / max(1, len(rows)) ** power for name, rows in bags]
        features.append(sums)
    expected = np.asarray(features).reshape(3, -1) @ forward.initial["output.weight"] + forward.initial["output.bias"]
    np.testing.assert_allclose(answer(forward, {"tokens": ids}), expected, rtol=1e-4, atol=1e-5)


def test_an_mlp_may_have_residual_blocks_and_layer_norm():
    config = {"hidden": [5, 5, 4], "layer_norm": True, "residual": True}
    forward = build_forward("mlp", config, TABLE, seed=0)
    operators = [node.op_type for node in forward.model.graph.node]
    assert operators.count("LayerNormalization") == 2
    assert {"norm1.scale", "norm2.bias"} <= set(forward.parameters)
    data = batch(TABLE, 4)
    assert answer(forward, data).shape == (4, 3)
    assert not np.allclose(answer(forward, data), answer(build_forward("mlp", {"hidden": [5, 5, 4]}, TABLE, 0), data))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_transformer_knows_the_order(positions):
    forward = build_forward("transformer", SMALL["transformer"] | {"positions": positions}, TEXTS, seed=0)
    ids = np.int32([[3, 5, 7, 0, 0, 0, 0, 0, 0], [7, 5, 3, 0, 0, 0, 0, 0, 0]])
    found = answer(forward, {"tokens": ids})
    assert np.abs(found[0] - found[1]).max() > 1e-4
    assert ("text0.positions" in forward.parameters) == (positions == "learned")
