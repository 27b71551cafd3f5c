"""One node of a network, as an operator sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Result = Tensor | tuple[Tensor, ...]
Operator = Callable[["Call"], Result]

# TensorProto.DataType -> PyTorch's.
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


@dataclass(frozen=True)
class Call:
    """What a node is given.

    Attributes:
        attributes: By name; those that are left out take ONNX's default, which the operator knows.
        operands: In order; None where one is left out.
        trained: Of a BatchNormalization: whether it works by the batch's own statistics and renews the running ones;
            of a Dropout: whether it drops.
        total: Adds a tensor up over all processes of the job, with gradients; None where there is one process.
    """

    attributes: Mapping[str, Any]
    operands: Sequence[Tensor | None]
    trained: bool = False
    total: Callable[[Tensor], Tensor] | None = None

    @property
    def x(self) -> Tensor:
        """The first operand."""
        return self.operand(0)

    def operand(self, place: int) -> Tensor:
        """An operand that must be there."""
        found = self.optional(place)
        if found is None:
            raise ValueError(f"operand {place} is missing")
        return found

    def optional(self, place: int) -> Tensor | None:
        """An operand that may be left out."""
        return self.operands[place] if place < len(self.operands) else None

    def all(self) -> list[Tensor]:
        """All operands."""
        return [operand for operand in self.operands if operand is not None]

    def ints(self, place: int, name: str = "") -> list[int] | None:
        """Whole numbers: an operand, or in older operator sets the attribute `name`; None where they are left out."""
        found = self.optional(place)
        if found is not None:
            return [int(value) for value in found.reshape(-1).tolist()]
        given = self.attributes.get(name)
        return None if given is None else [int(value) for value in given]

    def number(self, name: str, otherwise: float) -> float:
        """An attribute that is a number."""
        return float(self.attributes.get(name, otherwise))

    def integer(self, name: str, otherwise: int) -> int:
        """An attribute that is a whole number."""
        return int(self.attributes.get(name, otherwise))
