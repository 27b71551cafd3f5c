"""Every kind of image file, from upload to shards: they hold what Pillow gives, step by step by hand."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.unit.data.builders import Case, tar_of, zip_of
from tests.unit.data.images.cases import photo, png_file, save
from tests.unit.data.images.test_decoding import tiff

SIZE = (30, 20)


def picture(number: int) -> Image.Image:
    """One of many different photographs."""
    return Image.fromarray(np.roll(photo(), (5 * number, 7 * number), (0, 1)))


def veiled(number: int) -> Image.Image:
    """A photograph that fades from left to right."""
    image = picture(number)
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    return image


def turned(number: int, orientation: int) -> Image.Exif:
    exif = picture(number).getexif()
    exif[0x0112] = orientation
    return exif


def deep(number: int) -> np.ndarray:
    """A photograph with 16 bits: uint16 [H,W,3]."""
    return np.asarray(picture(number)).astype(np.uint16) * 251 + 7


def frames(number: int) -> dict[str, object]:
    return {"save_all": True, "append_images": [picture(number + 1), picture(number + 2)]}


def clear_png() -> bytes:
    colours = bytes(value for shade in range(64) for value in (4 * shade, 255 - 4 * shade, shade))
    rows = [bytes((row + column) % 64 for column in range(40)) for row in range(30)]
    return png_file(3, 8, rows, 40, (b"PLTE", colours), (b"tRNS", bytes(4 * shade for shade in range(64))))


FILES = {
    "rgb.png": save(picture(1), "PNG"),
    "optimised.png": save(picture(2), "PNG", optimize=True),
    "grey.png": save(picture(3).convert("L"), "PNG"),
    "one bit.png": save(picture(4).convert("1"), "PNG"),
    "palette.png": save(picture(5).quantize(60), "PNG"),
    "clear palette.png": clear_png(),
    "alpha.png": save(veiled(6), "PNG"),
    "grey alpha.png": save(veiled(7).convert("LA"), "PNG"),
    "16 bit grey.png": save(Image.fromarray(deep(8)[..., 0]), "PNG"),
    "16 bit colour.png": png_file(2, 16, [row.astype(">u2").tobytes() for row in deep(9)], 72),
    "turned.png": save(picture(10), "PNG", exif=turned(10, 6)),
    "rgb.jpg": save(picture(11), "JPEG", quality=90),
    "progressive.jpeg": save(picture(12), "JPEG", progressive=True, quality=60),
    "grey.jpe": save(picture(13).convert("L"), "JPEG"),
    "cmyk.jpg": save(picture(14).convert("CMYK"), "JPEG"),
    "turned.jfif": save(picture(15), "JPEG", exif=turned(15, 5)),
    "lossy.webp": save(picture(16), "WEBP", quality=70),
    "lossless.webp": save(picture(17), "WEBP", lossless=True),
    "alpha.webp": save(veiled(18), "WEBP", lossless=True),
    "moving.webp": save(picture(19), "WEBP", lossless=True, **frames(30)),
    "turned.webp": save(picture(20), "WEBP", lossless=True, exif=turned(20, 3)),
    "rgb.bmp": save(picture(21), "BMP"),
    "palette.bmp": save(picture(22).quantize(200), "BMP"),
    "one bit.bmp": save(picture(23).convert("1"), "BMP"),
    "alpha.bmp": save(veiled(24), "BMP"),
    "raw.tif": save(picture(25), "TIFF"),
    "lzw.tiff": save(picture(26), "TIFF", compression="tiff_lzw"),
    "deflate.tiff": save(picture(27), "TIFF", compression="tiff_deflate"),
    "jpeg.tiff": save(picture(28), "TIFF", compression="jpeg"),
    "cmyk.tif": save(picture(29).convert("CMYK"), "TIFF"),
    "fax.tif": save(picture(33).convert("1"), "TIFF", compression="group4"),
    "palette.tif": save(picture(34).quantize(99), "TIFF"),
    "16 bit.tif": tiff(deep(35)[..., :1], "<"),
    "16 bit, high byte first.tif": tiff(deep(36)[..., 1:2], ">"),
    "pages.tif": save(picture(37), "TIFF", **frames(40)),
    "turned.tif": save(picture(38), "TIFF", exif=turned(38, 8)),
    "palette.gif": save(picture(39), "GIF"),
    "clear.gif": save(picture(43).quantize(64), "GIF", transparency=9),
    "moving.gif": save(picture(44), "GIF", **frames(45)),
    "RGB UNDER ANOTHER NAME.BMP": save(picture(48), "PNG"),
}


def by_hand(data: bytes, mode: str) -> np.ndarray:
    """The first frame, upright, over white, with 8 bits, in that mode and of the size: uint8 [H,W,C]."""
    image = Image.open(io.BytesIO(data))
    image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode in ("LA", "RGBA") or "transparency" in image.info:
        grey = image.mode == "LA"
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("L" if grey else "RGB")
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(image.convert(mode).resize(SIZE, Image.Resampling.BILINEAR))
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("packed", ["zip", "tar.gz", "loose"])
@pytest.mark.parametrize(("color", "mode"), [("rgb", "RGB"), ("grey", "L")])
def test_shards_hold_what_pillow_gives(packed, color, mode):
    files = {f"{'ab'[index % 2]}/{name}": data for index, (name, data) in enumerate(FILES.items())}
    upload = {"zip": {"s.zip": zip_of(files)}, "tar.gz": {"s.tgz": tar_of(files, True)}, "loose": files}[packed]
    case = Case(upload, image_size=SIZE[::-1], image={"color": color}, near_duplicates="off")
    manifest = case.run()
    assert not case.report.drops.counts and sum(manifest.samples.values()) == len(FILES)
    found = {
        (image.transpose(1, 2, 0).tobytes(), int(target))
        for split in ("train", "validation", "test")
        for tensors in (case.tensors(manifest, split),)
        for image, target in zip(tensors["image"], tensors["target"], strict=True)
    }
    expected = {name: (by_hand(data, mode).tobytes(), index % 2) for index, (name, data) in enumerate(FILES.items())}
    assert [name for name, sample in expected.items() if sample not in found] == []
    assert len(found) == len(expected)


@pytest.mark.parametrize("name", FILES)
def test_predict_decodes_the_same(name):
    case = Case(
        {
            f"{label}/{name}": data
            for label, data in (("a", FILES[name]), ("b", FILES["rgb.png"]), ("c", FILES["alpha.bmp"]))
        },
        image_size=SIZE[::-1],
        image={"color": "rgb"},
    )
    found = case.plan().spec.encode_image(FILES[name])
    np.testing.assert_array_equal(found.transpose(1, 2, 0), by_hand(FILES[name], "RGB"))
