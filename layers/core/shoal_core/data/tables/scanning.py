"""The one pass over tables while they are planned: their columns, and the segments that work items are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Self

from shoal_core.data.config import SourceFile
from shoal_core.data.requests import open_source
from shoal_core.data.tables.blocks import Block, read_blocks
from shoal_core.data.tables.formats import Encoding, TableFormat, kind_of, sniff_table
from shoal_core.data.tables.frames import Frame
from shoal_core.data.tables.goals import choose_target
from shoal_core.data.tables.packed import Window, plain_chunks, unpacked_chunks, without_mark
from shoal_core.data.tables.parquet import read_footer
from shoal_core.data.tables.partitions import partition_of
from shoal_core.data.tables.profiling import TableProfile
from shoal_core.data.tables.reading import TableReader, with_partition
from shoal_core.data.tables.rows import TableRow, read_header
from shoal_core.keys import BlockKeys
from shoal_core.store import ObjectStore

PART_BYTES = 16 * 1024**2


@dataclass(frozen=True)
class Segment:
    """A part of a table that isn't divided further: bytes start..stop with the lines before them, or one row group.

    `weight` are its bytes.
    """

    file: int
    start: int
    stop: int
    line: int
    weight: int
    block: int | None = None
    row_groups: bool = False


@dataclass
class Scan:
    """What the pass has found out so far; `rows` are all that there are, good or bad."""

    profile: TableProfile
    segments: list[Segment] = field(default_factory=list)
    rows: int = 0
    bad: TableRow | None = None
    blocks: int = 0

    @property
    def bytes(self) -> int:
        """Bytes to read when the tables are encoded."""
        return sum(segment.weight for segment in self.segments)


class Scanner:
    """Scans tables that belong together, one after the other. A context manager.

    Args:
        uploads: Where the tables are.
        artifacts: Where blocks of those go that can't be read from the middle.
        keys: Keys of those blocks.
        profile: Takes what is learnt of the columns; None where only places to cut are wanted.
        step: How close together cuts may be, in bytes.
        target: The target asked for.
    """

    def __init__(
        self,
        uploads: ObjectStore,
        artifacts: ObjectStore,
        keys: BlockKeys,
        profile: TableProfile | None,
        step: int,
        target: str | None = None,
    ) -> None:
        self._uploads = uploads
        self._artifacts = artifacts
        self._keys = keys
        self._step = step
        self._target = target
        self._reader = TableReader()
        self._profiles = profile is not None
        self.scan = Scan(profile if profile is not None else TableProfile(()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.__exit__(*error)

    def add(self, number: int, source: SourceFile, name: str, form: TableFormat) -> None:
        """Scan one table whose format is known.

        Raises:
            BadTable: It can't be read any further.
            UnicodeDecodeError: It isn't UTF-8 after all; the scan is of no more use.
        """
        partition = partition_of(name)
        self.scan.profile.know((*(column for column in form.columns if column not in partition), *partition))
        with open_source(self._uploads, source) as stream:
            if form.kind == "parquet":
                self._add_parquet(number, stream, name, source.size, partition)
            elif form.divisible:
                self._add_text(number, stream, name, form, source.size, partition)
            else:
                self._add_stream(number, stream, name, form, partition)

    def _add_parquet(
        self, number: int, stream: BinaryIO, name: str, size: int, partition: Mapping[str, str | None]
    ) -> None:
        footer = read_footer(stream, name, size)
        row = 0
        for place, group in enumerate(footer.groups):
            if self._profiles:
                for frame in self._reader.parquet_frames(stream, footer, place, place + 1, row):
                    self._profile(with_partition(frame, partition))
            weight = max(group.bytes, group.unpacked, 1)
            self.scan.segments.append(Segment(number, place, place + 1, row, weight, row_groups=True))
            row += group.rows
        self.scan.rows += row

    def _add_text(
        self,
        number: int,
        stream: BinaryIO,
        name: str,
        form: TableFormat,
        size: int,
        partition: Mapping[str, str | None],
    ) -> None:
        start = line = 0
        for block in read_blocks(stream, name, form, step=self._step):
            self._learn(block, form, partition)
            for stop, last_line in block.cuts:
                self.scan.segments.append(Segment(number, start, stop, line, stop - start))
                start, line = stop, last_line
        if start < size:
            self.scan.segments.append(Segment(number, start, size, line, size - start))

    def _add_stream(
        self, number: int, stream: BinaryIO, name: str, form: TableFormat, partition: Mapping[str, str | None]
    ) -> None:
        """Write a table that can't be read from the middle as blocks that can be read alone."""
        window = Window(without_mark(plain_chunks(stream, name, form)))
        plain = plain_form(form)
        base = start = line = 0
        kept: list[bytes] = []
        for block in read_blocks(window, name, plain, step=self._step):  # type: ignore[arg-type]
            self._learn(block, plain, partition)
            kept.append(window.keep_from(block.stop))
            whole = block.stop - base >= PART_BYTES
            cuts = [*block.cuts, (block.stop, block.last_line)] if whole else block.cuts
            for stop, last_line in cuts:
                if stop > start:
                    self._add_segment(number, base, start, stop, line)
                start, line = stop, last_line
            if whole:
                self._write(kept)
                base, kept = block.stop, []
        rest = b"".join(kept)
        if base + len(rest) > start:
            self._add_segment(number, base, start, base + len(rest), line)
        if rest:
            self._write([rest])

    def _add_segment(self, number: int, base: int, start: int, stop: int, line: int) -> None:
        block = self.scan.blocks
        self.scan.segments.append(Segment(number, start - base, stop - base, line, stop - start, block))

    def _write(self, parts: list[bytes]) -> None:
        self._artifacts.write(self._keys.block(self.scan.blocks), b"".join(parts))
        self.scan.blocks += 1

    def _learn(self, block: Block, form: TableFormat, partition: Mapping[str, str | None]) -> None:
        self.scan.rows += block.count + len(block.bad)
        if self._profiles:
            self._profile(with_partition(self._reader.frame(block, form), partition))

    def _profile(self, frame: Frame) -> None:
        profile = self.scan.profile
        if self.scan.bad is None and frame.bad:
            self.scan.bad = frame.bad[0]
        if not profile.rows and profile.leaks.target is None and len(frame.lines):
            names = tuple(dict.fromkeys((*profile.columns, *frame.names)))
            profile.leaks.target = choose_target(names, "", None if self._target not in names else self._target)
        profile.add_frame(frame)


