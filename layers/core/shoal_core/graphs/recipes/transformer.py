"""Recipe `transformer`: a small encoder (A. Vaswani et al., 2017), normalised first, over texts and sequences."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import joined, table_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.recipes.steps import Steps, all_steps, masked, pooled, with_steps
from shoal_core.graphs.signature import NetworkSignature

# exp(-1e9 - x) is 0 in float32 for any score x, so a padded step gets no attention at all.
_NEVER = -1e9
_SMALL_SET = 2_000


class TransformerConfig(Frozen):
    """Capacity of the network.

    Attributes:
        width: Of a step, a multiple of twice the heads.
        heads: Of the attention.
        layers: How many follow each other.
        feedforward: Units of the layer inside each step.
        positions: Fixed sines and cosines, or trained rows.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    width: Annotated[int, Field(ge=2, le=1024)] = 64
    heads: Annotated[int, Field(ge=1, le=32)] = 4
    layers: Annotated[int, Field(ge=1, le=12)] = 2
    feedforward: Annotated[int, Field(ge=1, le=4096)] = 128
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    embedding_above: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="after")
    def _heads_fit(self) -> TransformerConfig:
        if self.width % self.heads or self.width % 2:
            raise ValueError("width must be even and a multiple of heads")
        return self


def build(config: TransformerConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Steps with positions; layers of attention and feed-forward; the mean over the steps; the answer.

    Raises:
        BadConfig: if there is neither a text nor a sequence.
    """
    network = Network(seed)
    features = []
    for steps in all_steps(network, signature, "transformer", config.width, config.embedding_above):
        steps = _placed(network, config, steps)
        for layer in range(config.layers):
            steps = _layer(network, config, steps, f"{steps.name}.layer{layer}")
        normal = network.layer_normalization(steps.x, f"{steps.name}.norm")
        features.append(pooled(network, masked(network, normal, steps.name, steps.mask), "mean"))
    features += table_features(network, signature, config.embedding_above)
    return network.answer(joined(network, features), signature)


def default_config(signature: NetworkSignature, samples: int) -> TransformerConfig:
    """One narrow layer for a small set."""
    return TransformerConfig(width=32, layers=1, feedforward=64) if samples < _SMALL_SET else TransformerConfig()


def sinusoids(steps: int, width: int) -> np.ndarray:
    """The paper's positions: sines in the even places, cosines in the odd ones: float32 [steps, width]."""
    waves = np.arange(steps)[:, None] / np.power(10_000, np.arange(0, width, 2) / width)
    return np.stack([np.sin(waves), np.cos(waves)], axis=2).reshape(steps, width).astype(np.float32)


def _placed(network: Network, config: TransformerConfig, steps: Steps) -> Steps:
    """Steps of the network's width, which know where they are."""
    graph = network.graph
    x = steps.x
    if steps.mask is None:
        x = network.per_step(x, f"{steps.name}.projection", config.width, init="glorot")
    else:
        x = graph.emit("Mul", x, graph.scalar(math.sqrt(config.width), x))
    turns = int(graph.shape(x)[1])
    if config.positions == "learned":
        rows = network.positions(steps.name, turns, config.width)
    else:
        rows = graph.constant(sinusoids(turns, config.width))
    return with_steps(steps, graph.emit("Add", x, rows))


def _layer(network: Network, config: TransformerConfig, steps: Steps, name: str) -> Steps:
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""
    graph = network.graph
    normal = network.layer_normalization(steps.x, f"{name}.norm0")
    x = graph.emit("Add", steps.x, _attention(network, config, with_steps(steps, normal), name))
    inner = network.per_step(network.layer_normalization(x, f"{name}.norm1"), f"{name}.dense0", config.feedforward)
    outer = network.per_step(network.relu(inner), f"{name}.dense1", config.width, init="glorot")
    return with_steps(steps, graph.emit("Add", x, outer))


def _attention(network: Network, config: TransformerConfig, steps: Steps, name: str) -> str:
    """Every step looks at every step that is there: [N, T, width]."""
    graph = network.graph
    query, key, value = (
        _heads(network, config, network.per_step(steps.x, f"{name}.{part}", config.width, init="glorot"))
        for part in ("query", "key", "value")
    )
    turned = graph.emit("Transpose", key, perm=[0, 1, 3, 2])
    scale = graph.scalar(1 / math.sqrt(config.width // config.heads), query)
    scores = graph.emit("MatMul", graph.emit("Mul", query, scale), turned)
    if steps.mask is not None:
        there = graph.emit("Greater", steps.mask, graph.scalar(0, scores))
        there = graph.emit("Unsqueeze", there, graph.integers(1, 2))
        scores = graph.emit("Where", there, scores, graph.scalar(_NEVER, scores))
    seen = graph.emit("MatMul", graph.emit("Softmax", scores, axis=-1), value)
    batch, _, turns, _ = graph.shape(query)
    together = graph.reshape(graph.emit("Transpose", seen, perm=[0, 2, 1, 3]), (batch, turns, config.width))
    return network.per_step(together, f"{name}.attended", config.width, init="glorot")


def _heads(network: Network, config: TransformerConfig, x: str) -> str:
    """[N, T, width] as [N, heads, T, width / heads]."""
    batch, turns, width = network.graph.shape(x)
    parts = network.graph.reshape(x, (batch, turns, config.heads, int(width) // config.heads))
    return network.graph.emit("Transpose", parts, perm=[0, 2, 1, 3])
