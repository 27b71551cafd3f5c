"""DuckDB as the reader of plain runs of CSV and of Parquet: columns as numpy arrays, in bounded memory.

DuckDB parses; what a value means stays with `data.values`. A number comes as a double only where DuckDB's cast is
provably `parse_number` (a finite double from a text without an underscore, within 32 bits' range), an instant only for
ISO 8601 texts whose fields are in range. Everything else comes as its raw value, each distinct one once.

The database is in memory and sees one folder of temporary files; it loads no extension and has no network.
"""

# ruff: noqa: S608 - statements are made of our own names (c0, c1, ...), quoted names of Parquet columns, and numbers

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import NO_INSTANT, Cells
from shoal_core.data.tables.formats import MAX_LINE_BYTES, TableFormat
from shoal_core.data.tables.frames import Distinct, Reading
from shoal_core.data.tables.rows import TableRow
from shoal_core.data.values import FLOAT32_MAX, MISSING

# A function has about one core; a block has too few rows for more.
THREADS = 1
MEMORY = "300MB"
ColumnType = Literal["text", "integer", "float", "boolean", "instant", "date", "nested"]
_ISO = r"\d{4}-\d\d-\d\d([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?)?Z?"
_MISSING = ", ".join(f"'{text}'" for text in sorted(MISSING))
_MANY = 4


class Engine:
    """One DuckDB database for one work item, with a folder of its own. A context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shoal-tables-")
        self.folder = Path(self._folder.name)
        self.database = duckdb.connect(
            config={
                "threads": THREADS,
                "memory_limit": MEMORY,
                "temp_directory": str(self.folder / "spill"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        folder = str(self.folder).replace("'", "''")
        self.database.execute(
            f"SET allowed_directories = ['{folder}/']; SET enable_external_access = false; SET TimeZone = 'UTC'; "
            "SET lock_configuration = true"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()
        self._folder.cleanup()

    def read_csv(self, text: bytes, form: TableFormat, lines: NDArray[np.int64]) -> EngineFrame | None:
        """A plain run of CSV; None when DuckDB doesn't see the rows that are there. One frame at a time is alive."""
        # Line breaks of one kind are easier; inside quotes they are data.
        if b"\r\n" in text and form.quote.encode() not in text:
            text = text.replace(b"\r\n", b"\n")
        path = self.folder / "block.csv"
        path.write_bytes(text)
        types = {f"c{index}": "VARCHAR" for index in range(len(form.columns))}
        try:
            self.database.execute(
                "CREATE OR REPLACE TEMP TABLE block AS SELECT * FROM read_csv(?, auto_detect=false, header=false, "
                f"columns={types}, delim=?, quote=?, escape=?, strict_mode=true, parallel=false, max_line_size=?)",
                [str(path), form.delimiter, form.quote, form.quote, MAX_LINE_BYTES],
            )
            rows = self._one("SELECT count(*) FROM block")
        except duckdb.Error:
            return None
        finally:
            path.unlink()
        if rows != len(lines):
            return None
        return EngineFrame(self.database, dict.fromkeys(form.columns, "text"), lines)

    def read_parquet(self, path: Path, first: int, last: int, row: int) -> EngineFrame:
        """Rows first..last (exclusive) of a Parquet file in this folder; `row` rows of the table lie before its first.

        Raises:
            duckdb.Error: The file can't be read.
        """
        described = self.database.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        types = {str(name): _type_of(str(kind)) for name, kind, *_ in described}
        parts = ", ".join(
            f"{_normal(_quoted(name), kind)} AS c{index}" for index, (name, kind) in enumerate(types.items())
        )
        self.database.execute(
            f"CREATE OR REPLACE TEMP TABLE block AS SELECT {parts} FROM read_parquet(?, file_row_number=true) "
            "WHERE file_row_number >= ? AND file_row_number < ?",
            [str(path), first, last],
        )
        rows = int(self._one("SELECT count(*) FROM block"))
        lines = np.arange(row + first + 1, row + first + rows + 1, dtype=np.int64)
        return EngineFrame(self.database, types, lines)

    def _one(self, query: str) -> Any:  # noqa: ANN401 - whatever the query gives
        found = self.database.execute(query).fetchone()
        return found[0] if found else None


