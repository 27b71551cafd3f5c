"""One pass over a set of images or texts: which files there are, what is refused, where a worker finds each of them."""

from __future__ import annotations

import io
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.archives import (
    ARCHIVE_SUFFIXES,
    archive_format,
    judge_name,
    list_members,
    read_members,
    unpack_members,
)
from shoal_core.data.config import SourceFile
from shoal_core.data.cutting import MAX_ITEMS, count_items, cut_evenly
from shoal_core.data.images.blocks import BlockWriter
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import folder_of, place_in
from shoal_core.data.images.sides import Sides
from shoal_core.data.plan import ArchiveSlice, ObjectSlice
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.errors import BadDataset, BadTable, TooLarge
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

# What opening one more member or object costs, in bytes of reading.
MEMBER_COST = 2048
LOOSE = -1
MAX_FILE_BYTES = 64 * 1024**2
MAX_INDEX_BYTES = 64 * 1024**2
"""Of a table inside an archive."""
_NO_BLOCK = -1
_SHOWN_OTHERS = 20


Judged = tuple[str, str, str]
"""Why a file can't be a sample: (code, reason, fix), all empty when it can."""


@dataclass(frozen=True)
class FileKind:
    """What the samples of a set are.

    Attributes:
        judge: Whether a file of that name and so many bytes can be one.
        is_index: Whether a file of that name may be a table that names samples.
        take: Takes the bytes of every sample of an archive that is re-packed; the archive's number comes first.
    """

    judge: Callable[[str, int], Judged]
    is_index: Callable[[str], bool] = lambda name: False
    take: Callable[[int, bytes], None] | None = None


@dataclass(frozen=True)
class IndexTable:
    """A table beside the images, which may name them: where it is, and its bytes where they are at hand."""

    name: str
    source: int
    index: int
    offset: int
    size: int
    data: bytes | None = None


class SetFiles:
    """What planning learns about the samples of a set, in compact columns: a row per file, in the order of the sources.

    `sources` are numbers of `archives`, or `LOOSE`; `indices` count a source's entries (samples only, where `blocks`
    says in which block the file was re-packed), `offsets` are where reading it starts. `folders` are where the members
    of each archive lie in the set, `others` the first names of what isn't a sample.
    """

    def __init__(self, dataset: str, archives: list[SourceFile], loose: int, kind: FileKind) -> None:
        self.kind = kind
        self.archives = archives
        self.source_names = [relative_name(file, dataset) for file in archives]
        self.alone = len(archives) == 1 and not loose
        self.name = self.source_names[0] if self.alone else dataset
        self.folders = [""] * len(archives)
        self.drops = DropTally()
        self.names: list[str] = []
        self.sources = array("i")
        self.indices = array("q")
        self.offsets = array("q")
        self.blocks = array("i")
        self.weights = array("q")
        self.tables: list[IndexTable] = []
        self.others: list[str] = []

    def add(self, source: int, name: str, index: int, size: int, offset: int, block: int = _NO_BLOCK) -> None:
        """Take one sample."""
        self.names.append(name)
        self.sources.append(source)
        self.indices.append(index)
        self.offsets.append(offset)
        self.blocks.append(block)
        self.weights.append(size + MEMBER_COST)

    def refuse(self, source: int, name: str, judged: Judged) -> None:
        """Count a file that is no sample, for (code, reason, fix)."""
        code, reason, fix = judged
        if code == "junk":
            self.drops.ignored += 1
            return
        self.drops.add(self.source_name(source), name, code, f"{name!r}: {reason}.", fix)
        if len(self.others) < _SHOWN_OTHERS:
            self.others.append(name)

    def refuse_tables(self, used: Sequence[IndexTable]) -> None:
        """Count the tables that turned out to be no index of the images."""
        for table in self.tables:
            if table not in used:
                self.refuse(table.source, table.name, self.kind.judge(table.name, table.size))

    def source_name(self, source: int) -> str:
        """What to call a source in the report."""
        return self.name if source == LOOSE or self.alone else self.source_names[source]

    def block(self, position: int) -> int | None:
        """The block that a file was re-packed to."""
        found = self.blocks[position]
        return None if found == _NO_BLOCK else found

    def place(self, source: int, start: int, tables: int) -> None:
        """Put what an archive gave (samples from `start`, tables from `tables` on) in its folder of the set.

        A set of several archives keeps their folders; an archive without folders of its own is one, called like it, so
        `cats.zip` and `dogs.zip` are two classes.
        """
        path = PurePosixPath(self.source_names[source])
        folder = "" if self.alone or str(path.parent) == "." else str(path.parent)
        if not self.alone and not folder and not any(map(folder_of, self.names[start:])):
            folder = path.name[: -len(next(end for end in ARCHIVE_SUFFIXES if path.name.casefold().endswith(end)))]
        if folder:
            self.folders[source] = folder
            self.names[start:] = [place_in(folder, name) for name in self.names[start:]]
            self.tables[tables:] = [replace(table, name=place_in(folder, table.name)) for table in self.tables[tables:]]

    def keep_sided(self, positions: NDArray[np.int64], sides: Sides) -> NDArray[np.bool_]:
        """Which samples can be put on a side of the split; the others are told.

        Raises:
            BadDataset: None can.
        """
        kept = ~np.isin(positions, [position for position, *_ in sides.lost])
        left = set(positions[~kept].tolist())
        for position, code, reason, fix in sides.lost:
            if position in left:
                name = self.names[position]
                self.drops.add(self.source_name(self.sources[position]), name, code, f"{name!r}: {reason}.", fix)
        if not kept.any():
            raise BadDataset(f"No file of {self.name!r} can be put on a side of the split.", sides.lost[0][3])
        return kept