def sniff_source(uploads: ObjectStore, source: SourceFile, name: str, encoding: Encoding | None = None) -> TableFormat:
    """A table's format, with the columns of a CSV or of Parquet.

    Args:
        uploads: Where it is.
        source: The file.
        name: Its name.
        encoding: Its encoding, where that is known better than from its first bytes.

    Raises:
        BadTable: It isn't a table.
        UnicodeDecodeError: The header isn't UTF-8.
    """
    with open_source(uploads, source) as stream:
        return sniff_stream(stream, name, source.size, encoding)


def sniff_stream(stream: BinaryIO, name: str, size: int, encoding: Encoding | None = None) -> TableFormat:
    """`sniff_source` of a seekable stream of `size` bytes."""
    kind, packing = kind_of(name)
    if kind == "parquet":
        return TableFormat(kind="parquet", columns=read_footer(stream, name, size).columns)
    form = sniff_table(stream if packing is None else _window(unpacked_chunks(stream, name, packing)), name)
    if encoding is not None and form.encoding != "utf-16":
        form = form.model_copy(update={"encoding": encoding})
    if form.kind != "csv":
        return form
    if form.divisible:
        return read_header(stream, name, form)
    opened = _window(without_mark(plain_chunks(stream, name, form)))
    return form.model_copy(update={"columns": read_header(opened, name, plain_form(form)).columns})


def plain_form(form: TableFormat) -> TableFormat:
    """The format of the blocks that planning writes of a table."""
    encoding = "cp1252" if form.encoding == "cp1252" and form.kind != "json" else "utf-8"
    return form.model_copy(update={"encoding": encoding, "packing": None})


def _window(chunks: Iterator[bytes]) -> BinaryIO:
    return Window(chunks)  # type: ignore[return-value]
