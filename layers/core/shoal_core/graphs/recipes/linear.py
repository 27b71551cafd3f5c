"""Recipe `linear`: one layer from the features to the answer, for any data: logistic or linear regression."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import all_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature


class LinearConfig(Frozen):
    """How categories and texts are seen.

    Attributes:
        embedding_above: Columns with more categories than this get an embedding instead of one-hot, whose weights can
            be read one by one.
        text_width: Width of a token's embedding; a text is the mean of its tokens'.
    """

    embedding_above: Annotated[int, Field(ge=1)] = 1024
    text_width: Annotated[int, Field(ge=1, le=1024)] = 64


def build(config: LinearConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Features, then the answer."""
    network = Network(seed)
    return network.answer(all_features(network, signature, config.embedding_above, config.text_width), signature)


def default_config(signature: NetworkSignature, samples: int) -> LinearConfig:
    """Nothing depends on the data."""
    return LinearConfig()