def is_archive_name(name: str) -> bool:
    """Whether the extension is that of an archive that can be read."""
    return name.casefold().endswith(ARCHIVE_SUFFIXES)


def gather_files(
    uploads: ObjectStore, artifacts: ObjectStore, keys: DatasetKeys, files: FileList, kind: FileKind
) -> SetFiles:
    """List loose files and archives; what is in a tar.gz is re-packed into blocks.

    Raises:
        BadArchive: An archive that can't be trusted as a whole.
    """
    archives = [file for file in files if is_archive_name(relative_name(file, keys.dataset))]
    found = SetFiles(keys.dataset, archives, len(files) - len(archives), kind)
    for index, file in enumerate(files):
        name = relative_name(file, keys.dataset)
        judged = judge_name(name)
        if judged[0] == "nested_archive" and is_archive_name(name):
            continue
        if not judged[0] and kind.is_index(name):
            found.tables.append(IndexTable(name, LOOSE, index, 0, file.size))
        elif (judged := judged if judged[0] else kind.judge(name, file.size))[0]:
            found.refuse(LOOSE, name, judged)
        else:
            found.add(LOOSE, name, index, file.size, 0)
    block = 0
    for source, file in enumerate(archives):
        start, tables = len(found.names), len(found.tables)
        with open_source(uploads, file) as stream:
            if archive_format(stream, found.source_name(source)) == "tar.gz":
                writer = BlockWriter(artifacts, keys, block)
                _unpack(stream, found, source, file.size, writer)
                block = writer.close()
            else:
                _list(stream, found, source, file.size)
        found.place(source, start, tables)
    return found


def _list(stream: BinaryIO, found: SetFiles, source: int, size: int) -> None:
    """List a zip or tar."""
    kind = found.kind
    for member in list_members(stream, found.source_name(source), size):
        judged = (member.code, member.reason, member.fix) if member.code else kind.judge(member.name, member.size)
        if not judged[0]:
            found.add(source, member.name, member.index, member.size, member.offset)
        elif not member.code and kind.is_index(member.name):
            found.tables.append(IndexTable(member.name, source, member.index, member.offset, member.size))
        else:
            found.refuse(source, member.name, judged)


def _unpack(stream: BinaryIO, found: SetFiles, source: int, size: int, writer: BlockWriter) -> None:
    """List a tar.gz and re-pack its samples; tables are kept at hand, up to `MAX_INDEX_BYTES` of them."""
    count = kept = 0
    kind = found.kind
    for member, data in unpack_members(stream, found.source_name(source), size):
        judged = (member.code, member.reason, member.fix) if member.code else kind.judge(member.name, member.size)
        if not judged[0]:
            block, offset = writer.add(member.name, data)
            found.add(source, member.name, count, member.size, offset, block)
            count += 1
            if kind.take is not None:
                kind.take(source, data)
        elif not member.code and kind.is_index(member.name) and kept + member.size <= MAX_INDEX_BYTES:
            kept += member.size
            found.tables.append(IndexTable(member.name, source, member.index, 0, member.size, data))
        else:
            found.refuse(source, member.name, judged)


