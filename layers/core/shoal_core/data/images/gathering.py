"""One pass over an image set: which files there are, what is refused, and where a worker finds each of them."""

from __future__ import annotations

import io
import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from shoal_core.data.archives import (
    ARCHIVE_SUFFIXES,
    archive_format,
    judge_name,
    list_members,
    read_members,
    unpack_members,
)
from shoal_core.data.config import SourceFile
from shoal_core.data.images.blocks import BlockWriter
from shoal_core.data.images.encoding import MAX_IMAGE_BYTES
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import folder_of, judge_image_name, no_images, place_in
from shoal_core.data.images.labels import MAX_INDEX_BYTES, is_index_name
from shoal_core.data.report import DropTally, describe_drops
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.errors import BadDataset, BadTable
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

# What opening one more member or object costs, in bytes of reading.
MEMBER_COST = 2048
LOOSE = -1
_NO_BLOCK = -1
_SHOWN_OTHERS = 20


@dataclass(frozen=True)
class IndexTable:
    """A table beside the images, which may name them: where it is, and its bytes where they are at hand."""

    name: str
    source: int
    index: int
    offset: int
    size: int
    data: bytes | None = None


class ImageSet:
    """What planning learns about the images of a set, in compact columns: a row per image, in the order of the sources.

    `sources` are numbers of `archives`, or `LOOSE`; `indices` count a source's entries (images only, where `blocks`
    says in which block the image was re-packed), `offsets` are where reading it starts. `folders` are where the members
    of each archive lie in the set.
    """

    def __init__(self, dataset: str, archives: list[SourceFile], loose: int) -> None:
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
        self._others: list[str] = []

    def add(self, source: int, name: str, index: int, size: int, offset: int, block: int = _NO_BLOCK) -> None:
        """Take one image."""
        self.names.append(name)
        self.sources.append(source)
        self.indices.append(index)
        self.offsets.append(offset)
        self.blocks.append(block)
        self.weights.append(size + MEMBER_COST)

    def refuse(self, source: int, name: str, judged: tuple[str, str, str]) -> None:
        """Count a file that is no sample, for (code, reason, fix)."""
        code, reason, fix = judged
        if code == "junk":
            self.drops.ignored += 1
            return
        self.drops.add(self.source_name(source), name, code, f"{name!r}: {reason}.", fix)
        if len(self._others) < _SHOWN_OTHERS:
            self._others.append(name)

    def refuse_tables(self, used: IndexTable | None) -> None:
        """Count the tables that turned out to be no index of the images."""
        for table in self.tables:
            if table is not used:
                self.refuse(table.source, table.name, judge_image_name(table.name))

    def source_name(self, source: int) -> str:
        """What to call a source in the report."""
        return self.name if source == LOOSE or self.alone else self.source_names[source]

    def block(self, position: int) -> int | None:
        """The block that an image was re-packed to."""
        found = self.blocks[position]
        return None if found == _NO_BLOCK else found

    def place(self, source: int, start: int, tables: int) -> None:
        """Put what an archive gave (images from `start`, tables from `tables` on) in its folder of the set.

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

    def require(self) -> None:
        """Raise `BadDataset` when there is no image."""
        if self.names:
            return
        refused = self.drops.total()
        if refused.counts and set(refused.counts) != {"not_an_image"}:
            raise BadDataset(
                f"No image of {self.name!r} can be used: {describe_drops(refused)}.", refused.examples[0].fix
            )
        raise no_images(self.name, [*self._others, *(table.name for table in self.tables)])


def is_archive_name(name: str) -> bool:
    """Whether the extension is that of an archive that can be read."""
    return name.casefold().endswith(ARCHIVE_SUFFIXES)


def gather_images(uploads: ObjectStore, artifacts: ObjectStore, keys: DatasetKeys, files: FileList) -> ImageSet:
    """List loose files and archives; what is in a tar.gz is re-packed into blocks.

    Raises:
        BadArchive: An archive that can't be trusted as a whole.
        BadDataset: No image.
    """
    archives = [file for file in files if is_archive_name(relative_name(file, keys.dataset))]
    images = ImageSet(keys.dataset, archives, len(files) - len(archives))
    for index, file in enumerate(files):
        name = relative_name(file, keys.dataset)
        judged = judge_name(name)
        if judged[0] == "nested_archive" and is_archive_name(name):
            continue
        if not judged[0] and file.size > MAX_IMAGE_BYTES:
            judged = ("too_large", f"it has {file.size:,} bytes", "Scale the image down before uploading.")
        if not judged[0] and is_index_name(name):
            images.tables.append(IndexTable(name, LOOSE, index, 0, file.size))
        elif (judged := judged if judged[0] else judge_image_name(name))[0]:
            images.refuse(LOOSE, name, judged)
        else:
            images.add(LOOSE, name, index, file.size, 0)
    block = 0
    for source, file in enumerate(archives):
        start, tables = len(images.names), len(images.tables)
        with open_source(uploads, file) as stream:
            if archive_format(stream, images.source_name(source)) == "tar.gz":
                writer = BlockWriter(artifacts, keys, block)
                _unpack(stream, images, source, file.size, writer)
                block = writer.close()
            else:
                _list(stream, images, source, file.size)
        images.place(source, start, tables)
    images.require()
    return images


def _list(stream: BinaryIO, images: ImageSet, source: int, size: int) -> None:
    """List a zip or tar."""
    for member in list_members(stream, images.source_name(source), size):
        judged = (member.code, member.reason, member.fix) if member.code else judge_image_name(member.name)
        if not judged[0]:
            images.add(source, member.name, member.index, member.size, member.offset)
        elif not member.code and is_index_name(member.name):
            images.tables.append(IndexTable(member.name, source, member.index, member.offset, member.size))
        else:
            images.refuse(source, member.name, judged)


def _unpack(stream: BinaryIO, images: ImageSet, source: int, size: int, writer: BlockWriter) -> None:
    """List a tar.gz and re-pack its images; tables are kept at hand, up to `MAX_INDEX_BYTES` of them."""
    count = kept = 0
    for member, data in unpack_members(stream, images.source_name(source), size):
        judged = (member.code, member.reason, member.fix) if member.code else judge_image_name(member.name)
        if not judged[0]:
            block, offset = writer.add(member.name, data)
            images.add(source, member.name, count, member.size, offset, block)
            count += 1
        elif not member.code and is_index_name(member.name) and kept + member.size <= MAX_INDEX_BYTES:
            kept += member.size
            images.tables.append(IndexTable(member.name, source, member.index, 0, member.size, data))
        else:
            images.refuse(source, member.name, judged)


def open_table(uploads: ObjectStore, files: FileList, images: ImageSet, table: IndexTable) -> BinaryIO:
    """The bytes of an index table.

    Raises:
        BadTable: It is damaged, or too large to be read out of an archive.
    """
    if table.data is not None:
        return io.BytesIO(table.data)
    if table.source == LOOSE:
        return open_source(uploads, files[table.index])
    file = images.archives[table.source]
    if table.size > MAX_INDEX_BYTES:
        raise BadTable(
            f"{table.name!r} has more than {MAX_INDEX_BYTES:,} bytes.", "Upload it beside the archive, not inside."
        )
    with open_source(uploads, file) as stream:
        found = read_members(stream, table.name, file.size, table.index, table.index + 1, table.offset, {table.index})
        for member, data in found:
            if not member.code:
                return io.BytesIO(data)
            raise BadTable(f"{table.name!r}: {member.reason}.", member.fix)
    raise BadTable(f"{table.name!r} can't be found again.", "Upload the archive again.")


def sample_images(
    uploads: ObjectStore,
    artifacts: ObjectStore,
    keys: DatasetKeys,
    files: FileList,
    images: ImageSet,
    chosen: list[int],
) -> Iterator[bytes]:
    """The bytes of some images, by rising position; those that are damaged are left out."""
    by_source = itertools.groupby(chosen, key=lambda position: images.sources[position])
    for source, group in by_source:
        positions = list(group)
        first = positions[0]
        if source == LOOSE:
            yield from read_ahead(uploads, [files[images.indices[position]] for position in positions])
        elif images.block(first) is not None:
            for position in positions:
                yield from _sample_block(artifacts, keys, images, position)
        else:
            file = images.archives[source]
            wanted = {images.indices[position]: images.offsets[position] for position in positions}
            with open_source(uploads, file) as stream:
                found = read_members(
                    stream, images.name, file.size, min(wanted), max(wanted) + 1, images.offsets[first], wanted
                )
                yield from (data for member, data in found if not member.code)


def _sample_block(artifacts: ObjectStore, keys: DatasetKeys, images: ImageSet, position: int) -> Iterator[bytes]:
    key = keys.block(images.blocks[position])
    with artifacts.open(key) as stream:
        # The block's size only bounds what may be read.
        found = read_members(stream, key, 2 * MAX_IMAGE_BYTES, 0, 1, images.offsets[position])
        yield from (data for _, data in found)
