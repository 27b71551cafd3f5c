"""What the nodes of a pipeline do that aren't models: arrays in, arrays out, the first axis being the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shoal_core.errors import BadRequest

Box = tuple[float, float, float, float]
_FIRST_PIECE = 2
_SMALL = 1e-12


def resize(images: NDArray[Any], size: tuple[int, int], color: Literal["rgb", "grey"] | None = None) -> NDArray[Any]:
    """Images uint8 [N, C, H, W] in another size (height, width) and colour."""
    whole = (0.0, 0.0, float(images.shape[3]), float(images.shape[2]))
    return _taken(images, [whole] * len(images), size, color)


def normalize(
    images: NDArray[Any], range_: tuple[float, float], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Images uint8 [N, C, H, W] as float32: 0..255 becomes `range_`, less each channel's mean, by its deviation."""
    low, high = range_
    channels = [np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (mean, std)]
    scaled = images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    normalized: NDArray[np.float32] = (scaled - channels[0]) / channels[1]
    return normalized


def crop(
    images: NDArray[Any],
    masks: NDArray[Any],
    size: tuple[int, int],
    *,
    threshold: float,
    margin: float,
    square: bool,
    color: Literal["rgb", "grey"] | None = None,
) -> NDArray[Any]:
    """The part of each image where its mask is high, in one size.

    Args:
        images: uint8 [N, C, H, W].
        masks: float [N, 1, h, w] or [N, h, w], of any size: it is laid over the image.
        size: Height and width of what comes out.
        threshold: Of the way from the mask's lowest to its highest value.
        margin: Share of the box's longer side that is added around it.
        square: Whether the box's shorter side is widened.
        color: Of what comes out; None as it was.
    """
    height, width = images.shape[2:]
    flat = masks.reshape(len(masks), *masks.shape[-2:])
    boxes = [_box(mask, width, height, threshold, margin, square) for mask in flat]
    return _taken(images, boxes, size, color)


def pieces(tokens: NDArray[Any], padding: int) -> dict[str, NDArray[np.int64]]:
    """Tokens int32 [N, L] (0 is padding, else 2 + the piece) as encoders take them; all-padding columns are cut."""
    there = tokens > 0
    used = max(1, int(np.flatnonzero(there.any(axis=0)).max(initial=0)) + 1)
    ids = np.where(there, tokens - _FIRST_PIECE, padding)[:, :used].astype(np.int64)
    mask = there[:, :used].astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def pool(
    vectors: NDArray[Any], mask: NDArray[Any] | None, method: Literal["mean", "first"], unit: bool
) -> NDArray[np.float32]:
    """One vector per sample of vectors [N, L, W], of length 1 where `unit`. Raises `BadRequest` for other shapes."""
    if vectors.ndim != 3:
        raise BadRequest(f"A pool of vectors takes [N, L, W], not {list(vectors.shape)}.", "Pool another output.")
    if method == "first":
        pooled = vectors[:, 0]
    else:
        weights = np.ones(vectors.shape[:2], np.float32) if mask is None else mask.astype(np.float32)
        count = np.maximum(weights.sum(axis=1, keepdims=True), 1)
        pooled = np.einsum("nlw,nl->nw", vectors, weights / count)
    if unit:
        pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), _SMALL)
    return pooled.astype(np.float32)


def _box(mask: NDArray[Any], width: int, height: int, threshold: float, margin: float, square: bool) -> Box:
    """Where the mask is high, in pixels of the image: left, top, right, bottom."""
    low, high = float(mask.min()), float(mask.max())
    whole = (0.0, 0.0, float(width), float(height))
    if not (high > low):
        return whole
    above = mask >= low + threshold * (high - low)
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    down, across = height / mask.shape[0], width / mask.shape[1]
    left, right = columns[0] * across, (columns[-1] + 1) * across
    top, bottom = rows[0] * down, (rows[-1] + 1) * down
    around = margin * max(right - left, bottom - top)
    sides = [right - left + 2 * around, bottom - top + 2 * around]
    if square:
        sides = [max(sides)] * 2
    middle = (left + right) / 2, (top + bottom) / 2
    # A box that leaves the image is cut at its edge rather than moved: what is in the middle stays there.
    return (
        float(max(0.0, middle[0] - sides[0] / 2)),
        float(max(0.0, middle[1] - sides[1] / 2)),
        float(min(width, middle[0] + sides[0] / 2)),
        float(min(height, middle[1] + sides[1] / 2)),
    )


def _taken(
    images: NDArray[Any], boxes: Sequence[Box], size: tuple[int, int], color: Literal["rgb", "grey"] | None
) -> NDArray[Any]:
    """The boxes of the images, each in the same size."""
    height, width = size
    modes = {"rgb": "RGB", "grey": "L"}
    taken = []
    for array, box in zip(images, boxes, strict=True):
        image = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
        if color is not None and image.mode != modes[color]:
            image = image.convert(modes[color])
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box), np.uint8)
        taken.append(resized[np.newaxis] if resized.ndim == 2 else resized.transpose(2, 0, 1))
    return np.stack(taken)
