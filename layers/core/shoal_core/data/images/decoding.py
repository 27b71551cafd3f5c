"""Image files: PNG, JPEG, WebP, BMP, GIF (first frame) and TIFF to uint8 tensors, and the size a set should have.

Alpha is laid over white; 16-bit grey is scaled to 8 bits; EXIF orientation is applied; resizing is bilinear with
antialiasing (Pillow's `BILINEAR`, whose filter widens when it shrinks).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shoal_core.errors import BadImage

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FORMAT_LIST = "PNG, JPEG, WebP, BMP, GIF or TIFF"
MAX_PIXELS = 50_000_000
MAX_INFERRED_SIDE = 64

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})


@dataclass(frozen=True)
class ImageSize:
    """Height and width in pixels after EXIF orientation, and whether every pixel is grey."""

    height: int
    width: int
    grey: bool


def decode_image(data: bytes, height: int, width: int, channels: int, name: str = "The image") -> NDArray[np.uint8]:
    """Decode one image file.

    Args:
        data: The file.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        name: What to call the image in errors.

    Returns:
        uint8 [channels, height, width].

    Raises:
        BadImage: Empty, of another format, damaged, or more than `MAX_PIXELS` pixels.
    """
    image = _load(data, name)
    try:
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(image, np.uint8)
    except _DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    return np.ascontiguousarray(array[np.newaxis] if channels == 1 else array.transpose(2, 0, 1))


def measure_image(data: bytes, name: str = "The image") -> ImageSize:
    """Decode one image file to learn its size and whether it is grey. Raises `BadImage` as `decode_image` does."""
    image = _load(data, name)
    grey = image.mode in _GREY_MODES
    if not grey:
        array = np.asarray(image.convert("RGB"))
        grey = bool((array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all())
    return ImageSize(image.height, image.width, grey)


def infer_size(sizes: Iterable[ImageSize], largest: int = MAX_INFERRED_SIDE) -> tuple[int, int, int]:
    """Height, width and channels for a set, from a sample of it.

    The most common size (the larger one where two are as common), scaled down so that no side exceeds `largest`; one
    channel when every image of the sample is grey. `sizes` must not be empty.
    """
    found = list(sizes)
    counts = Counter((size.height, size.width) for size in found)
    height, width = max(counts, key=lambda size: (counts[size], size[0] * size[1], size))
    scale = min(1.0, largest / max(height, width))
    return (
        max(1, round(height * scale)),
        max(1, round(width * scale)),
        1 if all(size.grey for size in found) else 3,
    )


def _load(data: bytes, name: str) -> Image.Image:
    """Decode to mode L or RGB, upright."""
    if not data:
        raise BadImage(f"{name} is empty.", "Upload the whole file.")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except _DECODER_ERRORS as error:
        raise BadImage(f"{name} isn't an image that can be read.", f"Save it as {FORMAT_LIST}.") from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(name)
    if image.width < 1 or image.height < 1:
        raise BadImage(f"{name} has no pixels.", f"Save it as {FORMAT_LIST}.")
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise BadImage(f"{name} has floating-point pixels.", "Save it with 8 or 16 bits per channel.")
        return _flatten(image)
    except _DECODER_ERRORS as error:
        raise _damaged(name, error) from error


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow opens some of it as 32-bit integers, and its own conversion clips instead of scaling.
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La", "L")
        overlay = image.convert("RGBA")
        white = Image.new("RGBA", overlay.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, overlay).convert("L" if grey else "RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _damaged(name: str, error: BaseException) -> BadImage:
    return BadImage(f"{name} is damaged: {str(error)[:120] or type(error).__name__}.", "Save the image again.")


def _too_many_pixels(name: str) -> BadImage:
    return BadImage(f"{name} has more than {MAX_PIXELS:,} pixels.", "Scale it down before uploading.")
