"""Records as Parquet: the input's columns in their own types, and the columns of answers after them.

DuckDB writes a part; several parts become one file by their footers alone, since rows lie in groups that can be moved
as they are. Source: apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from shoal_core.data.tables.parquet import MAGIC
from shoal_core.data.tables.thrift import CompactReader, Struct, write_struct
from shoal_core.errors import BadInput
from shoal_core.serving.batches.columns import AnswerColumns

if TYPE_CHECKING:
    from shoal_core.data.tables.engine import Engine

CHUNK = 4 * 1024**2
FOOTER_BYTES = 8
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_ROWS, _GROUPS = 3, 4
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET, _META = 2, 3
_CHUNK_INDEXES = (4, 6)
_META_OFFSETS = (9, 10, 11, 14)


class AnswerFile:
    """Answers of the rows of one part, in a file from which DuckDB reads them.

    Args:
        path: Where it goes.
        columns: The columns.
    """

    def __init__(self, path: Path, columns: AnswerColumns) -> None:
        self.path = path
        self._columns = columns
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)

    def add(self, outcomes: Sequence[Any]) -> None:
        """Take the next rows' answers."""
        self._writer.writerows(map(self._columns.cells, outcomes))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    @property
    def types(self) -> str:
        """Its columns, as DuckDB's `read_csv` takes them."""
        kinds = dict.fromkeys(self._columns.names, "DOUBLE")
        kinds |= dict.fromkeys(self._columns.texts, "VARCHAR") | dict.fromkeys(self._columns.flags, "BOOLEAN")
        return "{" + ", ".join(f"{_text(name)}: '{kind}'" for name, kind in kinds.items()) + "}"


def write_part(engine: Engine, source: Path, answers: AnswerFile, target: Path) -> None:
    """Write a Parquet file's rows with their answers beside them, in their order."""
    engine.database.execute(
        f"COPY (SELECT * FROM read_parquet({_text(source)}) POSITIONAL JOIN read_csv({_text(answers.path)}, "  # noqa: S608 - our own files, names quoted
        f"columns={answers.types}, header=false, auto_detect=false, delim=',', quote='\"', escape='\"', nullstr='', "
        f"parallel=false)) TO {_text(target)} (FORMAT parquet)"
    )


def chunks_of(path: Path) -> Iterator[bytes]:
    """A local file's bytes."""
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


def tail_of(path: Path) -> int:
    """Bytes of a Parquet file's footer, its length and the closing magic."""
    with path.open("rb") as file:
        file.seek(-FOOTER_BYTES, 2)
        return int.from_bytes(file.read(4), "little") + FOOTER_BYTES


def joined_footer(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """The end of the file that several parts become, one after the other, without their own ends.

    Args:
        parts: Each one's bytes in all, and its end: the footer, the footer's length, the magic.

    Raises:
        BadInput: The parts haven't the same columns.
    """
    offset = len(MAGIC)
    whole: Struct = {}
    groups: list[Struct] = []
    rows = 0
    for size, tail in parts:
        meta = CompactReader(tail[:-FOOTER_BYTES]).read_struct()
        if not whole:
            whole = meta
        if meta[2] != whole[2]:
            raise BadInput("The parts have columns of different types.", "Read them as several files.")
        found = meta[_GROUPS][1][1] if _GROUPS in meta else []
        groups += [_moved(group, offset - len(MAGIC), number) for number, group in enumerate(found, len(groups))]
        rows += meta[_ROWS][1]
        offset += size - len(tail) - len(MAGIC)
    kind, (item, _) = whole[_GROUPS]
    data = write_struct({**whole, _ROWS: (whole[_ROWS][0], rows), _GROUPS: (kind, (item, groups))})
    return data + len(data).to_bytes(4, "little") + MAGIC


def _moved(group: Struct, distance: int, number: int) -> Struct:
    """A row group that lies further on."""
    kind, (item, chunks) = group[_COLUMNS]
    moved: Struct = {**group, _COLUMNS: (kind, (item, [_moved_chunk(chunk, distance) for chunk in chunks]))}
    moved = _shifted(moved, (_GROUP_OFFSET,), distance)
    if _ORDINAL in moved:
        moved[_ORDINAL] = (moved[_ORDINAL][0], number)
    return moved


def _moved_chunk(chunk: Struct, distance: int) -> Struct:
    kind, meta = chunk[_META]
    moved = {**chunk, _META: (kind, _shifted(meta, _META_OFFSETS, distance))}
    return _shifted(moved, (_CHUNK_OFFSET, *_CHUNK_INDEXES), distance)


def _shifted(fields: Struct, names: Sequence[int], distance: int) -> Struct:
    """A struct whose offsets are that much larger; 0 means that there is none."""
    values: Mapping[int, Any] = fields
    return {
        name: (value[0], value[1] + distance) if name in names and value[1] else value for name, value in values.items()
    }


def _text(value: object) -> str:
    """An SQL text."""
    return "'" + str(value).replace("'", "''") + "'"
