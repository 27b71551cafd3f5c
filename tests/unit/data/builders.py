"""Small uploads, and the whole data path over a store in memory."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

from shoal_core.data.assigning import assign_samples
from shoal_core.data.committing import commit_dataset
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.pieces import PieceIndex
from shoal_core.data.planning import plan_dataset
from shoal_core.data.report import Report
from shoal_core.data.shards import Tensors, decode_shard
from shoal_core.data.writing import write_shard
from shoal_core.keys import DatasetKeys
from tests.support.stores import MemoryStore

KEYS = DatasetKeys("set", "v1")


def png(array: np.ndarray) -> bytes:
    """An image file of uint8 [H,W] or [H,W,C] pixels."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def grey_png(seed: int, size: int = 8) -> bytes:
    """A random grey image."""
    return png(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8))


def image_members(per_class: int = 40, classes: tuple[str, ...] = ("0", "1", "10", "9")) -> dict[str, bytes]:
    """Name -> bytes of different grey images, by class folder under a common root."""
    return {
        f"digits/{label}/{index:03d}.png": grey_png(number * 10_000 + index)
        for number, label in enumerate(classes)
        for index in range(per_class)
    }


def zip_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def tar_of(members: dict[str, bytes], packed: bool = False) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(file.getvalue(), mtime=0) if packed else file.getvalue()


def csv_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows with two numbers, a category, missing values and a class that follows from them."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for index in range(count):
        width, height = (round(float(value), 3) for value in random.normal(0, 1, 2))
        colour = ["red", "green", "blue"][int(random.integers(3))]
        rows.append(
            {
                "width": None if index % 17 == 3 else width,
                "height": height,
                "colour": None if index % 23 == 5 else colour,
                "label": "big" if width + height > 0 else "small",
            }
        )
    return rows


def csv_of(rows: list[dict[str, object]], delimiter: str = ",") -> bytes:
    names = list(rows[0])
    lines = [delimiter.join(names)]
    lines += [delimiter.join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def jsonl_of(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Case:
    """One upload and its way to shards."""

    def __init__(self, files: dict[str, bytes], **config: object) -> None:
        self.uploads = MemoryStore({f"datasets/set/{name}": data for name, data in files.items()})
        self.artifacts = MemoryStore()
        sources = tuple(SourceFile(key=key, size=len(data)) for key, data in self.uploads.objects.items())
        request = DatasetRequest(
            dataset="set", version="v1", files=sources, config=DatasetConfig.model_validate(config)
        )
        self.artifacts.write(KEYS.request, request.model_dump_json().encode())

    def plan(self):
        return plan_dataset(self.uploads, self.artifacts, "set", "v1")

    def run(self) -> Manifest:
        for item in range(len(self.plan().items)):
            write_shard(self.uploads, self.artifacts, "set", "v1", item)
        for shard in range(len(assign_samples(self.artifacts, "set", "v1").shards)):
            pack_shard(self.artifacts, "set", "v1", shard)
        return commit_dataset(self.artifacts, "set", "v1")

    def index(self, item: int) -> PieceIndex:
        """What became of a work item."""
        return PieceIndex.decode(self.artifacts.read(KEYS.piece_index(item)))

    @property
    def report(self) -> Report:
        return Report.decode(self.artifacts.read(KEYS.report))

    def tensors(self, manifest: Manifest, split: str) -> Tensors:
        parts = [decode_shard(self.artifacts.read(shard.key)) for shard in manifest.shards(split)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
