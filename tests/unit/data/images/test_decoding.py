import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from shoal_core.data.images import loading
from shoal_core.data.images.decoding import ImageSize, decode_image, infer_size, measure_image
from shoal_core.data.spec import PreprocessingSpec, TargetSpec
from shoal_core.errors import BadImage
from tests.unit.data.images.cases import form, photo, png_file, save, scans


def png(array: np.ndarray) -> bytes:
    return save(array, "PNG")


def grey_png(seed: int) -> bytes:
    return png(scans()[seed])


def decode(data: bytes, height: int, width: int, channels: int, name: str = "The image") -> np.ndarray:
    return decode_image(data, form(height, width, channels), name)


RED = np.zeros((6, 9, 3), np.uint8)
RED[..., 0] = 200


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(save(Image.fromarray(RED), kind, **options), 6, 9, 3)
    assert found.shape == (3, 6, 9) and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), RED.transpose(2, 0, 1), atol=3)


def test_grey_of_red_is_its_luma():
    assert (decode(png(RED), 6, 9, 1) == round(200 * 0.299)).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "L"])
def test_modes_become_rgb_and_grey(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    data = save(Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode), kind)
    for channels in (1, 3):
        assert (decode(data, 4, 5, channels) >= 254).all()


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    found = decode(save(Image.fromarray(deep), "PNG"), 1, 4, 1)
    np.testing.assert_array_equal(found[0, 0], [0, 1, 128, 255])


def test_transparency_lies_over_white():
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (decode(png(clear), 2, 2, 3) == 255).all()


def test_exif_orientation_is_applied():
    image = Image.new("L", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    assert measure_image(save(image, "PNG", exif=exif)) == ImageSize(4, 2, True)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("L", (3, 3), shade) for shade in (10, 200)]
    data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(data, 3, 3, 1) == 10).all()


def test_resizing_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = decode(png(board), 8, 8, 1)
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
        decode(data, 8, 8, 1, "'cats/1.png'")
    assert "cats/1.png" in caught.value.reason
    assert caught.value.fix


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(loading, "MAX_PIXELS", 60)
    with pytest.raises(BadImage, match="more than 60 pixels"):
        decode(save(photo(), "JPEG"), 8, 8, 1)


def test_a_decompression_bomb_is_refused():
    with pytest.raises(BadImage, match="pixels"):
        decode(save(Image.new("1", (20_000, 20_000)), "PNG"), 8, 8, 1)


def test_size_is_the_most_common_and_capped():
    sizes = [ImageSize(300, 200, False)] * 3 + [ImageSize(8, 8, True)]
    assert infer_size(sizes) == (64, 43, 3)
    assert infer_size([ImageSize(8, 8, True)] * 2) == (8, 8, 1)
    assert measure_image(png(RED)) == ImageSize(6, 9, False)
    assert measure_image(png(np.full((2, 2, 3), 7, np.uint8))).grey


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("PNG", {}, 0),
        ("PNG", {"optimize": True}, 0),
        ("BMP", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_deflate"}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 25),
        ("JPEG", {"quality": 98, "subsampling": 0}, 2),
    ],
)
def test_photographs_come_back(kind, options, error):
    found = decode(save(photo(), kind, **options), 48, 72, 3).transpose(1, 2, 0)
    assert abs(found.astype(int) - photo()).mean() <= error


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(orientation, kind):
    image = Image.fromarray(photo())
    exif = image.getexif()
    exif[0x0112] = orientation
    data = save(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    plain = Image.open(io.BytesIO(save(image, kind, **({"lossless": True} if kind == "WEBP" else {}))))
    plain = plain.convert("RGB")
    turn = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_90],
    }
    for step in turn.get(orientation, []):
        plain = plain.transpose(step)
    found = decode(data, plain.height, plain.width, 3)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), np.asarray(plain))


