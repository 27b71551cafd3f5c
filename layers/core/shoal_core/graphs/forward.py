"""The one form in which a trainable network is handed around."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray

PARAMETER = "param."
BUFFER = "buffer."
NOISE = "noise."
LOGITS = "logits"
PREDICTION = "prediction"
SCORE = "score"
BATCH = "N"


@dataclass(frozen=True)
class ForwardGraph:
    """A network from raw tensors to `logits` or `prediction`.

    Attributes:
        model: ONNX, as it is served. Inputs: the data tensors by name, batch dimension `N`, `param.<name>` for every
            parameter and `buffer.<name>` for every buffer. One output: `logits` float32 [N, classes], `prediction`
            float32 [N, 1], in standardised units, or `score` float32 [N, 1], how much of the input wasn't rebuilt.
        parameters: Names of the trainable tensors, without the prefix, in a fixed order.
        initial: The parameters' first values, float32.
        buffers: What a training step renews without a gradient, by name without the prefix: the first values, float32.
            A BatchNormalization that reads its statistics from buffers is trained on the batch's own statistics.
        dropouts: Outputs of the Dropout nodes that drop in a training step, each by its input `noise.<output>`: float32
            of the node's shape, uniform in [0, 1). Where the network answers, they do nothing.
    """

    model: onnx.ModelProto
    parameters: tuple[str, ...]
    initial: dict[str, NDArray[Any]]
    buffers: dict[str, NDArray[Any]] = field(default_factory=dict)
    dropouts: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """Name of the one output."""
        return str(self.model.graph.output[0].name)

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """Names of the data tensors."""
        return tuple(value.name for value in self.model.graph.input if not value.name.startswith((PARAMETER, BUFFER)))
