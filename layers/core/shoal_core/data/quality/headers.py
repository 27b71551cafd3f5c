"""What uploaded images were like before they were fitted: format, size and colour mode, read from their headers.

Sources: W3C, PNG Specification, third edition (IHDR); ITU-T T.81 (JPEG frame headers); CompuServe, GIF89a; Microsoft,
BITMAPINFOHEADER. Of other formats the name alone is told.
"""

from __future__ import annotations

import struct

from shoal_core.data.report import DropTally

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 26  # signature, chunk header, width, height, bit depth, colour type
_PNG_MODES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_JPEG_MODES = {1: "grey", 3: "RGB", 4: "CMYK"}
_OTHERS = ((b"RIFF", "WebP"), (b"II", "TIFF"), (b"MM", "TIFF"))
Header = tuple[str, str, str]
"""Format, `width x height` and colour mode; '' for what isn't known."""


class ImageSources:
    """Counts what images were like; a dictionary's step per image, so that encoding isn't slowed down."""

    def __init__(self) -> None:
        self._headers: dict[bytes, int] = {}
        self._others: dict[Header, int] = {}

    def add(self, data: bytes) -> None:
        """Count one image file that could be decoded."""
        if data.startswith(_PNG):
            header = data[:_PNG_HEADER]
            self._headers[header] = self._headers.get(header, 0) + 1
        else:
            other = read_header(data)
            self._others[other] = self._others.get(other, 0) + 1

    def tell(self, drops: DropTally) -> None:
        """Give the counts to the work item's tally."""
        counts = [(read_header(header), count) for header, count in self._headers.items()]
        for (form, size, mode), count in (*counts, *self._others.items()):
            for what, value in (("format", form), ("size", size), ("mode", mode)):
                if value:
                    drops.observe(what, value, count)


def read_header(data: bytes) -> Header:
    """What a file's header tells."""
    try:
        if data.startswith(_PNG):
            width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
            return "PNG", f"{width} x {height}", _PNG_MODES.get(kind, "") + (" 16 bit" if depth == 16 else "")
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", data, 6)
            return "GIF", f"{width} x {height}", "palette"
        if data.startswith(b"BM"):
            width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
            return "BMP", f"{abs(width)} x {abs(height)}", f"{bits} bit"
    except struct.error:
        return "", "", ""
    return next((form for start, form in _OTHERS if data.startswith(start)), ""), "", ""


def _jpeg(data: bytes) -> Header:
    """Walk the segments up to the frame header (SOF0 to SOF15, but for DHT, JPG and DAC)."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", data, place + 5)
            return "JPEG", f"{width} x {height}", _JPEG_MODES.get(channels, "")
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return "JPEG", "", ""