def test_sixteen_bit_colour_is_scaled_not_clipped():
    deep = photo().astype(np.uint16) * 257
    data = png_file(2, 16, [row.astype(">u2").tobytes() for row in deep], 72)
    np.testing.assert_array_equal(decode(data, 48, 72, 3).transpose(1, 2, 0), photo())
    veiled = np.concatenate([deep, np.full((48, 72, 1), 65535, np.uint16)], -1)
    data = png_file(6, 16, [row.astype(">u2").tobytes() for row in veiled], 72)
    np.testing.assert_array_equal(decode(data, 48, 72, 3).transpose(1, 2, 0), photo())


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiffs(order):
    deep = photo().astype(np.uint16) * 257
    found = decode(tiff(deep, order), 48, 72, 3)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), photo())
    found = decode(tiff(deep[..., :1], order), 48, 72, 1)
    np.testing.assert_array_equal(found[0], photo()[..., 0])


def tiff(pixels: np.ndarray, order: str, photometric: int | None = None) -> bytes:
    """An uncompressed TIFF of uint8 or uint16 [H,W,C], written by hand."""
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    data = pixels.astype(f"{order}u{bits // 8}").tobytes()
    photometric = photometric if photometric is not None else 2 if channels == 3 else 1
    start = 8
    depths = struct.pack(f"{order}{channels}H", *[bits] * channels)
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, bits if channels == 1 else start + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, start),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
        directory += struct.pack(f"{order}HHI", tag, kind, count) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", start + len(data) + len(depths)) + data + depths + directory + bytes(4)


