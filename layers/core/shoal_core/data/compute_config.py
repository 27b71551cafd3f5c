"""Where a run trains: `compute` in dataset.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shoal_core.data.config_types import Flag, Integer, Number
from shoal_core.frozen import Frozen

Compute = Literal["lambda", "sagemaker"]
MAX_INSTANCES = 16
MAX_HOURS = 120
"""SageMaker's own limit of a training job, five days; more needs a raised quota."""


class ComputeConfig(Frozen):
    """`compute`: a word, or fields; what is None is the stack's setting.

    `service` says where; `auto` decides by the quote. The others are about SageMaker: `instance` type and their
    `count`, `spot` for spare capacity, `hours` that a job may run (with spot, twice as many until it has).
    """

    service: Compute | Literal["auto"] = "lambda"
    instance: Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", max_length=60, strict=True)] | None = None
    count: Annotated[Integer, Field(ge=1, le=MAX_INSTANCES)] | None = None
    spot: Flag | None = None
    hours: Annotated[Number, Field(gt=0, le=MAX_HOURS)] | None = None


def _word(value: object) -> object:
    """One word is the service."""
    return {"service": value} if isinstance(value, str) else value


ComputeField = Annotated[ComputeConfig, BeforeValidator(_word)]
