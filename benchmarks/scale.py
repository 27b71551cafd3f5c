"""Plans sets that are larger than this machine would store: a CSV of many gigabytes, a prefix of a million objects.

    python -m benchmarks.scale --gigabytes 10 --objects 1000000

Bytes and listings are generated as they are read, so nothing but the plan is kept. Planning and assigning are the
product's own (`plan_dataset`, `assign_samples`); what is printed is compared with the limits of Step Functions and
Lambda in docs/scale.md.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, Self

import numpy as np
from PIL import Image

from shoal_core.data.assigning import DEFAULT_TRAIN_SHARDS, SHARD_BYTES, assign_samples, pack_items
from shoal_core.data.config import DatasetConfig, DatasetRequest, Listing, SourceFile
from shoal_core.data.cutting import MAX_ITEMS
from shoal_core.data.listings import in_parts, write_part
from shoal_core.data.map_items import write_map_items
from shoal_core.data.plan import Plan
from shoal_core.data.planning import plan_dataset
from shoal_core.data.writing import write_shard
from shoal_core.errors import NotFound
from shoal_core.keys import DatasetKeys

HEADER = b"width,height,colour,weight,label\n"
IMAGE_BYTES = 12_000


class Repeated(io.RawIOBase):
    """A file of a header and one block over and over, up to a size; nothing of it is stored."""

    def __init__(self, header: bytes, block: bytes, blocks: int) -> None:
        self._header, self._block, self._blocks = header, block, blocks
        self.size = len(header) + len(block) * blocks
        self._position = 0

    def again(self) -> Repeated:
        """The same file, opened anew."""
        return Repeated(self._header, self._block, self._blocks)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._position < len(self._header):
            data = self._header[self._position :]
        else:
            data = self._block[(self._position - len(self._header)) % len(self._block) :]
        count = min(len(view), len(data), max(0, self.size - self._position))
        view[:count] = data[:count]
        self._position += count
        return count


class Generated:
    """An object store whose uploads are generated; what is written stays in memory."""

    def __init__(self, table: Repeated | None = None, image: bytes = b"") -> None:
        self._table, self._image = table, image
        self.objects: dict[str, bytes] = {}

    def in_bucket(self, bucket: str) -> Self:
        return self

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        if key in self.objects:
            return self.objects[key]
        if key.endswith(".png"):
            return self._image
        raise NotFound(f"Object {key!r} doesn't exist.")

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        with self.open(key) as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        if self._table is not None and key.endswith(".csv"):
            return io.BufferedReader(self._table.again(), 1 << 20)
        return io.BytesIO(self.read(key))

    def exists(self, key: str) -> bool:
        return key in self.objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.objects[key] = bytes(data)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        if key in self.objects:
            return False
        self.write(key, data)
        return True


def table_request(gigabytes: float) -> tuple[Generated, DatasetRequest]:
    """A CSV of made-up rows."""
    random = np.random.default_rng(0)
    rows = zip(
        random.normal(0, 1, 40_000).round(4).tolist(),
        random.integers(0, 500, 40_000).tolist(),
        random.choice(["red", "green", "blue"], 40_000).tolist(),
        random.normal(70, 9, 40_000).round(2).tolist(),
        random.choice(["no", "yes"], 40_000).tolist(),
        strict=True,
    )
    block = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
    table = Repeated(HEADER, block, max(1, round(gigabytes * 1024**3 / len(block))))
    file = SourceFile(key="datasets/scale/t.csv", size=table.size)
    return Generated(table), DatasetRequest(dataset="scale", version="v1", files=(file,), config=DatasetConfig())


def images_request(objects: int) -> tuple[Generated, DatasetRequest]:
    """Loose images of ten classes, listed in parts of 10,000."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    store = Generated(image=file.getvalue())
    files = (
        SourceFile(key=f"datasets/scale/photos/{label}/{number:07d}.png", size=IMAGE_BYTES)
        for label in range(10)
        for number in range(objects // 10)
    )
    parts = tuple(write_part(store, "scale", part) for part in in_parts(files))
    count = sum(part.count for part in parts)
    listing = Listing(parts=parts, count=count, bytes=count * IMAGE_BYTES)
    return store, DatasetRequest(dataset="scale", version="v1", files=(), listing=listing, config=DatasetConfig())


def planned(store: Generated, request: DatasetRequest) -> dict[str, float]:
    """Plan a request and tell what it took."""
    keys = DatasetKeys(request.dataset, request.version)
    store.write(keys.request, request.model_dump_json().encode())
    started, used = time.perf_counter(), time.process_time()
    plan = plan_dataset(store, store, request.dataset, request.version)
    seconds = time.perf_counter() - started
    cpu = time.process_time() - used
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), **_sizes(store, keys, plan)}


def _sizes(store: Generated, keys: DatasetKeys, plan: Plan) -> dict[str, float]:
    items = len(plan.items)
    answer = write_map_items(store, keys.work_items, [{"item": index} for index in range(items)])
    return {
        "work_items": items,
        "plan_bytes": len(store.read(keys.plan)),
        "items_bytes": len(store.read(keys.work_items)),
        "state_bytes": len(json.dumps(answer)),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def packed(encoded_gigabytes: float) -> dict[str, int]:
    """Final shards and Map items of a set of that many encoded gigabytes."""
    shards = max(DEFAULT_TRAIN_SHARDS, round(encoded_gigabytes * 1024**3 / SHARD_BYTES)) + 2
    items = pack_items(shards)
    listed = json.dumps([{"first": first, "last": last} for first, last in items], separators=(",", ":"))
    most = max(last - first for first, last in items)
    return {"shards": shards, "pack_items": len(items), "shards_of_an_item": most, "items_bytes": len(listed)}


def assigned(pieces: int) -> dict[str, float]:
    """Assign the samples of that many pieces: those of a generated table's first item, again and again."""
    store, request = table_request(0.005)
    keys = DatasetKeys(request.dataset, request.version)
    store.write(keys.request, request.model_dump_json().encode())
    plan = plan_dataset(store, store, request.dataset, request.version)
    write_shard(store, store, request.dataset, request.version, 0)
    for piece in range(1, pieces):
        for key in (keys.piece_index, keys.piece):
            store.objects[key(piece)] = store.objects[key(0)]
    many = plan.model_copy(update={"items": (plan.items[0],) * pieces})
    store.write(keys.plan, many.encode())
    used = time.process_time()
    assignment = assign_samples(store, request.dataset, request.version)
    return {
        "cpu_seconds": round(time.process_time() - used, 1),
        "samples": assignment.samples,
        "shards": len(assignment.shards),
        "assignment_bytes": len(store.read(keys.assignment)) + len(store.read(keys.assignment_tables)),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    """Print the plans as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--objects", type=int, default=1_000_000)
    asked = parser.parse_args()
    for name, request in (
        (f"csv of {asked.gigabytes:g} GB", lambda: table_request(asked.gigabytes)),
        (f"{asked.objects:,} objects", lambda: images_request(asked.objects)),
    ):
        sys.stdout.write(json.dumps({"set": name, **planned(*request())}) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"set": f"{MAX_ITEMS} pieces", **assigned(MAX_ITEMS)}) + "\n")
    for gigabytes in (1, 10, 32, 112):
        sys.stdout.write(json.dumps({"set": f"{gigabytes} GB encoded", **packed(gigabytes)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
