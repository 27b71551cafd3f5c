"""One split of a dataset version as arrays: all of it, sample by sample, or in shuffled batches."""

from __future__ import annotations

import json
import operator
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal._shards import Arrays, cache_folder, fetch, map_shard, read_object
from shoal._torch import TorchSplit
from shoal.connection import Connection
from shoal.errors import BadRequest, NotFound

SPLITS = ("train", "validation", "test")
MANIFEST = "manifest.json"
PARALLEL_FETCHES = 8
# Maps that stay open: memory is bounded by what the system keeps of them, this bounds file handles.
_OPEN_SHARDS = 64


class Split:
    """The samples of one split, with random access; what torch calls a map-style data set.

    `split[3]` is one sample, a dict of arrays; `split[2:9]` and `split[[4, 1]]` are several, stacked. Tensors are those
    of the version's spec (`image`, `numbers`, `categories`, `tokens`, `sequence`) and `target`. Shards are fetched when
    they are first touched, verified by sha256 and kept in a cache folder by their content.

    Args:
        connection: The cloud; None where all shards are in the cache.
        manifest: The version's manifest.
        split: train, validation or test.
        cache: The cache folder.
        verify: Whether to hash shards again that are in the cache already.
    """

    def __init__(
        self, connection: Connection | None, manifest: dict[str, Any], split: str, cache: Path, verify: bool = False
    ) -> None:
        self.manifest = manifest
        self.split = split
        self._connection = connection
        self._cache = cache
        self._verify = verify
        self._shards: list[dict[str, Any]] = manifest[split]
        self._starts = np.cumsum([0, *(shard["samples"] for shard in self._shards)])
        self._open: dict[int, Arrays] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {self.version!r}, {self.split!r}, {len(self):,} samples)"

    @property
    def name(self) -> str:
        """The dataset's name."""
        return str(self.manifest["dataset"])

    @property
    def version(self) -> str:
        """The dataset version's id."""
        return str(self.manifest["version"])

    @property
    def classes(self) -> list[str]:
        """Labels in the order of their numbers in `target`; empty for regression."""
        return list(self.manifest["spec"]["target"].get("classes") or [])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[np.integer[Any]]) -> Arrays:
        if isinstance(index, slice):
            return self._take(np.arange(*index.indices(len(self))))
        if isinstance(index, Sequence | np.ndarray):
            return self._take(np.asarray(index, np.int64))
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"sample {position} of {len(self)}")
        shard, row = self._place(position % len(self))
        return {name: tensor[row].copy() for name, tensor in self._tensors(shard).items()}

    def __iter__(self) -> Iterator[Arrays]:
        for batch in self.batches(256):
            size = len(next(iter(batch.values())))
            for row in range(size):
                yield {name: tensor[row] for name, tensor in batch.items()}

    def arrays(self) -> Arrays:
        """All samples, one array per tensor."""
        self.fetch()
        return self[:]

    def batches(
        self,
        size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        worker: int = 0,
        workers: int = 1,
        drop_last: bool = False,
    ) -> Iterator[Arrays]:
        """Batches of one pass, as dicts of arrays; the next shard is fetched while one is read.

        Shuffling permutes the shards and the samples in each (which are in the order of their content's hash already),
        so it needs no more memory than a shard's permutation. Seed, epoch and workers decide the order alone.

        Args:
            size: Samples in a batch; the last one may have fewer.
            shuffle: Whether to shuffle.
            seed: Seed of the order.
            epoch: Number of the pass; each has an order of its own.
            worker: Which of the workers this is, from 0.
            workers: How many share the pass: each gets its own, even part of it, and fetches only those shards.
            drop_last: Whether to leave out a last batch that isn't full.

        Raises:
            BadRequest: A size or worker that can't be.
        """
        if size < 1 or not 0 <= worker < workers:
            raise BadRequest(f"A batch of {size} for worker {worker} of {workers}.", "Use 1 or more, worker < workers.")
        return self._batches(size, self._pieces(shuffle, seed, epoch, worker, workers), drop_last)

    def _pieces(
        self, shuffle: bool, seed: int, epoch: int, worker: int, workers: int
    ) -> list[tuple[int, NDArray[np.int64] | None, int, int]]:
        """(shard, seed of its order or None, first, last) of one worker's part of a pass."""
        order = np.arange(len(self._shards))
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(order)
        first, last = len(self) * worker // workers, len(self) * (worker + 1) // workers
        pieces, start = [], 0
        for shard in order.tolist():
            stop = start + self._shards[shard]["samples"]
            low, high = max(first, start), min(last, stop)
            if low < high:
                key = np.array([seed, epoch, shard + 1]) if shuffle else None
                pieces.append((shard, key, low - start, high - start))
            start = stop
        return pieces

    def _batches(
        self, size: int, pieces: Sequence[tuple[int, NDArray[np.int64] | None, int, int]], drop_last: bool
    ) -> Iterator[Arrays]:
        rest: list[Arrays] = []
        waiting = 0
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self._tensors, piece[0]) for piece in pieces[:1]]
            for number, (_, key, first, last) in enumerate(pieces):
                tensors = ahead.pop().result()
                ahead += [pool.submit(self._tensors, piece[0]) for piece in pieces[number + 1 : number + 2]]
                rows = len(next(iter(tensors.values())))
                order = None if key is None else np.random.default_rng(key).permutation(rows)
                while first < last:
                    stop = min(last, first + size - waiting)
                    rest.append(_rows(tensors, slice(first, stop) if order is None else order[first:stop]))
                    waiting += stop - first
                    first = stop
                    if waiting == size:
                        yield _joined(rest)
                        rest, waiting = [], 0
        if waiting and not drop_last:
            yield _joined(rest)

    def _place(self, position: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        return shard, position - int(self._starts[shard])

    def _take(self, positions: NDArray[np.int64]) -> Arrays:
        """Several samples, in the order of their positions; each shard is touched once."""
        if not len(self):
            return {}
        if len(positions) and (positions.min() < -len(self) or positions.max() >= len(self)):
            raise IndexError(f"samples {positions.min()} to {positions.max()} of {len(self)}")
        positions = positions % len(self)
        shards = np.searchsorted(self._starts, positions, side="right") - 1
        found: Arrays = {}
        for shard in np.unique(shards).tolist() or [0]:
            here = np.flatnonzero(shards == shard)
            rows = positions[here] - self._starts[shard]
            for name, tensor in self._tensors(shard).items():
                if name not in found:
                    found[name] = np.empty((len(positions), *tensor.shape[1:]), tensor.dtype)
                found[name][here] = tensor.take(rows, 0)
        return found

    def _tensors(self, shard: int) -> Arrays:
        with self._lock:
            tensors = self._open.get(shard)
        if tensors is None:
            tensors = map_shard(self._fetch(shard))
            with self._lock:
                while len(self._open) >= _OPEN_SHARDS:
                    self._open.pop(next(iter(self._open)))
                self._open[shard] = tensors
        return tensors

    def _fetch(self, shard: int) -> Path:
        entry = self._shards[shard]
        path = self._cache / f"{entry['sha256']}.safetensors"
        if self._connection is None:
            return path
        return fetch(self._connection, entry, path, self._verify)

    def fetch(self) -> None:
        """Fetch all shards that aren't in the cache, several at once."""
        with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
            list(pool.map(self._fetch, range(len(self._shards))))

    def save(self, folder: str | Path) -> list[Path]:
        """Put the shards and the manifest into a folder, for other tools; the shards' paths in order."""
        target = Path(folder).expanduser() / self.split
        names = [Path(entry["key"]).name for entry in self._shards]
        connection = self._connection
        if connection is None:
            raise BadRequest("This split has no cloud any more.", "Load it again.")
        with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
            jobs = [
                pool.submit(fetch, connection, entry, target / name, True)
                for entry, name in zip(self._shards, names, strict=True)
            ]
            paths = [job.result() for job in jobs]
        target.mkdir(parents=True, exist_ok=True)
        (target.parent / MANIFEST).write_text(json.dumps(self.manifest, indent=1, sort_keys=True))
        return paths

    def torch(self) -> TorchSplit:
        """The split as torch's `DataLoader` takes it: dicts of tensors. Raises `BadRequest` without torch."""
        return TorchSplit(self)

    def __getstate__(self) -> dict[str, Any]:
        """For workers of a loader: everything is fetched, and each maps the files itself."""
        self.fetch()
        return {"manifest": self.manifest, "split": self.split, "cache": self._cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(None, state["manifest"], state["split"], state["cache"])  # type: ignore[misc]


def _rows(tensors: Arrays, rows: slice | NDArray[np.int64]) -> Arrays:
    """Copies, which a training loop may write to; the maps are read-only."""
    if isinstance(rows, slice):
        return {name: tensor[rows].copy() for name, tensor in tensors.items()}
    return {name: tensor.take(rows, 0) for name, tensor in tensors.items()}


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load_split(
    connection: Connection, name: str, version: str, split: str, cache: str | Path | None = None, verify: bool = False
) -> Split:
    """One split of a committed dataset version.

    Raises:
        BadRequest: No such split.
        NotFound: The version isn't committed.
        ConnectionFailed, NotAuthorised: What S3 answered.
    """
    if split not in SPLITS:
        raise BadRequest(f"There is no split {split!r}.", f"Use {', '.join(SPLITS)}.")
    key = f"datasets/{name}/{version}/{MANIFEST}"
    try:
        manifest = json.loads(read_object(connection, key))
    except NotFound as error:
        raise NotFound(
            f"Dataset {name!r} version {version!r} isn't committed.", f"See its versions: shoal dataset {name}"
        ) from error
    return Split(connection, manifest, split, cache_folder(cache), verify)
