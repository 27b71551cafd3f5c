"""Recipe `transfer`: a head on the features of a pretrained backbone, which may be trained further at its end.

The features come from shards that were computed once, so the graph begins with them; `graphs.grafting` puts the frozen
part in front of it for the model that is served.
"""

from __future__ import annotations

from typing import Annotated

from onnx import TensorProto
from pydantic import Field

from shoal_core.data.backbones import FEATURES
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen
from shoal_core.graphs.autodiff import opset_of
from shoal_core.graphs.builder import OPSET
from shoal_core.graphs.forward import BATCH, ForwardGraph
from shoal_core.graphs.recipes.inputs import joined, table_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.shapes import Shape
from shoal_core.graphs.signature import NetworkSignature


class TransferConfig(Frozen):
    """The head.

    Attributes:
        hidden: Units of each hidden layer; none makes one layer from the features to the answer.
        dropout: Share of the values in front of each of its layers that a training step leaves out.
        standardize: Whether each feature is brought to one scale first, by the training batches' mean and variance.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=8)] = ()
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    standardize: bool = False
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(
    config: TransferConfig,
    signature: NetworkSignature,
    seed: int,
    tuned: ForwardGraph | None = None,
    opset: int = OPSET,
) -> ForwardGraph:
    """Features, perhaps through the last blocks of the backbone; then for each layer: dropout, dense; then the answer.

    Args:
        config: The head.
        signature: What it sees: features, and what a table has beside its text.
        seed: Of the head's initial parameters.
        tuned: The blocks that are trained, from `features` to a vector.
        opset: Of the backbone.

    Raises:
        BadConfig: There are no features.
    """
    if signature.features is None:
        raise BadConfig("Recipe 'transfer' needs a backbone.", "Set `backbone: NAME` in dataset.yaml.")
    network = Network(seed, opset if tuned is None else opset_of(tuned.model))
    if tuned is None:
        shape: Shape = (BATCH, *signature.features.shape)
        x = network.flatten(network.graph.input(FEATURES, TensorProto.FLOAT, shape))
    else:
        x = network.adopt(tuned)
    if config.standardize:
        x = network.batch_normalization(x, "standardize")
    x = joined(network, [x, *table_features(network, signature, config.embedding_above)])
    for index, units in enumerate(config.hidden):
        x = network.relu(network.dense(network.dropout(x, config.dropout), f"dense{index}", units))
    return network.answer(network.dropout(x, config.dropout), signature)


def default_config(signature: NetworkSignature, samples: int) -> TransferConfig:
    """One layer: features of a backbone are made so that a plane parts the classes."""
    return TransferConfig()
