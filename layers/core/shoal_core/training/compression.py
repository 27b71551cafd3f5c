"""Smaller updates: a worker's way from the checkpoint, or its gradient, in 2 or 1 bytes a value, with error feedback.

What rounding loses in one round is added to the worker's way in the next (F. Seide et al., "1-Bit Stochastic Gradient
Descent", Interspeech 2014; S. Karimireddy et al., "Error Feedback Fixes SignSGD", ICML 2019). A worker keeps nothing
between rounds, so the loss lies in an object of its own, which only that worker reads: the merge, which reads the
updates of all workers, is what gets faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config_types import Compression
from shoal_core.data.shards import Tensors, decode_shard, encode_shard
from shoal_core.errors import BadInput
from shoal_core.training.checkpoints import (
    BUFFER,
    GRADIENT,
    PARAMETER,
    STATE,
    Checkpoint,
    Update,
    UpdateHeader,
    decode_groups,
    decode_header,
    encode_groups,
)

BLOCK = 1024
"""Values that share a scale with `int8`: large enough to cost nothing, small enough for outliers to stay local."""
_SCALE = "scale."
_CODES: dict[Compression, type[np.generic]] = {"bf16": np.uint16, "int8": np.int8}


def compress(update: Update, before: Checkpoint, lost: Tensors, compression: Compression) -> tuple[bytes, bytes]:
    """Write an update small.

    Parameters become rounded ways from the checkpoint, gradients are rounded themselves; the optimizer's state, which
    is averaged as it is, becomes bfloat16 with both; running statistics stay as they are.

    Args:
        update: The worker's.
        before: The checkpoint that it started from.
        lost: Name -> float32 array, what rounding lost in the round before; empty in the first.
        compression: `bf16` or `int8`.

    Returns:
        The update's file, and the file of what rounding lost this time.
    """
    codes: Tensors = {}
    scales: Tensors = {}
    left: Tensors = {}
    for name, way in _ways(update, before).items():
        if name in lost:
            way = way + lost[name]
        codes[name], scale = _rounded(way, compression)
        if scale is not None:
            scales[name] = scale
        left[name] = to_bfloat16(way - _restored(codes[name], scale))
    state = {name: to_bfloat16(array) for name, array in update.state.items()}
    kind = GRADIENT if update.gradients else PARAMETER
    groups = {kind: codes, _SCALE: scales, STATE: state, BUFFER: update.buffers}
    return encode_groups(update.header(compression), groups), encode_shard(left)


def read_update(data: bytes, name: str, before: Checkpoint) -> Update:
    """Read an update, however it was written.

    Args:
        data: The file.
        name: What to call it in errors: its key.
        before: The checkpoint that it started from.

    Raises:
        BadInput: Cut short, damaged, not an update, or not one of this checkpoint's parameters.
    """
    header = decode_header(data, name, UpdateHeader)
    if header.compression == "none":
        return Update.decode(data, name)
    code = _CODES[header.compression]
    dtypes = {PARAMETER: code, GRADIENT: code, _SCALE: np.float32, STATE: np.uint16, BUFFER: np.float32}
    groups = decode_groups(data, name, dtypes)
    codes, scales = groups[PARAMETER] | groups[GRADIENT], groups[_SCALE]
    found = {key: array.shape for key, array in codes.items()}
    shapes = {key: array.shape for key, array in before.parameters.items()}
    # Of what a round doesn't train, such as a frozen block, there is no gradient.
    if found.items() - shapes.items() or (len(found) < len(shapes) and not groups[GRADIENT]):
        raise BadInput(f"{name} holds other parameters than the checkpoint.", "Delete it and run its worker again.")
    ways = {key: _restored(array, scales.get(key)) for key, array in codes.items()}
    state = {key: from_bfloat16(array) for key, array in groups[STATE].items()}
    if groups[GRADIENT]:
        return Update.of(header, {}, state, groups[BUFFER], ways)
    parameters = {key: before.parameters[key] + way for key, way in ways.items()}
    return Update.of(header, parameters, state, groups[BUFFER], {})


def read_lost(data: bytes, name: str) -> Tensors:
    """Read what rounding lost: name -> float32 array. Raises `BadInput`."""
    return {key: from_bfloat16(code) for key, code in decode_shard(data, name).items()}


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper half of float32, rounded to nearest, ties to even. NaN isn't kept: updates are finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(codes: NDArray[Any]) -> NDArray[np.float32]:
    """The float32 values of `to_bfloat16`'s codes."""
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _ways(update: Update, before: Checkpoint) -> Tensors:
    """What an update is about: its gradients, or the way from the checkpoint."""
    if update.gradients:
        return update.gradients
    return {name: after - before.parameters[name] for name, after in update.parameters.items()}


def _rounded(values: NDArray[Any], compression: Compression) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Codes of the values' shape and, for int8, the scale of each block of the flattened values."""
    if compression == "bf16":
        return to_bfloat16(values), None
    blocks = np.zeros((-(-values.size // BLOCK), BLOCK), np.float32)
    blocks.ravel()[: values.size] = values.ravel()
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    # A block of zeros, or of values so small that their scale underflows, is sent as zeros.
    steps = np.divide(blocks, scales[:, np.newaxis], out=np.zeros_like(blocks), where=scales[:, np.newaxis] > 0)
    codes = np.clip(np.rint(steps), -127, 127).astype(np.int8)
    return codes.ravel()[: values.size].reshape(values.shape), scales


def _restored(codes: NDArray[Any], scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if scales is None:
        return from_bfloat16(codes)
    each = np.repeat(scales, BLOCK)[: codes.size]
    return (codes.ravel().astype(np.float32) * each).reshape(codes.shape)
