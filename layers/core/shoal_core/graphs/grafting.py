"""A backbone and a head: the frozen part of a backbone, the part that is fine-tuned, and both with the head as one.

A frozen part turns a dataset's raw tensors into `features`; it is run once for each sample. What comes behind it is a
forward graph on `features`. Joined they are a network from raw tensors to an answer, which is what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from shoal_core.data.backbones import FEATURES, Backbone, Block
from shoal_core.data.spec import ImageInput
from shoal_core.errors import BadConfig, BadNetwork
from shoal_core.graphs.builder import PRODUCER, check
from shoal_core.graphs.cutting import extract, rename, trainable_initializers
from shoal_core.graphs.forward import BATCH, PARAMETER, ForwardGraph
from shoal_core.graphs.inference import IR_VERSION
from shoal_core.graphs.optimization import run_once

IMAGE = "image"
TOKENS = "tokens"
VECTOR = "vector"
"""What the fine-tuned part makes of `features`: the backbone's own answer."""
_FROZEN = "frozen."
_OWN_IMAGE = "backbone.image"
_TWO_SIZES = (2, 3)
# Shares of red, green and blue in a grey value: ITU-R BT.601, as Pillow has them.
_GREY = (0.299, 0.587, 0.114)


def frozen_part(graph: ModelProto, backbone: Backbone, image: ImageInput | None, blocks: int) -> ModelProto:
    """What is computed once: from a dataset's raw tensors to the tensor at which fine-tuning begins.

    Args:
        graph: The backbone's, from `image` or `tokens` to `features`.
        backbone: What is known of it.
        image: The images of the dataset. Where they have another size or number of channels than the backbone takes,
            the graph resizes them, to the nearest value of 8 bits.
        blocks: Blocks that are left out, from the end.

    Returns:
        A graph whose one output is `features` float32 [N, ...].
    """
    value = _features(_start(backbone, blocks), _shape(backbone, blocks))
    part = extract(graph, list(graph.graph.input), [value], "frozen")
    rename(part, {value.name: FEATURES})
    if image is not None and backbone.image is not None and not _same(image, backbone.image):
        _resize(part, image, backbone.image)
    check(part)
    return part


def tuned_part(graph: ModelProto, backbone: Backbone, blocks: int) -> ForwardGraph:
    """The last blocks of a backbone as a network whose weights are trained.

    Args:
        graph: The backbone's.
        backbone: What is known of it.
        blocks: How many of its blocks, from the end; at least one.

    Returns:
        A graph from `features` float32 [N, ...], and the inputs that its block keeps, to `vector` float32 [N, width].
        BatchNormalizations keep the mean and variance that the file has.

    Raises:
        BadConfig: The backbone doesn't have so many blocks, or none of their weights can be trained.
    """
    block = block_of(backbone, blocks)
    # The whole's answer is called as the part's input is, so it gets its own name first.
    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    rename(whole, {FEATURES: VECTOR})
    given = [_features(block.tensor, block.shape), *(value for value in whole.graph.input if value.name in block.kept)]
    answer = helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, [BATCH, backbone.width])
    part = extract(whole, given, [answer], "tuned")
    rename(part, {block.tensor: FEATURES})
    tensors = trainable_initializers(part.graph.node, part.graph.initializer)
    if not tensors:
        raise BadConfig(
            f"training.fine_tune: the last {blocks} blocks of {backbone.name!r} have no float32 weights to train.",
            "Leave it out, or import a backbone that isn't quantised.",
        )
    names = {tensor.name: PARAMETER + tensor.name for tensor in tensors}
    initial = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in tensors}
    kept = [tensor for tensor in part.graph.initializer if tensor.name not in names]
    del part.graph.initializer[:]
    part.graph.initializer.extend(kept)
    part.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in initial.items()
    )
    rename(part, names)
    _tell_shapes(part, initial)
    return ForwardGraph(part, tuple(initial), initial)


def block_of(backbone: Backbone, blocks: int) -> Block:
    """Where the last so many blocks begin. Raises `BadConfig` when there are fewer."""
    if not 1 <= blocks <= len(backbone.blocks):
        raise BadConfig(
            f"training.fine_tune: {blocks} blocks; {backbone.name!r} has {len(backbone.blocks)} that can be trained.",
            f"Use 1 to {len(backbone.blocks)}." if backbone.blocks else "Leave it out.",
        )
    return backbone.blocks[blocks - 1]


