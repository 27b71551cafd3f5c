import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shoal_core.data.images.loading import load_image
from shoal_core.data.images.png import quick_png
from shoal_core.errors import BadImage
from tests.unit.data.images.cases import photo, png_chunk, png_file, save, scans

HARMLESS = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", bytes(32)),
    (b"sRGB", b"\0"),
    (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
]


def rows(picture: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in picture]


@pytest.mark.parametrize("picture", [*scans()[:20], photo(), photo()[..., 0]], ids=lambda picture: str(picture.shape))
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"compress_level": 0}, {"compress_level": 1}])
def test_pixels_are_those_of_the_long_way(picture, options):
    data = save(picture, "PNG", **options)
    quick = quick_png(data)
    assert quick is not None
    np.testing.assert_array_equal(np.asarray(quick), picture)
    np.testing.assert_array_equal(np.asarray(load_image(data, "x")), picture)


def test_an_image_to_decode_into_is_used_again():
    scratch: dict[tuple[str, int, int], Image.Image] = {}
    for picture in (*scans()[:5], photo(), *scans()[5:10]):
        quick = quick_png(save(picture, "PNG"), scratch)
        np.testing.assert_array_equal(np.asarray(quick), picture)
    assert len(scratch) == 1


def test_chunks_that_change_no_pixel_are_passed():
    data = png_file(2, 8, rows(photo()), 72, *HARMLESS)
    np.testing.assert_array_equal(np.asarray(quick_png(data)), photo())


@pytest.mark.parametrize(
    ("kind", "depth", "chunks"),
    [
        (0, 8, [(b"tRNS", b"\0\7")]),
        (0, 8, [(b"eXIf", b"MM\0*" + bytes(8))]),
        (0, 8, [(b"tEXt", b"Raw profile type exif\0")]),
        (0, 8, [(b"gAMA", b"\0\0")]),
        (0, 16, []),
        (4, 8, []),
        (3, 8, [(b"PLTE", bytes(768))]),
    ],
)
def test_what_could_change_pixels_goes_the_long_way(kind, depth, chunks):
    width = 8 // (depth // 8) // (2 if kind == 4 else 1)
    assert quick_png(png_file(kind, depth, rows(scans()[0]), width, *chunks)) is None


def test_interlaced_and_several_data_chunks_go_the_long_way():
    data = bytearray(save(scans()[0], "PNG"))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert quick_png(bytes(data)) is None
    whole = save(scans()[0], "PNG")
    end = png_chunk(b"IEND", b"")
    assert quick_png(whole.removesuffix(end) + png_chunk(b"IDAT", b"") + end) is None
    assert quick_png(whole + b"x") is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 19), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4), st.booleans())
def test_damage_never_makes_the_ways_differ(number, changes, cut):
    data = bytearray(save(scans()[number], "PNG"))
    for place, value in changes:
        data[place % len(data)] = value
    if cut:
        del data[-13:-12]
    quick = quick_png(bytes(data))
    if quick is None:
        return
    try:
        slow = load_image(bytes(data), "x")
    except BadImage:
        pytest.fail("the quick way reads what the long way refuses")
    np.testing.assert_array_equal(np.asarray(quick), np.asarray(slow))
