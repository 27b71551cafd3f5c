"""A few samples to look at, read back from the training shards: what a model will see, not what was uploaded."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import ShardFile
from shoal_core.data.shards import Tensors, read_rows
from shoal_core.data.spec import PreprocessingSpec, TableInput
from shoal_core.store import ObjectStore

PER_CLASS = 6
MAX_CLASSES = 24
MAX_ROWS = 8
MAX_COLUMNS = 12
_READ_BYTES = 8 * 1024**2
_MAX_SIDE = 96
_PAGE_BYTES = 1_500_000
_WORDS = 40


@dataclass(frozen=True)
class Picture:
    """One image: a PNG as a data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Samples of the training split.

    Attributes:
        pictures: Class (or target) -> images.
        header: Names of the columns of `rows`, the target last.
        rows: Samples of a table as texts.
        series: Windows of a sequence: target, and column -> values (None where missing).
    """

    pictures: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    series: tuple[tuple[str, Mapping[str, tuple[float | None, ...]]], ...] = ()


def read_samples(artifacts: ObjectStore, shards: Sequence[ShardFile]) -> Tensors:
    """The first samples of the first shard, 8 MB of them at most; they lie in the order of a hash, so at random."""
    if not shards:
        return {}
    first = shards[0]
    count = min(first.samples, max(MAX_ROWS, _READ_BYTES // max(1, first.bytes // first.samples)))
    with artifacts.open(first.key) as stream:
        return read_rows(stream, 0, count, name=first.key)


def show_samples(spec: PreprocessingSpec, tensors: Tensors) -> Gallery:
    """Choose what to show.

    Args:
        spec: What the tensors mean.
        tensors: Of `read_samples`; none gives an empty gallery.
    """
    if not tensors:
        return Gallery()
    shown = tensors["target"] if spec.kind == "image" else tensors["target"][:MAX_ROWS]
    targets = [_target_text(spec, value) for value in shown]
    if spec.kind == "image":
        return Gallery(pictures=_pictures(spec, tensors["image"], targets))
    if spec.sequence is not None and spec.sequence.numbers:
        return Gallery(series=_series(spec.sequence.number_names, tensors["sequence"], targets))
    return _table(spec, tensors, targets)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image as PNG: uint8 [H,W] grey or [H,W,3] RGB.

    Source: W3C, Portable Network Graphics (PNG) Specification, third edition.
    """
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), np.uint8)  # the first byte of a line is filter 0
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _pictures(
    spec: PreprocessingSpec, images: NDArray[np.uint8], targets: Sequence[str]
) -> dict[str, tuple[Picture, ...]]:
    by_class: dict[str, list[int]] = {}
    grouped = bool(spec.target.classes)
    for row, target in enumerate(targets):
        by_class.setdefault(target if grouped else "samples", []).append(row)
    order = [name for name in spec.target.classes if name in by_class] if grouped else list(by_class)
    order += [name for name in by_class if name not in order]
    shown: dict[str, tuple[Picture, ...]] = {}
    left = _PAGE_BYTES
    for name in order[:MAX_CLASSES]:
        pictures: list[Picture] = []
        for row in by_class[name][:PER_CLASS]:
            picture = _picture(images[row], spec.image.color if spec.image else "rgb")
            if len(picture.uri) > left:
                break
            left -= len(picture.uri)
            pictures.append(picture)
        if pictures:
            shown[name] = tuple(pictures)
    return shown


def _picture(image: NDArray[np.uint8], color: str) -> Picture:
    """uint8 [C,H,W] as a picture; large ones are thinned out, every n-th pixel stays."""
    step = -(-max(image.shape[1:]) // _MAX_SIDE)
    thinned = image[:, ::step, ::step]
    pixels = thinned[0] if len(thinned) == 1 else _to_rgb(thinned, color).transpose(1, 2, 0)
    data = base64.b64encode(png(np.ascontiguousarray(pixels))).decode()
    return Picture(f"data:image/png;base64,{data}", pixels.shape[1], pixels.shape[0])


def _to_rgb(image: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """uint8 [3,H,W] of a colour space as RGB. Sources: JFIF 1.02 (YCbCr); A. R. Smith, 1978 (HSV)."""
    if color == "rgb":
        return image
    first, second, third = image.astype(np.float64)
    if color == "ycbcr":
        blue, red = second - 128, third - 128
        mixed = np.stack([first + 1.402 * red, first - 0.344136 * blue - 0.714136 * red, first + 1.772 * blue])
    else:
        hue, saturation = first / 255 * 6, second / 255
        places = (np.array([5.0, 3.0, 1.0])[:, None, None] + hue) % 6
        mixed = third - third * saturation * np.clip(np.minimum(places, 4 - places), 0, 1)
    pixels: NDArray[np.uint8] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return pixels


def _series(
    names: Sequence[str], windows: NDArray[np.float32], targets: Sequence[str]
) -> tuple[tuple[str, Mapping[str, tuple[float | None, ...]]], ...]:
    return tuple(
        (
            target,
            {
                name: tuple(None if np.isnan(value) else float(value) for value in window[:, column])
                for column, name in enumerate(names[:4])
            },
        )
        for target, window in zip(targets[:4], windows[:4], strict=True)
    )


def _table(spec: PreprocessingSpec, tensors: Tensors, targets: Sequence[str]) -> Gallery:
    table = spec.table
    if table is None:
        return Gallery()
    count = min(MAX_ROWS, len(targets))
    columns: dict[str, list[str]] = {}
    for index, name in enumerate(table.number_names):
        columns[name] = [_number_text(float(value)) for value in tensors["numbers"][:count, index]]
    for index, category in enumerate(table.categories):
        known = ("", *category.categories)
        codes = tensors["categories"][:count, index].tolist()
        columns[category.name] = [known[code] if code < len(known) else "(rare)" for code in codes]
    columns |= _texts(table, tensors, count)
    names = sorted(columns, key=lambda name: name not in {text.name for text in table.texts})[:MAX_COLUMNS]
    rows = [(*(columns[name][row] for name in names), targets[row]) for row in range(count)]
    return Gallery(header=(*names, spec.target.column or "class"), rows=tuple(rows))


def _texts(table: TableInput, tensors: Tensors, count: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    start = 0
    for text in table.texts:
        tokens = tensors["tokens"][:count, start : start + text.length].tolist()
        start += text.length
        words = ("", "□", *text.vocabulary)
        joint = " " if text.unit == "word" else ""
        found[text.name] = [
            f"{sum(map(bool, row)):,} tokens (hashed)"
            if text.buckets
            else joint.join(words[token] for token in row[:_WORDS] if token) + (" …" if any(row[_WORDS:]) else "")
            for row in tokens
        ]
    return found


def _target_text(spec: PreprocessingSpec, value: Any) -> str:  # noqa: ANN401 - a number, or one per class
    if spec.target.task == "regression":
        return _number_text(float(value))
    if spec.target.task == "multilabel":
        return ", ".join(name for name, has in zip(spec.target.classes, value, strict=True) if has) or "(none)"
    return spec.target.classes[int(value)] if spec.target.classes else "sample"


def _number_text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
