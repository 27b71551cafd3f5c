"""What the API tells of a dataset version to whoever builds a network for it."""

from __future__ import annotations

from pydantic import Field

from shoal_core.frozen import Frozen


class NetworkInput(Frozen):
    """A tensor that a network may take."""

    name: str
    datatype: str = Field(description="FP32 or INT64; a network that takes another type gets it cast")
    shape: list[int] = Field(description="of one sample; the batch comes first")
    meaning: str


class NetworkInputs(Frozen):
    """What a network of one's own is given, and how many numbers it shall answer for a sample."""

    dataset: str
    version: str
    task: str
    outputs: int = Field(description="logits of the classes, in their order, or one standardised number")
    classes: list[str]
    inputs: list[NetworkInput] = Field(description="one with a single input gets the first; others go by names")
