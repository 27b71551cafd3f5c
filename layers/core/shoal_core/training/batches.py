"""Which samples a worker sees, in which order: a function of (data, seed, workers, round) and of nothing else.

A worker's samples form an endless stream of epochs. In each epoch its shards are shuffled, cut into blocks that fit
in memory, and the samples of a block are shuffled together. Batch i is samples i * size to (i + 1) * size of the
stream, so a round only needs to know its first step, and a retried or resumed round sees the same batches.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import ShardFile
from shoal_core.data.shards import Tensors, decode_shard
from shoal_core.errors import BadDataset
from shoal_core.store import ObjectStore

BLOCK_BYTES = 256 * 1024 * 1024
CACHE_BYTES = 384 * 1024 * 1024
_FIX = "Upload the data again under the same name: a new version is made from it."

LoadShard = Callable[[ShardFile], Tensors]


class ShardCache:
    """Verified, decoded shards by their sha256, least recently used out first.

    Args:
        capacity: Bytes to keep at most; the newest shard is kept whatever its size.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._shards: OrderedDict[str, tuple[Tensors, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def load(self, artifacts: ObjectStore, shard: ShardFile) -> Tensors:
        """The tensors of a shard, read-only.

        Raises:
            BadDataset: The object differs from what the manifest says.
            NotFound: The object is gone.
        """
        with self._lock:
            if shard.sha256 in self._shards:
                self._shards.move_to_end(shard.sha256)
                return self._shards[shard.sha256][0]
        data = artifacts.read(shard.key)
        tensors = decode_verified(data, shard)
        with self._lock:
            if shard.sha256 not in self._shards:
                self._shards[shard.sha256] = (tensors, len(data))
                self._bytes += len(data)
            while self._bytes > self._capacity and len(self._shards) > 1:
                _, (_, size) = self._shards.popitem(last=False)
                self._bytes -= size
        return tensors

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        return self._bytes


_SHARDS = ShardCache(CACHE_BYTES)


def load_shard(artifacts: ObjectStore, shard: ShardFile) -> Tensors:
    """The tensors of a shard, kept warm in this process. Raises as `ShardCache.load` does."""
    return _SHARDS.load(artifacts, shard)


def decode_verified(data: bytes, shard: ShardFile) -> Tensors:
    """Decode a shard's bytes after checking them against its manifest entry. Raises `BadDataset`."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != shard.sha256:
        raise BadDataset(
            f"Shard {shard.key!r} isn't what its manifest says: its sha256 is {digest[:12]}… ({len(data):,} bytes) "
            f"instead of {shard.sha256[:12]}… ({shard.bytes:,} bytes).",
            _FIX,
        )
    tensors = decode_shard(data, f"Shard {shard.key!r}")
    lengths = {name: len(array) for name, array in tensors.items()}
    if set(lengths.values()) != {shard.samples}:
        raise BadDataset(
            f"Shard {shard.key!r} holds {lengths} samples per tensor; its manifest says {shard.samples}.", _FIX
        )
    return tensors


def assign_shards(samples: Sequence[int], workers: int) -> list[list[int]]:
    """Spread shards over workers so that each gets about as many samples: biggest first, to the least loaded worker.

    Args:
        samples: Samples of each shard.
        workers: How many workers, at most one per shard.

    Returns:
        For each worker its shards' indices, ascending; every worker has at least one.
    """
    if not 1 <= workers <= len(samples):
        raise ValueError(f"{workers} workers for {len(samples)} shards")
    shards: list[list[int]] = [[] for _ in range(workers)]
    load = [0] * workers
    for index in sorted(range(len(samples)), key=lambda index: (-samples[index], index)):
        # An empty-handed worker goes first, whatever the loads: shards may hold very different numbers of samples.
        worker = min(range(workers), key=lambda worker: (bool(shards[worker]), load[worker], worker))
        shards[worker].append(index)
        load[worker] += samples[index]
    return [sorted(own) for own in shards]


class BatchStream:
    """The endless, shuffled stream of one worker's batches.

    Args:
        shards: The worker's shards.
        load: Gives a shard's tensors.
        batch_size: Samples per batch; every batch is full (it may reach into the next epoch).
        seed: The run's seed.
        worker: The worker's number, so that workers with equal shards still shuffle differently.
        block_bytes: How many bytes of shards are shuffled together.
    """

    def __init__(
        self,
        shards: Sequence[ShardFile],
        load: LoadShard,
        *,
        batch_size: int,
        seed: int,
        worker: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._shards = list(shards)
        self._load = load
        self._size = batch_size
        self._seed = (seed, worker)
        self._block_bytes = block_bytes
        self.samples = sum(shard.samples for shard in shards)

    def batches(self, first: int, count: int) -> Iterator[Tensors]:
        """Batches `first` to `first + count - 1` (from 0), each a dict of arrays [batch_size, ...]."""
        places = self._places(first * self._size, count * self._size)
        for start in range(0, len(places), self._size):
            yield self._gather(places[start : start + self._size])

    def _places(self, position: int, count: int) -> NDArray[np.int64]:
        """(shard, row) of `count` samples of the stream from a position on: [count, 2]."""
        epoch, skip = divmod(position, self.samples)
        pieces: list[NDArray[np.int64]] = []
        while count:
            for number, block in enumerate(self._blocks(epoch)):
                piece = self._shuffled(block, epoch, number, slice(skip, skip + count))
                skip = max(0, skip - sum(self._shards[shard].samples for shard in block))
                count -= len(piece)
                pieces.append(piece)
            epoch += 1
        return np.concatenate(pieces) if pieces else np.empty((0, 2), np.int64)

    def _blocks(self, epoch: int) -> list[list[int]]:
        blocks: list[list[int]] = []
        room = 0
        for shard in self._generator(epoch, 0).permutation(len(self._shards)).tolist():
            size = self._shards[shard].bytes
            if not blocks or size > room:
                blocks.append([])
                room = self._block_bytes
            blocks[-1].append(shard)
            room -= size
        return blocks

    def _shuffled(self, block: list[int], epoch: int, number: int, part: slice) -> NDArray[np.int64]:
        """A part of the block's places in the order of this epoch: [at most part's length, 2]."""
        ends = np.cumsum([self._shards[shard].samples for shard in block])
        order = self._generator(epoch, 1 + number).permutation(int(ends[-1]))[part]
        within = np.searchsorted(ends, order, side="right")
        starts = np.concatenate([[0], ends[:-1]])
        return np.stack([np.array(block, np.int64)[within], order - starts[within]], axis=1).astype(np.int64)

    def _generator(self, epoch: int, draw: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self._seed, epoch, draw))))

    def _gather(self, places: NDArray[np.int64]) -> Tensors:
        """Samples by their places, those of one shard together: every row is copied once."""
        places = places[np.argsort(places[:, 0], kind="stable")]
        shards, starts = np.unique(places[:, 0], return_index=True)
        edges = [*starts.tolist(), len(places)]
        batch: Tensors = {}
        for shard, start, stop in zip(shards.tolist(), edges, edges[1:], strict=False):
            rows = places[start:stop, 1]
            for name, array in self._load(self._shards[shard]).items():
                if name not in batch:
                    batch[name] = np.empty((len(places), *array.shape[1:]), array.dtype)
                # Rows are in range; checking them again would copy them twice.
                np.take(array, rows, axis=0, out=batch[name][start:stop], mode="clip")
        return batch
