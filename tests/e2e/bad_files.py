"""Bytes of archives, images and tables that something is wrong with, and of good ones beside them."""

from __future__ import annotations

import gzip
import io
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

from PIL import Image

MB = 1024**2
HEADER = "size,colour,price,kind"
NO_IMAGE = b"this is not an image"


def png(number: int, level: int = 0) -> bytes:
    """One of many different grey images of 8 x 8 pixels, around a level of brightness."""
    pixels = bytes(min(255, level + value) for value in random.Random(number).randbytes(64))
    file = io.BytesIO()
    Image.frombytes("L", (8, 8), pixels).save(file, "PNG")
    return file.getvalue()


def images(per_class: int = 12, classes: tuple[str, ...] = ("dark", "light"), root: str = "") -> dict[str, bytes]:
    """Name -> bytes of good images, one folder per class."""
    return {
        f"{root}{label}/{number}.png": png(1000 * place + number, 200 * place)
        for place, label in enumerate(classes)
        for number in range(per_class)
    }


def zip_of(members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return file.getvalue()


def tar_of(members: Mapping[str, bytes], links: Mapping[str, tuple[bytes, str]] | None = None) -> bytes:
    """A tar; `links` are name -> (type, target) of links, devices and pipes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, (kind, target) in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return file.getvalue()


def tar_gz_of(members: Mapping[str, bytes]) -> bytes:
    return gzip.compress(tar_of(members), 1, mtime=0)


def latin_1_tar_of(members: Mapping[str, bytes]) -> bytes:
    """A tar whose names are Latin-1 bytes: not UTF-8."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def declared_bomb() -> bytes:
    """A zip of about 1.5 MB that says itself that it holds 300 MB."""
    return zip_of(_zeros())


def tar_bomb() -> bytes:
    """A tar.gz of about 1.5 MB that holds 300 MB, which shows only in unpacking it."""
    return tar_gz_of(_zeros())


def _zeros() -> dict[str, bytes]:
    data = bytes(60 * MB)
    return {f"{label}/{number}.png": data for number, label in enumerate("ababa")}


def lying_bomb(good: Mapping[str, bytes]) -> bytes:
    """A zip whose first member says 100 bytes in both of its headers and unpacks to 200 MB."""
    data = bytearray(zip_of({"dark/bomb.png": bytes(200 * MB), **good}))
    struct.pack_into("<I", data, 22, 100)
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 100)
    return bytes(data)


def damaged_member(good: Mapping[str, bytes]) -> bytes:
    """A zip with one member whose bytes were changed on the way."""
    data = bytearray(zip_of({"dark/damaged.png": random.Random(0).randbytes(500), **good}))
    data[200] ^= 0xFF
    return bytes(data)


def huge_pixels() -> bytes:
    """A PNG of a few bytes that says it has 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunks = b""
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        chunks += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


def rows(count: int = 40) -> list[str]:
    """CSV rows of `HEADER`; the kind follows from the size."""
    found = []
    for number in range(count):
        size = number * 7 % 41
        kind = "big" if size > 20 else "small"
        found.append(f"{size},{('red', 'blue')[number % 2]},{size * 1.5 + number % 3},{kind}")
    return found


def csv_of(lines: list[str], header: str = HEADER) -> bytes:
    return "\n".join([header, *lines, ""]).encode()
