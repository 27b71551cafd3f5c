"""Geometry: which part of an image is taken, and where it goes in the size that the network takes."""

from __future__ import annotations

from dataclasses import dataclass

from shoal_core.data.config_types import ImageFit


@dataclass(frozen=True)
class Placement:
    """The box of the source that is taken (left, top, right, bottom; fractions of pixels are fine), and its place.

    `width` and `height` are the box's size after resizing, (`left`, `top`) is where it goes; the rest stays black.
    """

    box: tuple[float, float, float, float]
    width: int
    height: int
    left: int = 0
    top: int = 0

    def keeps(self, width: int, height: int) -> bool:
        """Whether an image of that size comes out unchanged."""
        return self.box == (0, 0, width, height) and (self.width, self.height) == (width, height)


def place(source: tuple[int, int], target: tuple[int, int], fit: ImageFit, crop: float) -> Placement:
    """Where a source of (width, height) goes in a target of (width, height).

    First `crop` (a share of each side, around the centre) is cut; then `stretch` fills the target whatever the aspect
    ratio, `pad` fits all of it and leaves black bars, `cover` fills the target with the largest centred part of its
    aspect ratio.
    """
    wide, high = source
    width, height = target
    taken_wide, taken_high = wide * crop, high * crop
    if fit == "cover":
        scale = max(width / taken_wide, height / taken_high)
        taken_wide, taken_high = min(taken_wide, width / scale), min(taken_high, height / scale)
    left, top = (wide - taken_wide) / 2, (high - taken_high) / 2
    box = (left, top, min(wide, left + taken_wide), min(high, top + taken_high))
    if fit != "pad":
        return Placement(box, width, height)
    scale = min(width / taken_wide, height / taken_high)
    inner = min(width, max(1, round(taken_wide * scale))), min(height, max(1, round(taken_high * scale)))
    return Placement(box, *inner, (width - inner[0]) // 2, (height - inner[1]) // 2)