class EngineFrame:
    """See `frames.Frame`: the rows in the table `block`, whose columns are c0, c1, …"""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, types: Mapping[str, ColumnType], lines: NDArray[np.int64]
    ) -> None:
        self._database = database
        self._types = types
        self._columns = {name: f"c{index}" for index, name in enumerate(types)}
        self._ready: dict[tuple[str, Reading], Cells] = {}
        self.names: Sequence[str] = tuple(types)
        self.lines = lines
        self.bad: Sequence[TableRow] = ()

    def prepare(self, wanted: Mapping[str, Reading]) -> None:
        """Fetch all arrays of numbers and instants at once, which is faster than one by one."""
        parts: dict[str, tuple[str, str, Reading]] = {}
        for name, reading in wanted.items():
            column = self._columns.get(name)
            exact = _exact(column, self._types[name], reading) if column else None
            if column and exact:
                parts[name] = (column, exact, reading)
        if not parts:
            return
        found = self._fetch(", ".join(f"{exact} AS {column}" for column, exact, _ in parts.values()))
        for name, (column, exact, reading) in parts.items():
            codes = np.full(len(self.lines), -1, np.int32)
            values: Sequence[object] = []
            if np.ma.getmaskarray(found[column]).any():
                rows = self._fetch(f"rowid AS r, {column} AS v", _odd(column, exact, self._types[name]))
                strange = Cells.of(_listed(rows["v"]))
                codes[np.asarray(rows["r"])] = strange.codes
                values = strange.values
            array = found[column]
            if reading == "number":
                numbers = np.asarray(np.ma.filled(array.astype(np.float64), np.nan), np.float64)
                self._ready[name, reading] = Cells(codes, values, numbers=numbers)
            else:
                instants = np.asarray(np.ma.filled(array.astype(np.int64), NO_INSTANT), np.int64)
                self._ready[name, reading] = Cells(codes, values, instants=instants)

    def cells(self, name: str, reading: Reading = "any") -> Cells:
        """See `Frame`."""
        column = self._columns.get(name)
        if column is None:
            return Cells.missing(len(self.lines))
        if _exact(column, self._types[name], reading) is None:
            reading = "any"
        if (name, reading) not in self._ready:
            if reading == "any":
                self._ready[name, reading] = self._raw(column, self._types[name])
            else:
                self.prepare({name: reading})
        return self._ready[name, reading]

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """See `Frame`."""
        kind = self._types[name]
        column = self._columns[name]
        where = f"{column} IS NOT NULL" + (f" AND rowid < {rows}" if rows is not None else "")
        found = self._database.execute(
            f"SELECT {_shown(column, kind)} AS v, count(*) AS n, min(rowid) AS r FROM block WHERE {where} "
            "GROUP BY v ORDER BY r"
        ).fetchnumpy()
        values = _python(found["v"], kind)
        return Distinct(values, np.asarray(found["n"], np.int64), np.asarray(found["r"], np.int64))

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """See `Frame`."""
        columns = {name: self._columns[name] for name in names if name in self._columns}
        if not columns:
            return {}
        found = self._fetch(", ".join(f"bit_xor(hash({column}, rowid)) AS {column}" for column in columns.values()))
        return {name: (self._types[name], int(found[column][0] or 0)) for name, column in columns.items()}

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """See `Frame`."""
        if name not in self._columns or other not in self._columns:
            return set()
        left, right = self._columns[name], self._columns[other]
        inside = f"{left} IS NOT NULL AND {right} IS NOT NULL" + (f" AND rowid < {rows}" if rows is not None else "")
        found = self._database.execute(
            f"SELECT DISTINCT {left}, {right} FROM block WHERE {inside} LIMIT {limit + 1}"
        ).fetchall()
        return set(found)

    def _raw(self, column: str, kind: ColumnType) -> Cells:
        """Raw values by code."""
        rows = len(self.lines)
        if kind in ("integer", "float"):
            array = np.ma.asarray(self._fetch(column)[column])
            missing = np.ma.getmaskarray(array)
            distinct, codes = np.unique(array.data, return_inverse=True)
            return Cells(np.where(missing, -1, codes).astype(np.int32), distinct.tolist())
        shown = _shown(column, kind)
        about = self._fetch(f"approx_count_distinct({column}) AS n")["n"][0]
        if about * _MANY > rows:
            array = np.ma.asarray(self._fetch(f"{shown} AS v")["v"])
            codes = np.where(np.ma.getmaskarray(array), -1, np.arange(rows))
            return Cells(codes.astype(np.int32), _python(array, kind))
        self._database.execute("DROP TYPE IF EXISTS seen")
        self._database.execute(
            f"CREATE TYPE seen AS ENUM (SELECT DISTINCT {shown} FROM block WHERE {column} IS NOT NULL)"
        )
        listed = self._database.execute("SELECT enum_range(NULL::seen)").fetchone()
        values = np.array(listed[0] if listed else [], object)
        codes = self._fetch(f"coalesce(enum_code(CAST({shown} AS seen))::INTEGER, -1) AS v")["v"]
        return Cells(np.asarray(codes, np.int32), _python(values, kind))

    def _fetch(self, parts: str, where: str = "true") -> dict[str, Any]:
        return self._database.execute(f"SELECT {parts} FROM block WHERE {where}").fetchnumpy()


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


