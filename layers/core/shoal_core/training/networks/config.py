"""What a user may say about a network of their own, and what is kept of one that was fitted to a dataset version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadConfig, BadInput, BadNetwork
from shoal_core.frozen import Frozen
from shoal_core.importing.bounded import Trial
from shoal_core.importing.limits import Limits

RECIPE = "network"
"""The recipe's name."""
MAX_NETWORK_BYTES = 128 * 1024**2
"""A worker of 1,769 MB holds a network's values about seven times: parameters, gradients and the optimizer's state."""
LIMITS = Limits(
    model_bytes=MAX_NETWORK_BYTES,
    tensor_bytes=MAX_NETWORK_BYTES,
    nodes=20_000,
    # The file is only read; what is run is built anew.
    ir_versions=(3, 13),
    cpu_seconds=20,
    wall_seconds=22,
)
"""Of a network; an HTTP request, within which it is tried, has 29 seconds."""
BATCH_FILE = "batch.safetensors"
"""Real samples, beside the network that is tried on them."""
TRIAL = Trial(
    program="shoal_core.training.networks.trial",
    subject="The network",
    doing="be fitted and tried on a few samples",
    late="wasn't fitted and tried on a few samples",
    smaller="Train a smaller network, or on smaller images.",
    refusal=BadNetwork,
)
"""What tries a network: the module of that name."""
_DIGEST_LENGTH = 12


class NetworkConfig(Frozen):
    """`network` in dataset.yaml, or in a run's request, of recipe `network`.

    Attributes:
        sha256: Of the uploaded ONNX file.
        trainable: Names of the tensors to train, divided by commas, `*` for any letters; empty leaves it to Shoal.
        output: The output that answers, where there are several.
        batch_norm: Whether BatchNormalization trains on the batch's own statistics or keeps those of the file.
    """

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    trainable: Annotated[str, Field(max_length=4096)] = ""
    output: Annotated[str, Field(max_length=200)] = ""
    batch_norm: Literal["train", "frozen"] = "train"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Check the settings. Raises `BadConfig` naming the one that is wrong."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            fields = ", ".join(cls.model_fields)
            raise BadConfig(
                f"network.{name}: {first['msg']}.",
                f"Recipe {RECIPE!r} takes {fields}; `shoal train DATASET --network FILE` sets sha256.",
            ) from error

    @property
    def digest(self) -> str:
        """Twelve hex digits that stand for all settings."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()[:_DIGEST_LENGTH]


class NetworkTask(Frozen):
    """What the control plane asks: `inputs` of a dataset version, or to `check` a network for it."""

    task: Literal["inputs", "check"]
    dataset: str
    version: str
    network: dict[str, Any] = Field(default={})


class FittedNetwork(Frozen):
    """`network.json`: the index of a network that was fitted to a dataset version and proven, written last.

    `parameters`, `buffers` and `dropouts` are those of the forward graph, `numbers` is how many numbers are trained,
    `seconds` what a step takes per sample, about. `notes` say what was decided, `warnings` what is to be looked at.
    """

    schema_version: Literal[1] = 1
    config: NetworkConfig
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()
    dropouts: tuple[str, ...] = ()
    numbers: int
    seconds: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The canonical bytes of the index."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> FittedNetwork:
        """Read the index. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The fitted network can't be read: {error}.", "Ask for the run again.") from error