def joined(frozen: ModelProto, forward: ModelProto) -> ModelProto:
    """A frozen part and the network behind it as one network, from raw tensors to an answer.

    Args:
        frozen: Answers `features`.
        forward: Takes `features`, and perhaps raw tensors that the frozen part takes as well.

    Raises:
        BadNetwork: They don't fit together.
    """
    front = onnx.ModelProto()
    front.CopyFrom(frozen)
    del front.graph.value_info[:]
    # Both may hold tensors of the same backbone.
    compose.add_prefix(front, _FROZEN, rename_inputs=False, rename_outputs=False, inplace=True)
    sets = [{item.domain or "ai.onnx": item.version for item in model.opset_import} for model in (front, forward)]
    if sets[0]["ai.onnx"] != sets[1]["ai.onnx"]:
        raise BadNetwork(f"The backbone has operator set {sets[0]['ai.onnx']}, its head {sets[1]['ai.onnx']}.")
    graph = onnx.GraphProto(name="forward")
    own = {value.name for value in front.graph.input}
    graph.input.extend(front.graph.input)
    graph.input.extend(value for value in forward.graph.input if value.name not in {FEATURES, *own})
    graph.node.extend([*front.graph.node, *forward.graph.node])
    graph.initializer.extend([*front.graph.initializer, *forward.graph.initializer])
    graph.output.extend(forward.graph.output)
    return helper.make_model(
        graph, opset_imports=list(front.opset_import), ir_version=IR_VERSION, producer_name=PRODUCER
    )


def _tell_shapes(part: ModelProto, parameters: Mapping[str, NDArray[Any]]) -> None:
    """Write down the shape of every tensor, as two runs show it: exporters compute many of them at run time.

    A dimension that follows the number of samples is the batch; one that doesn't change is fixed.
    """
    inferred = onnx.shape_inference.infer_shapes(part).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    shown = onnx.ModelProto()
    shown.CopyFrom(part)
    shown.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items())
    data = shown.SerializeToString()
    one, other = (run_once(data, _feeds(part, parameters, samples)) for samples in _TWO_SIZES)
    for name, kind in kinds.items():
        sizes = zip(one[name].shape, other[name].shape, strict=True)
        dims = [BATCH if pair == _TWO_SIZES else pair[0] if pair[0] == pair[1] else None for pair in sizes]
        part.graph.value_info.append(helper.make_tensor_value_info(name, kind, dims))


def _feeds(part: ModelProto, parameters: Mapping[str, NDArray[Any]], samples: int) -> dict[str, NDArray[Any]]:
    """Ones of every input's shape, and the parameters."""
    feeds = {PARAMETER + name: value for name, value in parameters.items()}
    for value in part.graph.input:
        if value.name not in feeds:
            dims = [dim.dim_value or samples for dim in value.type.tensor_type.shape.dim]
            feeds[value.name] = np.ones(dims, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return feeds


def _start(backbone: Backbone, blocks: int) -> str:
    return block_of(backbone, blocks).tensor if blocks else FEATURES


def _shape(backbone: Backbone, blocks: int) -> tuple[int, ...]:
    return block_of(backbone, blocks).shape if blocks else (backbone.width,)


def _features(name: str, shape: Sequence[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def _same(image: ImageInput, own: ImageInput) -> bool:
    return (image.height, image.width, image.channels) == (own.height, own.width, own.channels)


def _resize(part: ModelProto, image: ImageInput, own: ImageInput) -> None:
    """Put nodes in front that bring images of one form into another: uint8 [N, C, H, W] both."""
    rename(part, {IMAGE: _OWN_IMAGE})
    constants: dict[str, NDArray[Any]] = {
        "adapt.size": np.array([own.height, own.width], np.int64),
        "adapt.half": np.array(0.5, np.float32),
    }
    steps = [helper.make_node("Cast", [IMAGE], ["adapt.pixels"], to=TensorProto.FLOAT)]
    last = "adapt.pixels"
    if image.channels == 1 and own.channels == 3:
        steps.append(helper.make_node("Concat", [last] * 3, ["adapt.color"], axis=1))
        last = "adapt.color"
    elif image.channels == 3 and own.channels == 1:
        constants["adapt.grey"] = np.array(_GREY, np.float32).reshape(1, 3, 1, 1)
        steps.append(helper.make_node("Conv", [last, "adapt.grey"], ["adapt.color"]))
        last = "adapt.color"
    if (image.height, image.width) != (own.height, own.width):
        attributes: dict[str, Any] = {"axes": [2, 3], "mode": "linear", "antialias": 1}
        attributes["coordinate_transformation_mode"] = "half_pixel"
        steps.append(helper.make_node("Resize", [last, "", "", "adapt.size"], ["adapt.sized"], **attributes))
        last = "adapt.sized"
    steps += [
        helper.make_node("Add", [last, "adapt.half"], ["adapt.raised"]),
        helper.make_node("Floor", ["adapt.raised"], ["adapt.whole"]),
        helper.make_node("Cast", ["adapt.whole"], [_OWN_IMAGE], to=TensorProto.UINT8),
    ]
    for node in steps:
        node.name = node.output[0]
    nodes = [*steps, *part.graph.node]
    del part.graph.node[:], part.graph.input[:]
    part.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    part.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    )
    shape = [BATCH, image.channels, image.height, image.width]
    part.graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
