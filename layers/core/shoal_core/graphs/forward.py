"""The one form in which a trainable network is handed around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

PARAMETER = "param."
LOGITS = "logits"
PREDICTION = "prediction"
BATCH = "N"


@dataclass(frozen=True)
class ForwardGraph:
    """A network from raw tensors to `logits` or `prediction`.

    Attributes:
        model: ONNX. Inputs: the data tensors by name, batch dimension `N`, and `param.<name>` for every parameter.
            One output: `logits` float32 [N, classes] or `prediction` float32 [N, 1], in standardised units.
        parameters: Names of the trainable tensors, without the prefix, in a fixed order.
        initial: The parameters' first values, float32.
    """

    model: onnx.ModelProto
    parameters: tuple[str, ...]
    initial: dict[str, NDArray[Any]]

    @property
    def output(self) -> str:
        """Name of the one output."""
        return str(self.model.graph.output[0].name)

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """Names of the data tensors."""
        return tuple(value.name for value in self.model.graph.input if not value.name.startswith(PARAMETER))
