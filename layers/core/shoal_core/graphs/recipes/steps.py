"""Networks over time: texts and sequences as steps, and the layers that recipes over steps are written with.

Padding is exact: what a text is padded with changes no answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from onnx import TensorProto

from shoal_core.errors import BadConfig
from shoal_core.graphs.recipes.inputs import sequence_features, texts
from shoal_core.graphs.recipes.network import Cell, Network, Recurrence
from shoal_core.graphs.signature import NetworkSignature

Pooling = Literal["last", "mean", "max"]


@dataclass(frozen=True)
class Steps:
    """What happens over time.

    Attributes:
        name: Of its parameters.
        x: float32 [N, T, W], zeros where the mask is 0.
        mask: float32 [N, T]: 1 for a step, 0 for the padding behind the last one. None where all steps are there.
    """

    name: str
    x: str
    mask: str | None


def all_steps(
    network: Network, signature: NetworkSignature, recipe: str, width: int, embedding_above: int
) -> list[Steps]:
    """The sequence of a network, or its texts as embeddings of `width`.

    Args:
        network: The graph in the making.
        signature: What the network sees.
        recipe: Its name, for errors.
        width: Of a token's embedding.
        embedding_above: See `category_features`.

    Raises:
        BadConfig: if the input is neither.
    """
    if signature.sequence is not None:
        return [Steps("sequence", sequence_features(network, signature.sequence, embedding_above), None)]
    if signature.tokens is None:
        raise BadConfig(f"Recipe {recipe!r} needs texts or sequences.", "Use recipe 'mlp'.")
    found = []
    for text in texts(network, signature.tokens):
        embedded = network.embedding(text.ids, f"{text.name}.tokens", text.cardinality, width)
        found.append(masked(network, embedded, text.name, text.mask))
    return found


def masked(network: Network, x: str, name: str, mask: str | None) -> Steps:
    """Steps of x [N, T, W], with zeros for padding."""
    if mask is not None:
        column = network.graph.emit("Unsqueeze", mask, network.graph.integers(2))
        x = network.graph.emit("Mul", x, column)
    return Steps(name, x, mask)


def pooled(network: Network, steps: Steps, pooling: Literal["mean", "max"]) -> str:
    """The mean or the maximum over the steps that are there: [N, W]; zeros of a text without a token.

    With a mask, the maximum is right for values from 0 up only, such as those behind a ReLU.
    """
    graph = network.graph
    axis = graph.integers(1)
    if pooling == "max":
        return graph.emit("ReduceMax", steps.x, axis, keepdims=0)
    if steps.mask is None:
        return graph.emit("ReduceMean", steps.x, axis, keepdims=0)
    count = graph.emit("Max", graph.emit("ReduceSum", steps.mask, axis), graph.scalar(1, steps.x))
    return graph.emit("Div", graph.emit("ReduceSum", steps.x, axis, keepdims=0), count)


def convolved(network: Network, steps: Steps, name: str, channels: int, kernel: int) -> Steps:
    """A convolution over time, with ReLU."""
    graph = network.graph
    x = graph.emit("Transpose", steps.x, perm=[0, 2, 1])
    x = network.relu(network.convolution(x, name, channels, kernel))
    return masked(network, graph.emit("Transpose", x, perm=[0, 2, 1]), steps.name, steps.mask)


def halved(network: Network, steps: Steps) -> Steps:
    """Half as many steps, each the maximum of two; what was behind a ReLU stays exact under a mask."""
    graph = network.graph
    x = graph.emit("Transpose", steps.x, perm=[0, 2, 1])
    x = graph.emit("MaxPool", x, kernel_shape=[2], strides=[2], ceil_mode=1)
    mask = steps.mask
    if mask is not None:
        one = graph.integers(1)
        rows = graph.emit("MaxPool", graph.emit("Unsqueeze", mask, one), kernel_shape=[2], strides=[2], ceil_mode=1)
        mask = graph.emit("Squeeze", rows, one)
    return Steps(steps.name, graph.emit("Transpose", x, perm=[0, 2, 1]), mask)


def recurrent(
    network: Network, steps: Steps, cell: Cell, units: int, layers: int, *, both: bool, pooling: Pooling
) -> str:
    """Recurrent layers over steps, from first to last or in both directions, and what is left of them: [N, width].

    Args:
        network: The graph in the making.
        steps: What they run over.
        cell: LSTM or GRU.
        units: Of each direction.
        layers: How many follow each other.
        both: Whether each layer also runs from the last step to the first.
        pooling: The states after the last step of each direction, or the mean or the maximum of all states.
    """
    graph = network.graph
    lengths = _lengths(network, steps)
    x = graph.emit("Transpose", steps.x, perm=[1, 0, 2])
    directions: list[Recurrence] = []
    for layer in range(layers):
        directions = [_forwards(network, x, f"{steps.name}.layer{layer}.forward", cell, units, lengths)]
        if both:
            directions.append(_backwards(network, x, f"{steps.name}.layer{layer}.backward", cell, units, lengths))
        states = [direction.states for direction in directions]
        x = states[0] if len(states) == 1 else graph.emit("Concat", *states, axis=2)
    if pooling == "last":
        ends = [direction.last for direction in directions]
        return ends[0] if len(ends) == 1 else graph.emit("Concat", *ends, axis=1)
    values = graph.emit("Transpose", x, perm=[1, 0, 2])
    if pooling == "max" and steps.mask is not None:
        # States lie between -1 and 1, so padding may count as 0 once they are moved up.
        up = masked(network, graph.emit("Add", values, graph.scalar(1, values)), steps.name, steps.mask)
        most = pooled(network, up, "max")
        return graph.emit("Sub", most, graph.scalar(1, most))
    return pooled(network, masked(network, values, steps.name, steps.mask), pooling)


def with_steps(steps: Steps, x: str) -> Steps:
    """Other values over the same time."""
    return replace(steps, x=x)


def _forwards(network: Network, x: str, name: str, cell: Cell, units: int, lengths: str | None) -> Recurrence:
    """A layer from the first step to each sample's last one."""
    layer = network.recurrence(x, name, cell, units)
    if lengths is None:
        return layer
    graph = network.graph
    turns = graph.shape(layer.states)[0]
    numbers = graph.constant(np.arange(1, int(turns) + 1, dtype=np.int64).reshape(-1, 1))
    chosen = graph.emit("Cast", graph.emit("Equal", numbers, lengths), to=TensorProto.FLOAT)
    weighted = graph.emit("Mul", layer.states, graph.emit("Unsqueeze", chosen, graph.integers(2)))
    return replace(layer, last=graph.emit("ReduceSum", weighted, graph.integers(0), keepdims=0))


def _backwards(network: Network, x: str, name: str, cell: Cell, units: int, lengths: str | None) -> Recurrence:
    """A layer from each sample's last step to its first; states lie at the steps that they belong to."""
    if lengths is None:
        return network.recurrence(x, name, cell, units, backwards=True)
    graph = network.graph
    # Run backwards, padding would come first. So each text is turned around on its own.
    turned = graph.emit("ReverseSequence", x, lengths, time_axis=0, batch_axis=1)
    layer = network.recurrence(turned, name, cell, units)
    states = graph.emit("ReverseSequence", layer.states, lengths, time_axis=0, batch_axis=1)
    # The first step's state comes last, and padding behind it must not count.
    first = graph.emit("Gather", states, graph.constant(np.asarray(0, dtype=np.int64)), axis=0)
    return Recurrence(states, first)


def _lengths(network: Network, steps: Steps) -> str | None:
    """Steps that each sample has, int64 [N], at least 1; None where all have all."""
    if steps.mask is None:
        return None
    graph = network.graph
    count = graph.emit("ReduceSum", steps.mask, graph.integers(1), keepdims=0)
    return graph.emit("Cast", graph.emit("Max", count, graph.scalar(1, count)), to=TensorProto.INT64)