def _shown(column: str, kind: ColumnType) -> str:
    """A column's raw values as SQL gives them best."""
    if kind == "instant":
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%f')"
    if kind in ("date", "boolean"):
        return f"{column}::VARCHAR"
    return column


def _python(array: Any, kind: ColumnType) -> list[Any]:  # noqa: ANN401 - a numpy array of any type, perhaps masked
    values = _listed(array)
    if kind == "boolean":
        return [None if value is None else value == "true" for value in values]
    if kind == "nested":
        return [None if value is None else json.loads(value) for value in values]
    return values


def _listed(array: Any) -> list[Any]:  # noqa: ANN401 - a numpy array of any type, perhaps masked
    values: list[Any] = array.tolist()
    return values


def _exact(column: str | None, kind: ColumnType, reading: Reading) -> str | None:
    """SQL for a column's cells as numbers or microseconds where those are provably right, else NULL; None: never."""
    if reading == "number":
        if kind == "text":
            number = f"TRY_CAST({column} AS DOUBLE)"
            # DuckDB takes 1_000 and +-0 for numbers, Python's float doesn't take both, and neither do we.
            plain = f"NOT contains({column}, '_') AND NOT contains({column}, '+')"
            return f"CASE WHEN abs({number}) <= {FLOAT32_MAX!r} AND {plain} THEN {number} END"
        if kind in ("integer", "float"):
            return f"CASE WHEN abs({column}::DOUBLE) <= {FLOAT32_MAX!r} THEN {column}::DOUBLE END"
    if reading == "date":
        if kind in ("instant", "date"):
            return f"epoch_us({column}::TIMESTAMP)"
        if kind == "text":
            plain = f"regexp_full_match({column}, '{_ISO}') AND {column} >= '0001'"
            return f"CASE WHEN {plain} THEN epoch_us(TRY_CAST(rtrim({column}, 'Z') AS TIMESTAMP)) END"
    return None


def _odd(column: str, exact: str, kind: ColumnType) -> str:
    """SQL for the cells that are present and have no exact array entry."""
    missing = f" AND {column} NOT IN ({_MISSING})" if kind == "text" else ""
    return f"{column} IS NOT NULL{missing} AND ({exact}) IS NULL"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
