"""Parquet by row groups: its footer, and a local file that holds some of the groups, for DuckDB to read.

Only the bytes of the groups that are wanted are fetched. The local file is sparse: they lie where they lie in the whole
file, and a footer that knows of them alone comes last. Source: apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shoal_core.data.tables.formats import MAX_COLUMNS
from shoal_core.data.tables.thrift import CompactReader, Struct, write_struct
from shoal_core.errors import BadTable, TooLarge

MAGIC = b"PAR1"
MAX_FOOTER = 64 * 1024**2
MAX_GROUP = 400 * 1024**2
_CHUNK = 4 * 1024**2
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS = 1, 2, 3
_FILE_PATH, _META = 1, 3
_INDEXES = (4, 5, 6, 7)
_COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
_BLOOM = (14, 15)


@dataclass(frozen=True)
class RowGroup:
    """One row group: its rows, its bytes in the file, and where they lie: (start, stop) per column."""

    rows: int
    bytes: int
    unpacked: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says."""

    name: str
    groups: tuple[RowGroup, ...]
    meta: Struct

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the top-level columns, in order."""
        elements = self.meta[_SCHEMA][1][1]
        names: list[str] = []
        place = 1
        for _ in range(_children(elements[0])):
            names.append(elements[place][4][1].decode("utf-8", "replace"))
            place = _after(elements, place)
        return tuple(names)


def read_footer(stream: BinaryIO, name: str, size: int) -> Footer:
    """Read a file's footer. Raises `BadTable` or `TooLarge`."""
    fix = "Write the file again, with pandas or DuckDB for example, and upload it."
    if size < 12:
        raise BadTable(f"{name!r} isn't a Parquet file: it has {size} bytes.", fix)
    stream.seek(size - 8)
    tail = stream.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == b"PARE":
        raise BadTable(f"{name!r} is an encrypted Parquet file.", "Upload it without encryption.")
    if tail[4:] != MAGIC or length + 12 > size:
        raise BadTable(f"{name!r} isn't a Parquet file, or was cut short.", fix)
    if length > MAX_FOOTER:
        raise TooLarge(f"The footer of {name!r} has {length:,} bytes.", "Write fewer columns or larger row groups.")
    stream.seek(size - 8 - length)
    try:
        meta = CompactReader(stream.read(length)).read_struct()
        groups = tuple(_group(group) for group in meta[_GROUPS][1][1]) if _GROUPS in meta else ()
        footer = Footer(name, groups, meta)
        columns = footer.columns
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise BadTable(f"The footer of {name!r} can't be read: {error}.", fix) from error
    if any(start < 4 or stop > size for group in groups for start, stop in group.ranges):
        raise BadTable(f"{name!r} was cut short: its footer names bytes that it doesn't have.", fix)
    if len(columns) > MAX_COLUMNS:
        raise BadTable(f"{name!r} has {len(columns):,} columns.", f"Keep it to {MAX_COLUMNS:,}.")
    if len(set(columns)) < len(columns) or "" in columns:
        raise BadTable(f"{name!r} has columns without a name, or two of one name.", "Give every column its own name.")
    large = next((group for group in groups if group.bytes > MAX_GROUP), None)
    if large is not None:
        raise TooLarge(
            f"{name!r} has a row group of {large.bytes:,} bytes.", f"Write row groups of at most {MAX_GROUP:,} bytes."
        )
    return footer


def spool_groups(stream: BinaryIO, footer: Footer, first: int, last: int, path: Path) -> int:
    """Write a local Parquet file that holds the row groups first..last (exclusive); returns their rows.

    Raises:
        BadTable: The file ends early.
    """
    groups = footer.groups[first:last]
    stop = 4
    with path.open("wb") as file:
        file.write(MAGIC)
        for group in groups:
            for start, end in group.ranges:
                stop = max(stop, end)
                _copy(stream, file, start, end, footer.name)
        file.seek(stop)
        meta = write_struct(_with_groups(footer.meta, first, last, sum(group.rows for group in groups)))
        file.write(meta + len(meta).to_bytes(4, "little") + MAGIC)
    return sum(group.rows for group in groups)


def _copy(stream: BinaryIO, file: BinaryIO, start: int, stop: int, name: str) -> None:
    stream.seek(start)
    file.seek(start)
    while start < stop:
        data = stream.read(min(_CHUNK, stop - start))
        if not data:
            raise BadTable(f"{name!r} ends early.", "Upload it again.")
        file.write(data)
        start += len(data)


def _with_groups(meta: Struct, first: int, last: int, rows: int) -> Struct:
    kind, (item, groups) = meta[_GROUPS]
    chosen = [_without_indexes(group) for group in groups[first:last]]
    return {**meta, _ROWS: (meta[_ROWS][0], rows), _GROUPS: (kind, (item, chosen))}


def _without_indexes(group: Struct) -> Struct:
    """A row group that doesn't refer to bytes outside its pages."""
    kind, (item, columns) = group[_COLUMNS]
    plain = []
    for column in columns:
        meta = {field: value for field, value in column[_META][1].items() if field not in _BLOOM}
        kept = {field: value for field, value in column.items() if field not in _INDEXES}
        plain.append({**kept, _META: (column[_META][0], meta)})
    return {**group, _COLUMNS: (kind, (item, plain))}


def _group(group: Struct) -> RowGroup:
    ranges: list[tuple[int, int]] = []
    for column in group[_COLUMNS][1][1]:
        if _FILE_PATH in column:
            raise ValueError("its columns lie in other files")
        meta = column[_META][1]
        start = int(meta[_DATA_PAGE][1])
        if _DICTIONARY_PAGE in meta and 0 < meta[_DICTIONARY_PAGE][1] < start:
            start = int(meta[_DICTIONARY_PAGE][1])
        ranges.append((start, start + int(meta[_COMPRESSED][1])))
    packed = sum(stop - start for start, stop in ranges)
    return RowGroup(int(group[_GROUP_ROWS][1]), packed, int(group[_GROUP_BYTES][1]), tuple(ranges))


def _children(element: Struct) -> int:
    return int(element[5][1]) if 5 in element else 0


def _after(elements: list[Struct], place: int) -> int:
    """The place after an element of the schema and all that lies in it."""
    left = 1
    while left:
        left += _children(elements[place]) - 1
        place += 1
    return place