def test_lab_is_what_a_colour_engine_makes_of_it():
    lab_profile, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    to_lab = ImageCms.buildTransform(srgb, lab_profile, "RGB", "LAB")
    back = ImageCms.buildTransform(lab_profile, srgb, "LAB", "RGB")
    # Bytes of L*a*b* are coarse where a colour is nearly saturated.
    lab = ImageCms.applyTransform(Image.fromarray(photo() // 2 + 64), to_lab)
    expected = np.asarray(ImageCms.applyTransform(lab, back))
    found = decode(save(lab, "TIFF"), 48, 72, 3).transpose(1, 2, 0)
    np.testing.assert_allclose(found.astype(int), expected, atol=14)
    assert abs(found.astype(int) - expected).mean() < 1


def test_cmyk_photographs_come_back():
    image = Image.fromarray(photo()).convert("CMYK")
    for kind, options, atol in (("TIFF", {}, 0), ("JPEG", {"quality": 98}, 30)):
        data = save(image, kind, **options)
        # Pillow, as Photoshop, writes CMYK JPEGs inverted, with Adobe's marker.
        assert kind != "JPEG" or b"Adobe" in data[:100]
        found = decode(data, 48, 72, 3).transpose(1, 2, 0)
        np.testing.assert_allclose(found.astype(int), photo(), atol=atol, err_msg=kind)


def test_palettes_with_transparency_lie_over_white():
    colours = b"\xff\0\0" + b"\0\xff\0" + b"\0\0\xff"
    rows = [bytes([0, 1, 2, 1])]
    data = png_file(3, 8, rows, 4, (b"PLTE", colours), (b"tRNS", b"\xff\0\x80"))
    found = decode(data, 1, 4, 3)[:, 0].T.tolist()
    assert found == [[255, 0, 0], [255, 255, 255], [127, 127, 255], [255, 255, 255]]
    gif = Image.new("P", (2, 1))
    gif.putpalette(colours + bytes(759))
    gif.putpixel((1, 0), 1)
    assert decode(save(gif, "GIF", transparency=1), 1, 2, 3)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]


def test_one_transparent_shade_of_a_grey_image_is_white():
    assert decode(png_file(0, 8, [bytes([9, 7])], 2, (b"tRNS", b"\0\7")), 1, 2, 1)[0, 0].tolist() == [9, 255]
    deep = png_file(0, 16, [b"\x10\0\x20\0"], 2, (b"tRNS", b"\x20\0"))
    assert decode(deep, 1, 2, 1)[0, 0].tolist() == [16, 255]


@pytest.mark.parametrize(("color", "mode"), [("hsv", "HSV"), ("ycbcr", "YCbCr"), ("rgb", "RGB")])
def test_colour_spaces(color, mode):
    found = decode_image(png(photo()), form(48, 72, color=color))
    np.testing.assert_array_equal(found.transpose(1, 2, 0), np.asarray(Image.fromarray(photo()).convert(mode)))


def test_fits_are_what_pillow_makes_of_them():
    image = Image.fromarray(photo())
    data = png(photo())
    half = Image.Resampling.BILINEAR
    covered = decode_image(data, form(24, 24, fit="cover"))
    expected = np.asarray(image.resize((24, 24), half, box=(12, 0, 60, 48)))
    np.testing.assert_array_equal(covered.transpose(1, 2, 0), expected)
    padded = decode_image(data, form(36, 36, fit="pad")).transpose(1, 2, 0)
    expected = np.asarray(ImageOps.pad(image, (36, 36), half, color=(0, 0, 0)))
    np.testing.assert_array_equal(padded, expected)
    middle = decode_image(data, form(24, 36, crop=0.5)).transpose(1, 2, 0)
    np.testing.assert_array_equal(middle, photo()[12:36, 18:54])


def test_the_spec_decodes_as_training_does():
    spec = PreprocessingSpec(
        kind="image",
        image=form(20, 30, color="ycbcr", fit="pad", crop=0.8),
        target=TargetSpec(task="classification", classes=("a", "b")),
    )
    data = save(photo(), "JPEG")
    np.testing.assert_array_equal(spec.encode_image(data), decode_image(data, spec.image))


FILES = {
    "PNG": save(photo(), "PNG"),
    "JPEG": save(photo(), "JPEG"),
    "WEBP": save(photo(), "WEBP"),
    "BMP": save(photo(), "BMP"),
    "GIF": save(Image.fromarray(photo()), "GIF"),
    "TIFF": save(photo(), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_short_is_refused(kind):
    data = FILES[kind]
    for share in (0.01, 0.1, 0.4):
        with pytest.raises(BadImage) as caught:
            decode(data[: int(len(data) * share)], 8, 8, 3, "'a/1'")
        assert "a/1" in caught.value.reason and caught.value.fix


@pytest.mark.parametrize("kind", FILES)
def test_damage_is_told_or_decoded_and_never_crashes(kind):
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(FILES[kind])
        for place in random.integers(0, len(data), 6):
            data[place] = random.integers(256)
        try:
            assert decode(bytes(data), 8, 8, 3).shape == (3, 8, 8)
        except BadImage as error:
            assert error.reason and error.fix


@pytest.mark.parametrize("kind", FILES)
def test_the_bytes_tell_the_format_not_the_name(kind):
    named = decode(FILES[kind], 8, 8, 3, "'a/1.png'")
    np.testing.assert_array_equal(named, decode(FILES[kind], 8, 8, 3))


@pytest.mark.parametrize(
    "data",
    [
        # A PNG, a BMP and a GIF that say they are huge.
        png_file(0, 8, [b"\0"], 30_000)[:16] + struct.pack(">II", 30_000, 30_000) + FILES["PNG"][24:],
        FILES["BMP"][:18] + struct.pack("<ii", 20_000, 20_000) + FILES["BMP"][26:],
        FILES["GIF"][:6] + struct.pack("<HH", 60_000, 60_000) + FILES["GIF"][10:],
    ],
)
def test_huge_sizes_are_refused_unread(data):
    with pytest.raises(BadImage, match=r"pixels|read"):
        decode(data, 8, 8, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16_383).to_bytes(3, "little") * 2,
        b"RIFF\x40\0\0\0WEBPVP8L\x20\0\0\0\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little"),
    ],
)
def test_a_webp_of_too_many_pixels_is_refused(data):
    with pytest.raises(BadImage, match="more than"):
        decode(data, 8, 8, 3)


def test_numbers_of_32_bits_are_refused():
    deep = Image.fromarray(np.array([[0, 70_000]], np.int32))
    with pytest.raises(BadImage, match="16 bits"):
        decode(save(deep, "TIFF"), 1, 2, 1)


def test_text_that_unpacks_to_gigabytes_is_refused():
    bomb = zlib.compress(bytes(80 * 1024**2))
    data = png_file(0, 8, [b"\0" * 4], 4, *[(b"zTXt", b"k\0\0" + bomb)])
    with pytest.raises(BadImage):
        decode(data, 1, 4, 1)
