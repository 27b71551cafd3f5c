"""Recipe `fasttext`: the mean of a text's token embeddings (A. Joulin et al., 2016), pairs of tokens hashed besides."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from onnx import TensorProto
from pydantic import Field

from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import BagPooling, Text, bag, joined, table_features, text_bag, texts
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature

# Odd, and far from a multiple of a power of two, so that pairs spread over any number of buckets.
_MULTIPLIER = 1_000_003
_MANY_SAMPLES = 10_000


class FasttextConfig(Frozen):
    """Capacity of the network.

    Attributes:
        width: Of a token's embedding.
        pairs: Buckets that pairs of neighbouring tokens are hashed into; 0 leaves them out.
        pooling: What the sum of a text's embeddings is divided by: `mean`, their number; `root`, its root.
        hidden: Units of each hidden layer; none makes a linear model.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    width: Annotated[int, Field(ge=1, le=1024)] = 64
    pairs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    pooling: BagPooling = "mean"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=16)] = ()
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: FasttextConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Bags of tokens and of pairs, beside what else a table has; hidden layers with ReLU; the answer.

    Raises:
        BadConfig: if there is no text.
    """
    if signature.tokens is None:
        raise BadConfig("Recipe 'fasttext' needs texts.", "Use recipe 'mlp'.")
    network = Network(seed)
    features = []
    for text in texts(network, signature.tokens):
        features.append(text_bag(network, text, config.width, config.pooling))
        if config.pairs and text.length > 1:
            ids, mask = _pairs(network, text, config.pairs)
            features.append(bag(network, ids, mask, f"{text.name}.pairs", config.pairs, config.width, config.pooling))
    x = joined(network, [*features, *table_features(network, signature, config.embedding_above)])
    for index, units in enumerate(config.hidden):
        x = network.relu(network.dense(x, f"dense{index}", units))
    return network.answer(x, signature)


def default_config(signature: NetworkSignature, samples: int) -> FasttextConfig:
    """Many texts have pairs in common, and a little width is enough for a sum that is over the root of their number."""
    return FasttextConfig(width=8, pairs=200_000, pooling="root") if samples >= _MANY_SAMPLES else FasttextConfig()


def _pairs(network: Network, text: Text, buckets: int) -> tuple[str, str]:
    """The bucket of each token and the next one, int64 [N, length - 1], and 1 where both are there."""
    graph = network.graph
    first, second = (_slice(network, text.ids, start, text.length - 1 + start) for start in (0, 1))
    wide = [graph.emit("Cast", ids, to=TensorProto.INT64) for ids in (first, second)]
    multiplier = graph.constant(np.asarray(_MULTIPLIER, dtype=np.int64))
    mixed = graph.emit("Add", graph.emit("Mul", wide[0], multiplier), wide[1])
    bucket = graph.emit("Mod", mixed, graph.constant(np.asarray(buckets, dtype=np.int64)))
    # Padding is at the end: where the second token is there, the first is.
    return bucket, _slice(network, text.mask, 1, text.length)


def _slice(network: Network, x: str, start: int, stop: int) -> str:
    graph = network.graph
    return graph.emit("Slice", x, graph.integers(start), graph.integers(stop), graph.integers(1))
