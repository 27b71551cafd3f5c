import io

import pytest
from PIL import Image

from shoal_core.data.quality.headers import ImageSources, read_header
from shoal_core.data.report import DropTally


def encoded(mode, form, size=(7, 5), **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "form", "expected"),
    [
        ("L", "PNG", ("PNG", "7 x 5", "grey")),
        ("LA", "PNG", ("PNG", "7 x 5", "grey with alpha")),
        ("RGBA", "PNG", ("PNG", "7 x 5", "RGB with alpha")),
        ("P", "PNG", ("PNG", "7 x 5", "palette")),
        ("I;16", "PNG", ("PNG", "7 x 5", "grey 16 bit")),
        ("L", "JPEG", ("JPEG", "7 x 5", "grey")),
        ("RGB", "JPEG", ("JPEG", "7 x 5", "RGB")),
        ("CMYK", "JPEG", ("JPEG", "7 x 5", "CMYK")),
        ("P", "GIF", ("GIF", "7 x 5", "palette")),
        ("RGB", "BMP", ("BMP", "7 x 5", "24 bit")),
        ("RGB", "WEBP", ("WebP", "", "")),
        ("RGB", "TIFF", ("TIFF", "", "")),
    ],
)
def test_a_header_tells_format_size_and_mode(mode, form, expected):
    assert read_header(encoded(mode, form)) == expected


def test_a_progressive_jpeg_with_a_thumbnail_is_read():
    exif = Image.Exif()
    exif[0x010E] = "x" * 500
    assert read_header(encoded("RGB", "JPEG", (300, 200), progressive=True, exif=exif)) == ("JPEG", "300 x 200", "RGB")


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00", b"GIF89a", b"BM"]
)
def test_what_is_cut_short_tells_little(data):
    assert read_header(data)[1:] == ("", "")


def test_counts_by_kind():
    sources, drops = ImageSources(), DropTally()
    for data in (encoded("L", "PNG"), encoded("L", "PNG"), encoded("RGB", "JPEG", (9, 9)), encoded("RGB", "WEBP")):
        sources.add(data)
    sources.tell(drops)
    assert drops.total().observed == {
        "format": {"PNG": 2, "JPEG": 1, "WebP": 1},
        "size": {"7 x 5": 2, "9 x 9": 1},
        "mode": {"grey": 2, "RGB": 1},
    }
