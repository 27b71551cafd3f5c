"""Bytes that workers and the merge exchange through the store in an epoch, by scheme and compression.

Two rounds of the product run over a store that counts; what a round costs doesn't depend on how many steps it has, so
an epoch is as many rounds as the scheme asks for: by synchronous steps, one for each. Counted are checkpoints, updates
and what compression keeps of its losses, read and written; shards and graphs are read once, by every scheme alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from benchmarks.data.driving import Place
from benchmarks.data.folder_store import FolderStore
from benchmarks.results import Row
from benchmarks.train.samples import run_for
from shoal_core.data.config_types import Compression, Scheme
from shoal_core.training.merging import merge_round
from shoal_core.training.rounds import train_shard
from shoal_core.training.starting import start_training

NET = "cnn"
EPOCH_STEPS = 60_000 // 64
WORKERS = (4, 8)
COMPRESSIONS: tuple[Compression, ...] = ("none", "bf16", "int8")
SCHEMES: Mapping[str, tuple[Scheme, int]] = {
    "synchronous, every step": ("synchronous", EPOCH_STEPS),
    "local SGD, every 16 steps": ("local", EPOCH_STEPS // 16),
    "local SGD, once an epoch": ("local", 1),
    "DiLoCo, every 16 steps": ("diloco", EPOCH_STEPS // 16),
    "DiLoCo, once an epoch": ("diloco", 1),
}
_COUNTED = ("/checkpoints/", "updates/", "/lost/")


@dataclass(frozen=True)
class CountingStore(FolderStore):
    """A folder that counts the bytes of what rounds exchange."""

    bytes: Counter[str] = field(default_factory=Counter)

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        data = super().read(key, version, etag)
        self._count(key, data)
        return data

    def write(self, key: str, data: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        super().write(key, data, content_type)
        self._count(key, data)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        self._count(key, data)
        return super().write_new(key, data, content_type)

    def _count(self, key: str, data: bytes | bytearray) -> None:
        if any(part in key for part in _COUNTED):
            self.bytes["exchanged"] += len(data)


def round_bytes(place: Place, workers: int, compression: Compression, scheme: Scheme) -> int:
    """Bytes of a run's second round, in which momentum and losses are there."""
    training = {"scheme": scheme, "compression": compression, "optimizer": "adam", "patience": 0}
    # Two steps of half of the samples each: one a round, by every scheme.
    whole = {"epochs": 1, "batch_size": -(-place.manifest().samples["train"] // (2 * workers)) * workers}
    run_id = run_for(NET, place, 2, {"workers": workers, "training": training | whole})
    start_training(place.artifacts, run_id, place.dataset, place.version)
    for round_ in (1, 2):
        store = CountingStore(place.artifacts.root)
        for worker in range(workers):
            train_shard(store, run_id, round_, worker)
        merge_round(store, run_id, round_)
    return store.bytes["exchanged"]


def exchange_rows(place: Place) -> list[Row]:
    """Megabytes of an epoch of MNIST with the compared cnn, each scheme beside the synchronous one."""
    rows: list[Row] = []
    for workers in WORKERS:
        for compression in COMPRESSIONS:
            found = {scheme: round_bytes(place, workers, compression, scheme) / 1e6 for scheme in get_args(Scheme)}
            every = found["synchronous"] * EPOCH_STEPS
            packed = "" if compression == "none" else f", {compression}"
            rows += [
                Row(f"bytes an epoch, W = {workers}{packed}: {title}", "MB", found[scheme] * rounds, every)
                for title, (scheme, rounds) in SCHEMES.items()
            ]
    return rows


def exchange_place(scratch: Path, samples: int) -> Place:
    """Random images, in as many shards as there are workers at most."""
    from benchmarks.train.samples import place_for

    return place_for(NET, scratch / "exchange", samples, workers=max(WORKERS))
