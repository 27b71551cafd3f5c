"""A zip of PNG images by class to decoded shards by litdata, MosaicML's MDSWriter, webdataset; and decoding alone."""

from __future__ import annotations

import functools
import io
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data.contender import Task, main
from benchmarks.data.peers.mosaic import streaming

SHARD_BYTES = 32 * 1024**2


@functools.lru_cache(maxsize=1)
def archive(source: str) -> zipfile.ZipFile:
    """The archive, opened once in each process."""
    return zipfile.ZipFile(source)


def names(source: Path) -> list[str]:
    with zipfile.ZipFile(source) as opened:
        return opened.namelist()


def decode(source: str, name: str) -> tuple[np.ndarray, int]:
    """Pixels uint8 [H,W] and the class of one image."""
    pixels = np.asarray(Image.open(io.BytesIO(archive(source).read(name))))
    return pixels, int(name.partition("/")[0])


def sample_for_litdata(item: tuple[str, str]) -> dict[str, Any]:
    pixels, label = decode(*item)
    return {"image": pixels, "label": label}


def by_litdata(task: Task) -> None:
    import litdata

    with task.clock():
        inputs = [(str(task.source), name) for name in names(task.source)]
        litdata.optimize(
            fn=sample_for_litdata,
            inputs=inputs,
            output_dir=str(task.out),
            num_workers=task.workers,
            chunk_bytes=SHARD_BYTES,
            verbose=False,
        )
    task.measured["samples"] = len(inputs)


def write_mds(item: tuple[str, str, list[str]]) -> int:
    source, out, part = item
    columns = {"image": "ndarray:uint8:28,28", "label": "int"}
    with streaming().MDSWriter(out=out, columns=columns, size_limit=SHARD_BYTES) as writer:
        for name in part:
            pixels, label = decode(source, name)
            writer.write({"image": pixels, "label": label})
    return len(part)


def by_mds(task: Task) -> None:
    streaming()
    from streaming.base.util import merge_index

    with task.processes() as run:
        run(write_mds, [(str(task.source), str(task.out / f"warm-{i}"), []) for i in range(task.workers)])
        for warm in task.out.glob("warm-*"):
            shutil.rmtree(warm)
        with task.clock():
            found = names(task.source)
            parts = [found[index :: task.workers] for index in range(task.workers)]
            folders = [str(task.out / str(index)) for index in range(task.workers)]
            done = run(write_mds, list(zip([str(task.source)] * task.workers, folders, parts, strict=True)))
            merge_index(str(task.out))
    task.measured["samples"] = sum(done)


def write_tar(item: tuple[str, str, list[str], bool]) -> int:
    import webdataset

    source, pattern, part, decoded = item
    with webdataset.ShardWriter(pattern, maxsize=SHARD_BYTES, maxcount=10**9, verbose=0) as writer:
        for name in part:
            key = name.replace("/", "-").removesuffix(".png")
            if decoded:
                pixels, label = decode(source, name)
                writer.write({"__key__": key, "npy": pixels, "cls": label})
            else:
                writer.write({"__key__": key, "png": archive(source).read(name), "cls": name.partition("/")[0]})
    return len(part)


def by_webdataset(task: Task, decoded: bool = True) -> None:
    import webdataset  # noqa: F401 - before the clock

    with task.processes() as run:
        run(write_tar, [(str(task.source), str(task.out / f"warm-{i}-%06d.tar"), [], decoded) for i in (0, 1)])
        for warm in task.out.glob("warm-*"):
            warm.unlink()
        with task.clock():
            found = names(task.source)
            done = run(
                write_tar,
                [
                    (str(task.source), str(task.out / f"{index}-%06d.tar"), found[index :: task.workers], decoded)
                    for index in range(task.workers)
                ],
            )
    task.measured["samples"] = sum(done)


def decode_part(item: tuple[str, int, int]) -> tuple[int, float]:
    """Images decoded, and the seconds that it took once they were in memory."""
    source, index, workers = item
    with zipfile.ZipFile(source) as opened:
        data = [opened.read(name) for name in opened.namelist()[index::workers]]
    Image.init()
    began = time.perf_counter()
    for image in data:
        np.asarray(Image.open(io.BytesIO(image)))
    return len(data), time.perf_counter() - began


def decoding_alone(task: Task) -> None:
    """Pillow from bytes in memory to arrays that are thrown away: no archive is read, nothing is written."""
    with task.processes() as run:
        parts = run(decode_part, [(str(task.source), index, task.workers) for index in range(task.workers)])
    task.seconds = max(seconds for _, seconds in parts)
    task.measured["samples"] = sum(count for count, _ in parts)


JOBS = {
    "litdata": by_litdata,
    "mds": by_mds,
    "webdataset": by_webdataset,
    "webdataset-undecoded": functools.partial(by_webdataset, decoded=False),
    "decode": decoding_alone,
}

if __name__ == "__main__":
    main(JOBS)
