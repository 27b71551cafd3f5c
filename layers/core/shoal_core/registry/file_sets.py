"""The files of one dataset version, and the version's name: a function of their content and of the settings.

Small sets are named by the sha256 of every file. Beyond 10,000 files or 4 GiB nobody can read everything within one
function's time, so there the listing names the set: each file's name, size and ETag. A sum of hashes takes them in any
order and in any number of parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, Listing, ListingPart, SourceFile
from shoal_core.data.listings import PART_FILES, write_part
from shoal_core.data.requests import relative_name
from shoal_core.errors import TooLarge
from shoal_core.registry.records import Source
from shoal_core.store import ObjectStore

VERSION_LENGTH = 12
# Above either, files are named by their ETags instead of being read.
MAX_READ_FILES = 10_000
MAX_READ_BYTES = 4 << 30
# request.json names every part, and Lambda's 15 minutes list about 5,000,000 objects.
MAX_FILES = 5_000_000
# One file is one GET; this many at once keeps a Lambda's network busy without running out of connections.
PARALLEL_READS = 16
_SHOWN = 20
# Raised when Shoal reads the same bytes in another way, so that a replay of them makes a new version.
DATA_REVISION = 1
_MODULUS = 1 << 256
# Where data comes from and when is no property of the data: the same bytes are the same version.
_NOT_IDENTITY = ("files", "source", "schedule")


@dataclass
class ContentSum:
    """A digest of a multiset: sha256 of each entry, added modulo 2^256. Order and parts don't matter."""

    count: int = 0
    total: int = 0

    def add(self, entry: bytes) -> None:
        """Take one entry in."""
        self.count += 1
        self.total = (self.total + int.from_bytes(hashlib.sha256(entry).digest(), "big")) % _MODULUS

    def merge(self, count: int, total: int) -> None:
        """Take the entries of another sum in."""
        self.count += count
        self.total = (self.total + total) % _MODULUS

    def digest(self) -> str:
        """The digest in hex."""
        return f"{self.count}:{self.total:064x}"


@dataclass(frozen=True)
class FileSet:
    """The files of one version: all of them, or a listing; what identifies them; and the first few, for people."""

    identity: object
    files: tuple[SourceFile, ...] = ()
    listing: Listing | None = None
    bytes: int = 0
    shown: tuple[Source, ...] = ()

    def version(self, config: DatasetConfig) -> str:
        """The version that these files and settings make: 12 hex digits of a sha256."""
        settings = config.model_dump(mode="json", exclude_defaults=True, exclude=set(_NOT_IDENTITY))
        revision = {"revision": DATA_REVISION} if DATA_REVISION > 1 else {}
        data = canonical_json({"files": self.identity, "config": settings, **revision})
        return hashlib.sha256(data).hexdigest()[:VERSION_LENGTH]


def read_set(dataset: str, files: Sequence[SourceFile]) -> FileSet:
    """A set of files whose sha256 are known.

    The names of several files count (their folders are classes), the name of a single archive or table doesn't.
    """
    several = len(files) > 1
    identity = sorted((relative_name(file, dataset) if several else "", file.sha256 or "") for file in files)
    return FileSet(identity, tuple(files), None, sum(file.size for file in files), sources(files))


def listed_set(
    digest: str, files: Sequence[SourceFile], parts: Sequence[ListingPart], size: int, shown: Iterable[SourceFile]
) -> FileSet:
    """A set that `digest` identifies: its files, or the parts of its listing."""
    count = sum(part.count for part in parts)
    listing = Listing(parts=tuple(parts), count=count, bytes=size) if parts else None
    return FileSet({"listing": digest}, tuple(files), listing, size, sources(shown))


def sources(files: Iterable[SourceFile], limit: int = _SHOWN) -> tuple[Source, ...]:
    """The first files, for people; the request has them all."""
    shown = (file for file, _ in zip(files, range(limit), strict=False))
    return tuple(Source(key=file.key, version=file.version, size=file.size) for file in shown)


@dataclass
class ListingWriter:
    """Collects files in the order of their names; full parts go to the artifacts, so memory is bounded by one part."""

    artifacts: ObjectStore
    dataset: str
    parts: list[ListingPart] = field(default_factory=list)
    folder: str | None = None
    files: list[SourceFile] = field(default_factory=list)
    shown: list[SourceFile] = field(default_factory=list)
    bytes: int = 0
    content: ContentSum = field(default_factory=ContentSum)

    def add(self, file: SourceFile) -> None:
        """Take one file in. Raises `TooLarge` beyond 5,000,000."""
        if len(self.files) == PART_FILES:
            self.flush()
        if self.content.count >= MAX_FILES:
            raise TooLarge(
                f"Dataset {self.dataset!r} has more than {MAX_FILES:,} files.",
                "Pack the files into archives or tables.",
            )
        if len(self.shown) < _SHOWN:
            self.shown.append(file)
        self.files.append(file)
        self.bytes += file.size
        self.content.add(canonical_json([relative_name(file, self.dataset), file.size, file.etag]))

    def flush(self) -> None:
        """Write what was collected as a part."""
        if self.files:
            self.parts.append(write_part(self.artifacts, self.dataset, self.files, self.folder))
            self.files = []

    def finish(self) -> FileSet:
        """The set, named by its listing."""
        if self.parts:
            self.flush()
        return listed_set(self.content.digest(), self.files, self.parts, self.bytes, self.shown)


def collect(
    artifacts: ObjectStore,
    dataset: str,
    listed: Iterator[SourceFile],
    fingerprint: Callable[[str, str | None], SourceFile],
) -> FileSet | None:
    """The set of listed files: read where it is small, else named by its listing; None when there is no file.

    Args:
        artifacts: Where the parts of a listing go.
        dataset: The dataset's name.
        listed: Files with their S3 versions, sizes and ETags, in the order of their names.
        fingerprint: Reads one file (key, S3 version) and tells its sha256.
    """
    writer = ListingWriter(artifacts, dataset)
    for file in listed:
        writer.add(file)
    if not writer.content.count:
        return None
    if writer.parts or writer.bytes > MAX_READ_BYTES or writer.content.count > MAX_READ_FILES:
        return writer.finish()

    def read(file: SourceFile) -> SourceFile:
        return fingerprint(file.key, file.version).model_copy(update={"name": file.name})

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return read_set(dataset, list(pool.map(read, writer.files)))
