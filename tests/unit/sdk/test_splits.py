"""`shoal.load`: shards in S3, read as arrays."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import shoal
from shoal._splits import Split, load_split
from shoal.connection import connect_local
from shoal.errors import BadRequest, NotFound, ServiceFailed

VERSION = "0123456789ab"
SIZES = (7, 5, 9, 1)


def tensors(first: int, count: int) -> dict[str, np.ndarray[Any, Any]]:
    number = np.arange(first, first + count)
    return {
        "image": np.repeat(number.astype(np.uint8), 12).reshape(count, 3, 2, 2),
        "numbers": number[:, None].astype(np.float32),
        "target": number.astype(np.int64),
    }


@pytest.fixture
def split(cloud: dict[str, str], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """22 samples in four shards; the last is empty of nothing but small."""
    entries, first = [], 0
    for index, count in enumerate(SIZES):
        data = save(tensors(first, count))
        key = f"datasets/rows/{VERSION}/train/shard-{index:05d}.safetensors"
        s3.put_object(Bucket=cloud["bucket"], Key=key, Body=data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append({"key": key, "samples": count, "bytes": len(data), "sha256": digest})
        first += count
    manifest = {
        "dataset": "rows", "version": VERSION, "train": entries, "validation": [], "test": [],
        "spec": {"target": {"classes": ["a", "b"]}},
    }  # fmt: skip
    key = f"datasets/rows/{VERSION}/manifest.json"
    s3.put_object(Bucket=cloud["bucket"], Key=key, Body=json.dumps(manifest).encode())
    home = Path.cwd() / ".shoal" / "cloud.json"
    home.write_text(json.dumps({**cloud, "artifacts_bucket": cloud["bucket"]}))
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    return shoal.connect().load("rows", version=VERSION)


def same(found: dict[str, Any], positions: list[int]) -> bool:
    whole = tensors(0, sum(SIZES))
    return found.keys() == whole.keys() and all(np.array_equal(found[name], whole[name][positions]) for name in whole)


def test_all_samples_as_arrays(split: Split) -> None:
    assert len(split) == 22
    assert (split.name, split.version, split.classes) == ("rows", VERSION, ["a", "b"])
    arrays = split.arrays()
    assert same(arrays, list(range(22)))
    assert [arrays[name].dtype for name in ("image", "numbers", "target")] == [np.uint8, np.float32, np.int64]


def test_random_access(split: Split) -> None:
    assert split[8]["target"] == 8 and split[-1]["target"] == 21
    assert split[8]["image"].shape == (3, 2, 2)
    for positions in ([21, 0, 7, 7, 6], [5], []):
        assert same(split[positions], positions)
    assert same(split[np.array([-1, 3])], [21, 3])
    assert same(split[6:20:3], list(range(6, 20, 3)))
    assert same(split[::-1], list(range(21, -1, -1)))
    for wrong in (22, -23):
        with pytest.raises(IndexError):
            split[wrong]
    with pytest.raises(IndexError):
        split[[0, 22]]
    split[0]["image"][:] = 0  # a copy: what a training loop does to it stays its own
    assert same(split[:], list(range(22)))


@pytest.mark.parametrize("size", [1, 3, 5, 22, 100])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_hold_every_sample_once(size: int, shuffle: bool, split: Split) -> None:
    batches = list(split.batches(size, shuffle=shuffle, seed=1))
    assert {len(batch["target"]) for batch in batches[:-1]} <= {size}
    order = [int(target) for batch in batches for target in batch["target"]]
    assert sorted(order) == list(range(22))
    assert (order == list(range(22))) is not shuffle
    assert all(same(batch, batch["target"].tolist()) for batch in batches)
    assert [len(batch["target"]) for batch in split.batches(size, drop_last=True)] == [size] * (22 // size)


def test_an_order_is_that_of_seed_and_epoch(split: Split) -> None:
    def order(**settings: int) -> list[int]:
        return [int(target) for batch in split.batches(4, shuffle=True, **settings) for target in batch["target"]]

    assert order(seed=1) == order(seed=1)
    assert len({tuple(order(seed=seed, epoch=epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("workers", [1, 2, 3, 22, 40])
@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_share_a_pass(workers: int, shuffle: bool, split: Split) -> None:
    parts = []
    for worker in range(workers):
        batches = split.batches(4, shuffle=shuffle, worker=worker, workers=workers)
        parts.append([int(target) for batch in batches for target in batch["target"]])
    assert sorted(target for part in parts for target in part) == list(range(22))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_iteration_gives_samples(split: Split) -> None:
    samples = list(split)
    assert [int(sample["target"]) for sample in samples] == list(range(22))
    assert samples[3]["image"].shape == (3, 2, 2)


def test_shards_are_fetched_once_and_only_when_they_are_touched(split: Split, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    split[0]
    (path,) = cache.iterdir()
    assert path.name == f"{split.manifest['train'][0]['sha256']}.safetensors"
    before = path.stat().st_mtime_ns
    shoal.load("rows", version=VERSION)[0]
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    assert shoal.connect().load("rows", version=VERSION, verify=True)[0]["target"] == 0
    assert path.stat().st_mtime_ns != before


def test_a_shard_that_isnt_what_the_manifest_says_is_refused(split: Split, s3: Any, cloud: dict[str, str]) -> None:
    key = split.manifest["train"][1]["key"]
    s3.put_object(Bucket=cloud["bucket"], Key=key, Body=b"other")
    with pytest.raises(ServiceFailed, match=r"shard-00001.*isn't what its manifest says"):
        split.arrays()
    assert split[0]["target"] == 0


def test_what_isnt_there_is_named(split: Split) -> None:
    client = shoal.connect()
    with pytest.raises(BadRequest, match="no split 'tests'"):
        client.load("rows", version=VERSION, split="tests")
    with pytest.raises(NotFound, match="isn't committed"):
        client.load("rows", version="f" * 12)
    with pytest.raises(BadRequest):
        split.batches(0)
    with pytest.raises(BadRequest):
        split.batches(1, worker=2, workers=2)
    empty = load_split(connect_local(), "rows", VERSION, "validation")
    assert (len(empty), empty.arrays(), list(empty.batches(3)), list(empty)) == (0, {}, [], [])


def test_a_split_travels_to_other_processes(split: Split) -> None:
    again = pickle.loads(pickle.dumps(split))  # noqa: S301 - what a loader does with its workers
    assert same(again[:], list(range(22)))


def test_shards_are_saved_for_other_tools(split: Split, tmp_path: Path) -> None:
    paths = split.save(tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"out/train/shard-{index:05d}.safetensors" for index in range(4)
    ]
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == split.manifest


def test_torch_is_asked_for_only_where_it_is_needed(split: Split) -> None:
    try:
        import torch
    except ImportError:
        with pytest.raises(BadRequest, match="torch isn't installed"):
            split.torch()
        return
    loader = torch.utils.data.DataLoader(split.torch(), batch_size=5)
    assert [batch["target"].tolist() for batch in loader][1] == [5, 6, 7, 8, 9]
