"""Image files of every kind, and image sets on their way from an upload to tensors, over stores in memory."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from shoal_core.data.archives import read_members
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.images.encoding import encode_images
from shoal_core.data.images.planning import plan_images
from shoal_core.data.plan import Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList
from shoal_core.data.spec import ImageInput
from tests.support.stores import MemoryStore

DIGITS = Path(__file__).parents[4] / "examples/digits/digits.zip"


@cache
def scans(count: int = 60) -> tuple[np.ndarray, ...]:
    """Real scanned digits: grey uint8 [8,8]."""
    data = DIGITS.read_bytes()
    members = read_members(io.BytesIO(data), DIGITS.name, len(data), 0, 2 * count)
    files = [content for member, content in members if member.name.endswith(".png")][:count]
    return tuple(np.asarray(Image.open(io.BytesIO(file)).convert("L")) for file in files)


@cache
def photo(height: int = 48, width: int = 72) -> np.ndarray:
    """A colour picture of real scans, enlarged and tinted: uint8 [H,W,3] with edges, gradients and every brightness."""
    tile = Image.fromarray(np.block([[scans()[8 * row + column] for column in range(6)] for row in range(4)]))
    grey = np.asarray(tile.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([grey, 255 - grey * across, grey * down + 255 * (1 - down)], -1).clip(0, 255).astype(np.uint8)


def save(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def png_file(kind: int, depth: int, rows: list[bytes], width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: colour type, bits, rows without filters, and chunks before the data."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def form(height: int, width: int, channels: int = 3, **options: object) -> ImageInput:
    return ImageInput.model_validate({"height": height, "width": width, "channels": channels, **options})


class ImageCase:
    """One upload of images: planned, and its items encoded."""

    def __init__(self, files: dict[str, bytes], **config: object) -> None:
        self.uploads = MemoryStore({f"datasets/set/{name}": data for name, data in files.items()})
        self.artifacts = MemoryStore()
        sources = tuple(SourceFile(key=key, size=len(data)) for key, data in self.uploads.objects.items())
        self.request = DatasetRequest(
            dataset="set", version="v1", files=sources, config=DatasetConfig.model_validate(config)
        )
        self.files = FileList(self.artifacts, self.request)

    def plan(self) -> Plan:
        return plan_images(self.uploads, self.artifacts, self.request, self.files)

    def encode(self, plan: Plan) -> tuple[dict[str, np.ndarray], DropTally]:
        """All items' tensors, one after the other, and what was left out."""
        drops = DropTally()
        drops.extend(plan.drops)
        parts = [
            encode_images(self.uploads, self.artifacts, self.files, plan, number, drops)
            for number in range(len(plan.items))
        ]
        kept = [part for part in parts if part is not None]
        return {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}, drops

    def encode_one(self, plan: Plan, number: int) -> dict[str, np.ndarray] | None:
        return encode_images(self.uploads, self.artifacts, self.files, plan, number, DropTally())

    def run(self) -> tuple[dict[str, np.ndarray], DropTally]:
        return self.encode(self.plan())


def labelled(tensors: dict[str, np.ndarray], plan: Plan) -> dict[str, object]:
    """Place -> class (or number, or tuple of classes)."""
    classes = plan.spec.target.classes
    found: dict[str, object] = {}
    for place, target in zip(tensors["place"].tolist(), tensors["target"], strict=True):
        if target.ndim:
            found[place] = tuple(np.array(classes)[target.astype(bool)].tolist())
        else:
            found[place] = classes[int(target)] if classes else float(target)
    return found
