"""The data path's stages in the state machine's order, through the core's public functions: no cloud, no handlers.

The one module here that knows the stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data.folder_store import FolderStore
from shoal_core.data.assigning import assign_samples
from shoal_core.data.committing import commit_dataset
from shoal_core.data.config import DatasetRequest, SourceFile, parse_config
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.planning import plan_dataset
from shoal_core.data.writing import write_shard
from shoal_core.keys import DatasetKeys

VERSION = "0123456789ab"
RunOver = Callable[[Callable[..., Any], Iterable[Any]], list[Any]]


def in_this_process(function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
    """One item after the other."""
    return [function(item) for item in items]


@dataclass(frozen=True)
class Place:
    """A dataset version whose upload and artefacts are folders below `root`."""

    root: Path
    dataset: str
    version: str = VERSION

    @property
    def uploads(self) -> FolderStore:
        return FolderStore(self.root / "uploads")

    @property
    def artifacts(self) -> FolderStore:
        return FolderStore(self.root / "artifacts")

    @property
    def keys(self) -> DatasetKeys:
        return DatasetKeys(self.dataset, self.version)

    def manifest(self) -> Manifest:
        """The committed manifest."""
        return Manifest.decode(self.artifacts.read(self.keys.manifest))


@dataclass
class Stages:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def upload(place: Place, source: Path, settings: str) -> None:
    """Lay a file into the uploads as if it had been put there, and write the request of a version of it."""
    key = f"datasets/{place.dataset}/{source.name}"
    path = place.uploads.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(source.resolve())
    request = DatasetRequest(
        dataset=place.dataset,
        version=place.version,
        files=(SourceFile(key=key, size=source.stat().st_size),),
        config=parse_config(settings.encode()),
    )
    place.artifacts.write(place.keys.request, request.model_dump_json().encode())


def make_shards(place: Place, run: RunOver = in_this_process) -> Stages:
    """From an upload with its request to a committed manifest; the Maps run through `run`."""
    stages = Stages()
    with stages.timed("plan"):
        plan = plan_dataset(place.uploads, place.artifacts, place.dataset, place.version)
    with stages.timed("write"):
        run(_write, [(place, item) for item in range(len(plan.items))])
    with stages.timed("assign"):
        assignment = assign_samples(place.artifacts, place.dataset, place.version)
    with stages.timed("pack"):
        run(_pack, [(place, shard) for shard in range(len(assignment.shards))])
    with stages.timed("commit"):
        commit_dataset(place.artifacts, place.dataset, place.version)
    return stages


def _write(item: tuple[Place, int]) -> None:
    place, number = item
    write_shard(place.uploads, place.artifacts, place.dataset, place.version, number)


def _pack(item: tuple[Place, int]) -> None:
    place, number = item
    pack_shard(place.artifacts, place.dataset, place.version, number)
