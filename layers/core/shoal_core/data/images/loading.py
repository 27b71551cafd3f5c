"""Image files to upright 8-bit Pillow images: PNG, JPEG, WebP, BMP, GIF (first frame) and TIFF.

EXIF orientation is applied and alpha is laid over white. 16-bit grey is scaled to 8 bits by rounding, 16-bit colour by
its high byte, as Pillow reads it (within one step of rounding). CMYK becomes RGB without a profile, and CIE L*a*b* as
ICC defines it (white D50, adapted to sRGB). Colour profiles are not applied.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shoal_core.errors import BadImage

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMAT_LIST = "PNG, JPEG, WebP, BMP, GIF or TIFF"
MAX_PIXELS = 50_000_000

DECODER_ERRORS = (
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
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
# sRGB's matrix for the white D50, from XYZ: http://www.brucelindbloom.com/Eqn_RGB_XYZ_Matrix.html (Bradford).
_SRGB_FROM_D50 = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
_WHITE_D50 = np.array([0.96422, 1.0, 0.82521])


def load_image(data: bytes, name: str) -> Image.Image:
    """Decode one image file to an upright image of mode L or RGB.

    Args:
        data: The file.
        name: What to call it in errors.

    Raises:
        BadImage: Empty, of another format, damaged, of 32-bit or floating-point pixels, or more than `MAX_PIXELS`.
    """
    image = _open(data, name)
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(name)
    if image.width < 1 or image.height < 1:
        raise BadImage(f"{name} has no pixels.", f"Save it as {FORMAT_LIST}.")
    try:
        image.load()
        if image.mode == "F":
            raise BadImage(f"{name} has floating-point pixels.", "Save it with 8 or 16 bits per channel.")
        return _flatten(ImageOps.exif_transpose(image), name)
    except DECODER_ERRORS as error:
        raise damaged(name, error) from error


def damaged(name: str, error: BaseException) -> BadImage:
    """The error for bytes that a decoder gave up on."""
    return BadImage(f"{name} is damaged: {str(error)[:120] or type(error).__name__}.", "Save the image again.")


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise BadImage(f"{name} is empty.", "Upload the whole file.")
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if kind == "WEBP" and _webp_pixels(data) > MAX_PIXELS:
        # Its decoder reserves memory for the whole canvas before Pillow can look at the size.
        raise _too_many_pixels(name)
    if kind is not None:
        try:
            return Image.open(io.BytesIO(data), formats=(kind,))
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(name) from error
        except DECODER_ERRORS as error:
            raise BadImage(f"{name} isn't an image that can be read.", f"Save it as {FORMAT_LIST}.") from error
    raise BadImage(f"{name} isn't an image that can be read.", f"Save it as {FORMAT_LIST}.")


def _webp_pixels(data: bytes) -> int:
    """Pixels that a WebP's first chunk declares. https://developers.google.com/speed/webp/docs/riff_container"""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return (int.from_bytes(data[24:27], "little") + 1) * (int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and len(data) >= 30:
        return (int.from_bytes(data[26:28], "little") & 0x3FFF) * (int.from_bytes(data[28:30], "little") & 0x3FFF)
    return 0


def _flatten(image: Image.Image, name: str) -> Image.Image:
    """Mode L or RGB, whatever the mode was."""
    if image.mode.startswith("I"):
        return _from_deep_grey(image, name)
    if image.mode == "LAB":
        return Image.fromarray(_srgb_from_lab(np.ascontiguousarray(image)))
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La", "L")
        overlay = image.convert("RGBA")
        white = Image.new("RGBA", overlay.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, overlay).convert("L" if grey else "RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode in _GREY_MODES else "RGB")


def _from_deep_grey(image: Image.Image, name: str) -> Image.Image:
    """16-bit grey to 8 bits. Pillow opens some of it as 32-bit integers, and its own conversion clips."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise BadImage(f"{name} has pixels of more than 16 bits, or negative ones.", "Save it with 8 or 16 bits.")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _srgb_from_lab(lab: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """CIE L*a*b* (white D50; a and b are signed bytes) to sRGB, uint8 [H,W,3] both.

    Source: CIE 15:2004 and IEC 61966-2-1.
    """
    lightness = (lab[..., 0] * (100 / 255) + 16) / 116
    reds, blues = (lab[..., index].view(np.int8).astype(np.float64) for index in (1, 2))
    roots = np.stack([lightness + reds / 500, lightness, lightness - blues / 200], -1)
    small = 6 / 29
    xyz = np.where(roots > small, roots**3, 3 * small**2 * (roots - 4 / 29)) * _WHITE_D50
    linear = np.clip(xyz @ _SRGB_FROM_D50.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return pixels


def _too_many_pixels(name: str) -> BadImage:
    return BadImage(f"{name} has more than {MAX_PIXELS:,} pixels.", "Scale it down before uploading.")
