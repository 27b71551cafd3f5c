"""DuckDB as the reader of Parquet: columns as numpy arrays, in bounded memory.

DuckDB decodes; what a value means stays with `data.values`. Typed columns come as arrays. Of a text column the rows
come as 64-bit hashes and the distinct texts once each with theirs; where two texts had one hash, or where there are
nearly as many texts as rows, the texts come themselves.

The database is in memory and sees one folder of temporary files; it loads no extension and has no network.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import Cells, TypedValues
from shoal_core.data.tables.coding import number_keys
from shoal_core.data.tables.frames import CodedFrame

# A function has about one core; a frame has too few rows for more.
THREADS = 1
MEMORY = "300MB"
ColumnType = Literal["text", "integer", "float", "boolean", "instant", "date", "nested"]
_MANY = 4


@functools.cache
def _database() -> tuple[duckdb.DuckDBPyConnection, tempfile.TemporaryDirectory[str]]:
    """This process's database, and the one folder that it sees: starting it takes longer than reading a small file."""
    folder = tempfile.TemporaryDirectory(prefix="shoal-tables-")
    database = duckdb.connect(
        config={
            "threads": THREADS,
            "memory_limit": MEMORY,
            "temp_directory": str(Path(folder.name) / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    allowed = folder.name.replace("'", "''")
    database.execute(
        f"SET allowed_directories = ['{allowed}/']; SET enable_external_access = false; SET TimeZone = 'UTC'; "
        "SET lock_configuration = true"
    )
    return database, folder


class Engine:
    """DuckDB for one work item, with a folder of its own. A context manager."""

    def __init__(self) -> None:
        database, folder = _database()
        self._folder = tempfile.TemporaryDirectory(dir=folder.name)
        self.folder = Path(self._folder.name)
        self.database = database.cursor()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()
        self._folder.cleanup()

    def read_parquet(self, path: Path, first: int, last: int, row: int) -> EngineFrame:
        """Rows first..last (exclusive) of a Parquet file in this folder; `row` rows of the table lie before its first.

        Raises:
            duckdb.Error: The file can't be read.
        """
        return EngineFrame(self.database, path, first, last, row)


class EngineFrame(CodedFrame):
    """See `frames.Frame`: rows of a Parquet file, which is read here and not needed any more afterwards."""

    def __init__(self, database: duckdb.DuckDBPyConnection, path: Path, first: int, last: int, row: int) -> None:
        self._database = database
        self._source = "FROM read_parquet(?, file_row_number=true) WHERE file_row_number >= ? AND file_row_number < ?"
        self._range: list[object] = [str(path), first, last]
        described = database.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        types = {str(name): _type_of(str(kind)) for name, kind, *_ in described}
        columns = {name: _normal(_quoted(name), kind) for name, kind in types.items()}
        few = self._few({name: column for name, column in columns.items() if types[name] in ("text", "nested")})
        parts = [
            f"{_hash(column)} AS c{index}" if name in few else f"{column} AS c{index}"
            for index, (name, column) in enumerate(columns.items())
        ]
        found = self._fetch(", ".join(parts))
        rows = len(found["c0"])
        super().__init__(tuple(types), np.arange(row + first + 1, row + first + rows + 1, dtype=np.int64))
        for index, (name, kind) in enumerate(types.items()):
            array = found.pop(f"c{index}")
            if name in few:
                self._cells[name] = self._hashed(array, columns[name], kind)
            else:
                self._cells[name] = _typed(array, kind) if kind != "text" else Cells.of(array.tolist())

    def _few(self, columns: dict[str, str]) -> set[str]:
        """The columns whose values come again and again."""
        if not columns:
            return set()
        about = ", ".join(
            f"approx_count_distinct({column}) AS c{index}" for index, column in enumerate(columns.values())
        )
        found = self._fetch(f"count(*) AS rows, {about}")
        return {name for index, name in enumerate(columns) if found[f"c{index}"][0] * _MANY <= found["rows"][0]}

    def _hashed(self, hashes: NDArray[np.uint64], column: str, kind: ColumnType) -> Cells:
        """Cells of a column whose rows came as hashes."""
        found = self._fetch(f"{column} AS v, {_hash(column)} AS h", "GROUP BY ALL")
        order = np.argsort(found["h"])
        known = found["h"][order]
        if not (known[1:] != known[:-1]).all():
            return Cells.of(_python(self._fetch(f"{column} AS v")["v"], kind))
        values = _python(found["v"], kind)
        codes, firsts = number_keys([hashes], None, len(hashes))
        texts = [values[place] for place in order[np.searchsorted(known, hashes[firsts])].tolist()]
        return _without_missing(codes, texts)

    def _fetch(self, parts: str, more: str = "") -> dict[str, Any]:
        return self._database.execute(f"SELECT {parts} {self._source} {more}", self._range).fetchnumpy()


def _without_missing(codes: NDArray[np.int32], values: Sequence[object]) -> Cells:
    """Cells whose value None is missing."""
    if None not in values:
        return Cells(codes, values)
    place = values.index(None)
    kept = np.where(codes == place, -1, codes - (codes > place)).astype(np.int32)
    return Cells(kept, [*values[:place], *values[place + 1 :]])


def _typed(array: Any, kind: ColumnType) -> Cells:  # noqa: ANN401 - a numpy array of any type, perhaps masked
    """Cells of a column whose rows came as they are."""
    if kind in ("boolean", "nested"):
        return Cells.of(_python(array, kind))
    plain = np.ma.getdata(array)
    if kind in ("instant", "date"):
        plain = plain.astype("M8[us]" if kind == "instant" else "M8[D]")
    missing = np.ma.getmaskarray(array) if np.ma.isMaskedArray(array) else None
    rows = None if missing is None or not missing.any() else np.flatnonzero(~missing)
    words = np.ascontiguousarray(plain if rows is None else plain[rows]).view(np.uint64)
    codes, firsts = number_keys([words], rows, len(plain))
    return Cells(codes, TypedValues(plain[firsts]))


def _type_of(kind: str) -> ColumnType:
    """What a Parquet column is read as, by DuckDB's name of its type."""
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "JSON", "VARIANT")):
        return "nested"
    if kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"):
        return "integer"
    if kind in ("FLOAT", "DOUBLE"):
        return "float"
    if kind.startswith("TIMESTAMP"):
        return "instant"
    return {"BOOLEAN": "boolean", "DATE": "date"}.get(kind, "text")  # type: ignore[return-value]


def _normal(column: str, kind: ColumnType) -> str:
    """A Parquet column in the one SQL type of its kind."""
    if kind == "integer":
        return f"{column}::BIGINT"
    if kind == "float":
        return f"CASE WHEN NOT isnan({column}::DOUBLE) THEN {column}::DOUBLE END"
    if kind == "instant":
        return f"CASE WHEN isfinite({column}::TIMESTAMP) THEN {column}::TIMESTAMP END"
    if kind == "date":
        return f"CASE WHEN isfinite({column}) THEN {column} END"
    if kind == "nested":
        return f"to_json({column})::VARCHAR"
    return column if kind == "boolean" else f"{column}::VARCHAR"


def _python(array: Any, kind: ColumnType) -> list[Any]:  # noqa: ANN401 - a numpy array of any type, perhaps masked
    values: list[Any] = array.tolist()
    if kind == "nested":
        return [None if value is None else json.loads(value) for value in values]
    return values


def _hash(column: str) -> str:
    return f"hash({column})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
