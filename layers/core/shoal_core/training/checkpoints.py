"""Checkpoints and updates: what rounds hand to each other, as safetensors files with equal bytes for equal content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Compression
from shoal_core.data.shards import Tensors, decode_shard, encode_shard, read_metadata
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen
from shoal_core.training.class_metrics import Score

PARAMETER = "param."
STATE = "state."
BUFFER = "buffer."
GRADIENT = "gradient."
MOMENTUM = "momentum."
_METADATA = "shoal"
_FIX = "Delete the object and start the run again: it resumes at the last committed round."


class Progress(Frozen):
    """How the run has done so far, for early stopping.

    `best_round` is 0 until a round was scored; `stale_rounds` counts the rounds since the best one.
    """

    best_round: int = 0
    best_score: Score | None = None
    stale_rounds: int = 0

    def after(self, round_: int, score: Score) -> Progress:
        """The progress when `round_` reached `score`. An equal score doesn't beat the earlier round."""
        if self.best_score is None or score > self.best_score:
            return Progress(best_round=round_, best_score=score)
        return self.model_copy(update={"stale_rounds": self.stale_rounds + 1})


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round; round 0 is the initial state.

    Args:
        run_id: The run.
        round: Rounds done.
        step: Local steps done by each worker.
        parameters: Name -> float32 array.
        state: `<slot>.<name>` -> float32 array, the optimizer's.
        momentum: Name -> float32 array, the outer momentum; empty when the run has none.
        progress: Scores so far.
        buffers: Name -> float32 array, what training renews without a gradient, such as running statistics.
    """

    run_id: str
    round: int
    step: int
    parameters: Tensors
    state: Tensors
    momentum: Tensors = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    buffers: Tensors = field(default_factory=dict)

    def encode(self) -> bytes:
        """The file's bytes."""
        header = _CheckpointHeader(run_id=self.run_id, round=self.round, step=self.step, progress=self.progress)
        groups = {PARAMETER: self.parameters, STATE: self.state, MOMENTUM: self.momentum, BUFFER: self.buffers}
        return encode_groups(header, groups)

    @classmethod
    def decode(cls, data: bytes, name: str) -> Checkpoint:
        """Read a checkpoint; arrays are read-only views of `data`.

        Args:
            data: The file.
            name: What to call it in errors: its key.

        Raises:
            BadInput: Cut short, damaged, or not a checkpoint.
        """
        header = decode_header(data, name, _CheckpointHeader)
        groups = decode_groups(data, name, dict.fromkeys((PARAMETER, STATE, MOMENTUM, BUFFER), np.float32))
        return cls(
            run_id=header.run_id,
            round=header.round,
            step=header.step,
            parameters=groups[PARAMETER],
            state=groups[STATE],
            momentum=groups[MOMENTUM],
            progress=header.progress,
            buffers=groups[BUFFER],
        )


@dataclass(frozen=True)
class Update:
    """What one worker made of a checkpoint in one round: new values, or where gradients are averaged, a gradient.

    Args:
        run_id: The run.
        round: The round that it belongs to (1 is the first).
        worker: The worker, from 0.
        parameters: Name -> float32 array, after the local steps; empty beside gradients.
        state: `<slot>.<name>` -> float32 array, the optimizer's, after the local steps; empty beside gradients.
        weight: Samples in the worker's shards: its say in the average of new values.
        samples: Samples that its steps saw.
        loss_sum: Sum of the samples' losses over all local steps.
        steps: Local steps.
        buffers: Name -> float32 array, after the local steps.
        gradients: Name -> float32 array, the loss's gradient at the checkpoint.
        counted: Samples that the gradients are the mean over: their say in the average of gradients.
    """

    run_id: str
    round: int
    worker: int
    parameters: Tensors
    state: Tensors
    weight: int
    samples: int
    loss_sum: float
    steps: int
    buffers: Tensors = field(default_factory=dict)
    gradients: Tensors = field(default_factory=dict)
    counted: int = 0

    def encode(self) -> bytes:
        """The file's bytes."""
        groups = {PARAMETER: self.parameters, STATE: self.state, BUFFER: self.buffers, GRADIENT: self.gradients}
        return encode_groups(self.header(), groups)

    def header(self, compression: Compression = "none") -> UpdateHeader:
        """What the update's file says beside its tensors."""
        return UpdateHeader(
            run_id=self.run_id,
            round=self.round,
            worker=self.worker,
            weight=self.weight,
            samples=self.samples,
            loss_sum=self.loss_sum,
            steps=self.steps,
            compression=compression,
            counted=self.counted,
        )

    @classmethod
    def decode(cls, data: bytes, name: str) -> Update:
        """Read an update; arrays are read-only views of `data`. Raises `BadInput` as `Checkpoint.decode` does."""
        header = decode_header(data, name, UpdateHeader)
        groups = decode_groups(data, name, dict.fromkeys((PARAMETER, STATE, BUFFER, GRADIENT), np.float32))
        return cls.of(header, groups[PARAMETER], groups[STATE], groups[BUFFER], groups[GRADIENT])

    @classmethod
    def of(
        cls, header: UpdateHeader, parameters: Tensors, state: Tensors, buffers: Tensors, gradients: Tensors
    ) -> Update:
        """The update that a header and its tensors make."""
        return cls(
            run_id=header.run_id,
            round=header.round,
            worker=header.worker,
            parameters=parameters,
            state=state,
            weight=header.weight,
            samples=header.samples,
            loss_sum=header.loss_sum,
            steps=header.steps,
            buffers=buffers,
            gradients=gradients,
            counted=header.counted,
        )


class _Header(Frozen):
    """What every file of a run says."""

    schema_version: int = 1
    run_id: str
    round: int


class _CheckpointHeader(_Header):
    step: int
    progress: Progress


class UpdateHeader(_Header):
    """What an update's file says beside its tensors."""

    worker: int
    weight: int
    samples: int
    loss_sum: float
    steps: int
    compression: Compression = "none"
    counted: int = 0


_AnyHeader = TypeVar("_AnyHeader", bound=_Header)


def encode_groups(header: _Header, groups: Mapping[str, Tensors]) -> bytes:
    """A file of tensors by prefix, with a header."""
    tensors = {prefix + name: array for prefix, group in groups.items() for name, array in group.items()}
    return encode_shard(tensors, {_METADATA: canonical_json(header.model_dump(mode="json")).decode()})


def decode_header(data: bytes, name: str, kind: type[_AnyHeader]) -> _AnyHeader:
    """The header of a file. Raises `BadInput`."""
    text = read_metadata(data, name).get(_METADATA)
    if text is None:
        raise BadInput(f"{name} isn't a file of a training run: it has no header.", _FIX)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BadInput(f"{name} has a broken header: {where}: {problem['msg']}.", _FIX) from error


def decode_groups(data: bytes, name: str, dtypes: Mapping[str, type[np.generic]]) -> dict[str, Tensors]:
    """The tensors of a file by prefix; `dtypes` says which prefixes there may be. Raises `BadInput`."""
    groups: dict[str, Tensors] = {prefix: {} for prefix in dtypes}
    for key, array in decode_shard(data, name).items():
        prefix = next((prefix for prefix in dtypes if key.startswith(prefix)), None)
        if prefix is None or array.dtype != dtypes[prefix]:
            raise BadInput(f"{name} holds an unexpected tensor {key!r} ({array.dtype}).", _FIX)
        groups[prefix][key.removeprefix(prefix)] = array
    return groups
