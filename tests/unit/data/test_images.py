import io

import numpy as np
import pytest
from PIL import Image

from shoal_core.data.images import decoding
from shoal_core.data.images.decoding import ImageSize, decode_image, infer_size, measure_image
from shoal_core.errors import BadImage
from tests.unit.data.builders import grey_png, png


def save(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


RED = np.zeros((6, 9, 3), np.uint8)
RED[..., 0] = 200


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode_image(save(Image.fromarray(RED), kind, **options), 6, 9, 3)
    assert found.shape == (3, 6, 9) and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), RED.transpose(2, 0, 1), atol=3)


def test_grey_of_red_is_its_luma():
    assert (decode_image(png(RED), 6, 9, 1) == round(200 * 0.299)).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "L"])
def test_modes_become_rgb_and_grey(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    data = save(Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode), kind)
    for channels in (1, 3):
        assert (decode_image(data, 4, 5, channels) >= 254).all()


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    found = decode_image(save(Image.fromarray(deep), "PNG"), 1, 4, 1)
    np.testing.assert_array_equal(found[0, 0], [0, 1, 128, 255])


def test_transparency_lies_over_white():
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (decode_image(png(clear), 2, 2, 3) == 255).all()


def test_exif_orientation_is_applied():
    image = Image.new("L", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    assert measure_image(save(image, "PNG", exif=exif)) == ImageSize(4, 2, True)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("L", (3, 3), shade) for shade in (10, 200)]
    data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(data, 3, 3, 1) == 10).all()


def test_resizing_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = decode_image(png(board), 8, 8, 1)
    assert (abs(found.astype(int) - 127) <= 2).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "isn't an image"),
        (grey_png(1)[:60], "damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "isn't an image"),
        (save(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    ],
)
def test_bad_images(data, words):
    with pytest.raises(BadImage, match=words) as caught:
        decode_image(data, 8, 8, 1, "'cats/1.png'")
    assert "cats/1.png" in caught.value.reason
    assert caught.value.fix


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 60)
    with pytest.raises(BadImage, match="more than 60 pixels"):
        decode_image(grey_png(1), 8, 8, 1)


def test_a_decompression_bomb_is_refused():
    with pytest.raises(BadImage, match="pixels"):
        decode_image(save(Image.new("1", (20_000, 20_000)), "PNG"), 8, 8, 1)


def test_size_is_the_most_common_and_capped():
    sizes = [ImageSize(300, 200, False)] * 3 + [ImageSize(8, 8, True)]
    assert infer_size(sizes) == (64, 43, 3)
    assert infer_size([ImageSize(8, 8, True)] * 2) == (8, 8, 1)
    assert measure_image(png(RED)) == ImageSize(6, 9, False)
    assert measure_image(png(np.full((2, 2, 3), 7, np.uint8))).grey