def open_table(uploads: ObjectStore, files: FileList, found: SetFiles, table: IndexTable) -> BinaryIO:
    """The bytes of an index table.

    Raises:
        BadTable: It is damaged, or too large to be read out of an archive.
    """
    if table.data is not None:
        return io.BytesIO(table.data)
    if table.source == LOOSE:
        return open_source(uploads, files[table.index])
    file = found.archives[table.source]
    if table.size > MAX_INDEX_BYTES:
        raise BadTable(
            f"{table.name!r} has more than {MAX_INDEX_BYTES:,} bytes.", "Upload it beside the archive, not inside."
        )
    with open_source(uploads, file) as stream:
        wanted = {table.index}
        members = read_members(stream, table.name, file.size, table.index, table.index + 1, table.offset, wanted)
        for member, data in members:
            if not member.code:
                return io.BytesIO(data)
            raise BadTable(f"{table.name!r}: {member.reason}.", member.fix)
    raise BadTable(f"{table.name!r} can't be found again.", "Upload the archive again.")


def sample_files(
    uploads: ObjectStore, artifacts: ObjectStore, keys: DatasetKeys, files: FileList, found: SetFiles, chosen: list[int]
) -> Iterator[bytes]:
    """The bytes of some samples, by rising position; those that are damaged are left out."""
    by_source = itertools.groupby(chosen, key=lambda position: found.sources[position])
    for source, group in by_source:
        positions = list(group)
        first = positions[0]
        if source == LOOSE:
            yield from read_ahead(uploads, [files[found.indices[position]] for position in positions])
        elif found.block(first) is not None:
            for position in positions:
                yield from _sample_block(artifacts, keys, found, position)
        else:
            file = found.archives[source]
            wanted = {found.indices[position]: found.offsets[position] for position in positions}
            with open_source(uploads, file) as stream:
                members = read_members(
                    stream, found.name, file.size, min(wanted), max(wanted) + 1, found.offsets[first], wanted
                )
                yield from (data for member, data in members if not member.code)


def _sample_block(artifacts: ObjectStore, keys: DatasetKeys, found: SetFiles, position: int) -> Iterator[bytes]:
    key = keys.block(found.blocks[position])
    with artifacts.open(key) as stream:
        # The block's size only bounds what may be read.
        members = read_members(stream, key, 2 * MAX_FILE_BYTES, 0, 1, found.offsets[position])
        yield from (data for _, data in members)


def cut_files(
    found: SetFiles, positions: NDArray[np.int64], sample_bytes: int, workers: int | None
) -> tuple[tuple[ArchiveSlice | ObjectSlice, ...], list[tuple[int, int]]]:
    """Work items of one source each, and the ranges of `positions` that they hold.

    Args:
        found: The set.
        positions: The samples that are taken, rising.
        sample_bytes: Bytes of one encoded sample.
        workers: The number of workers asked for.

    Raises:
        TooLarge: Too many bytes, or more archives than there may be work items.
    """
    weights = np.array(found.weights, np.int64)[positions].tolist()
    pieces = count_items(len(weights), sum(weights), sample_bytes, workers)
    # An even number of even items keeps two workers busy to the end.
    pieces += pieces % 2 if pieces > 4 else 0
    sources = np.array(found.sources, np.int32)[positions]
    borders = (np.flatnonzero(np.diff(sources)) + 1).tolist()
    if len(borders) >= MAX_ITEMS:
        raise TooLarge(
            f"{found.name!r} has samples in {len(borders) + 1:,} archives, and a work item, of which there are at most "
            f"{MAX_ITEMS}, reads one.",
            "Upload fewer and larger archives, or several datasets.",
        )
    # Each border may cut a piece in two.
    cuts = cut_evenly(weights, min(pieces, MAX_ITEMS - len(borders)))
    bounds = sorted({0, *borders, len(sources), *itertools.chain.from_iterable(cuts)})
    ranges = list(itertools.pairwise(bounds))
    return tuple(_item(found, positions[start:stop]) for start, stop in ranges), ranges


def _item(found: SetFiles, positions: NDArray[np.int64]) -> ArchiveSlice | ObjectSlice:
    start, end = int(positions[0]), int(positions[-1])
    source, first, last = found.sources[start], found.indices[start], found.indices[end] + 1
    if source == LOOSE:
        return ObjectSlice(first=first, last=last)
    return ArchiveSlice(file=source, first=first, last=last, offset=found.offsets[start], block=found.block(start))
