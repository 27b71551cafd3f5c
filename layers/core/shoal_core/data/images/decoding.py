"""Image files to uint8 tensors, and the size that a set should have.

Resizing is bilinear with antialiasing (Pillow's `BILINEAR`, whose filter widens when it shrinks). One code path for
`write_shard` and `predict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shoal_core.data.images.fitting import place
from shoal_core.data.images.loading import DECODER_ERRORS, damaged, load_image
from shoal_core.data.images.png import Scratch, quick_png

if TYPE_CHECKING:
    from shoal_core.data.spec import ImageInput

MAX_INFERRED_SIDE = 64
_COLOR_MODES = {"rgb": "RGB", "hsv": "HSV", "ycbcr": "YCbCr"}


@dataclass(frozen=True)
class ImageSize:
    """Height and width in pixels after EXIF orientation, and whether every pixel is grey."""

    height: int
    width: int
    grey: bool


def decode_image(
    data: bytes, form: ImageInput, name: str = "The image", scratch: Scratch | None = None
) -> NDArray[np.uint8]:
    """Decode one image file.

    Args:
        data: The file.
        form: Size, channels (1 is ITU-R 601 luma), colour space, fit and crop.
        name: What to call the image in errors.
        scratch: Images to decode into, where many follow: see `quick_png`.

    Returns:
        uint8 [channels, height, width].

    Raises:
        BadImage: Empty, of another format, damaged, or more than `MAX_PIXELS` pixels.
    """
    array = np.asarray(fit_image(data, form, name, scratch), np.uint8)
    return np.ascontiguousarray(array[np.newaxis] if form.channels == 1 else array.transpose(2, 0, 1))


def fit_image(data: bytes, form: ImageInput, name: str, scratch: Scratch | None = None) -> Image.Image:
    """One image file as a Pillow image of the size and colour space that the network takes. Raises `BadImage`.

    With `scratch` (see `quick_png`), it is good until the next call.
    """
    image = quick_png(data, scratch) or load_image(data, name)
    mode = "L" if form.channels == 1 else "RGB"
    try:
        if image.mode != mode:
            image = image.convert(mode)
        if image.size != (form.width, form.height) or form.crop < 1:
            image = _fit(image, form)
        if form.channels == 3 and form.color != "rgb":
            image = image.convert(_COLOR_MODES[form.color])
    except DECODER_ERRORS as error:
        raise damaged(name, error) from error
    return image


def measure_image(data: bytes, name: str = "The image") -> ImageSize:
    """Decode one image file to learn its size and whether it is grey. Raises `BadImage` as `decode_image` does."""
    image = load_image(data, name)
    grey = image.mode == "L"
    if not grey:
        array = np.asarray(image)
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


def _fit(image: Image.Image, form: ImageInput) -> Image.Image:
    spot = place(image.size, (form.width, form.height), form.fit, form.crop)
    if not spot.keeps(*image.size):
        image = image.resize((spot.width, spot.height), Image.Resampling.BILINEAR, box=spot.box)
    if image.size == (form.width, form.height):
        return image
    canvas = Image.new(image.mode, (form.width, form.height))
    canvas.paste(image, (spot.left, spot.top))
    return canvas
