"""How tables are written: by the file's name and its first bytes.

CSV (RFC 4180 and its relatives, any common delimiter, double or single quotes), JSONL, JSON, Parquet; texts in UTF-8
(with or without a byte order mark), UTF-16 (with one) or Windows-1252; packed with gzip or Zstandard.
"""

from __future__ import annotations

import codecs
import csv
from typing import BinaryIO, Literal

from shoal_core.data.values import parse_number
from shoal_core.errors import BadTable
from shoal_core.frozen import Frozen

ROW_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
PACKED_SUFFIXES = (".gz", ".zst")
PLAIN_SUFFIXES = (*ROW_SUFFIXES, ".json", ".parquet")
TABLE_SUFFIXES = (
    *PLAIN_SUFFIXES,
    *(f"{suffix}{packed}" for suffix in (*ROW_SUFFIXES, ".json") for packed in PACKED_SUFFIXES),
)
"""Every ending that a table's name may have, in lower case."""
DELIMITERS = ",;\t|"
_RARE_DELIMITERS = "^~\x01\x1f: "
MAX_LINE_BYTES = 16 * 1024**2
MAX_COLUMNS = 5_000
HEAD_BYTES = 256 * 1024
_SNIFF_ROWS = 50
BOM = codecs.BOM_UTF8
Kind = Literal["csv", "jsonl", "json", "parquet"]
Encoding = Literal["utf-8", "cp1252", "utf-16"]
Packing = Literal["gzip", "zstd"]


class TableFormat(Frozen):
    """How to read one table; `columns` are the CSV header's names, or the JSONL keys in order of appearance."""

    kind: Kind
    delimiter: str = ","
    quote: Literal['"', "'"] = '"'
    encoding: Encoding = "utf-8"
    newline: Literal["\n", "\r"] = "\n"
    packing: Packing | None = None
    columns: tuple[str, ...] = ()

    @property
    def divisible(self) -> bool:
        """Whether the file can be read from the middle; else planning writes it as blocks."""
        return self.kind != "json" and self.packing is None and self.encoding != "utf-16"

    @property
    def unit(self) -> Literal["line", "row"]:
        """What counts the places of samples: lines of a text, rows of what has no lines."""
        return "line" if self.kind in ("csv", "jsonl") else "row"


def kind_of(name: str) -> tuple[Kind, Packing | None]:
    """What a table's name says of it. Raises `BadTable` when it isn't a table's name."""
    lower = name.casefold()
    packing: Packing | None = None
    for suffix, found in ((".gz", "gzip"), (".zst", "zstd")):
        if lower.endswith(suffix):
            packing, lower = ("gzip" if found == "gzip" else "zstd"), lower.removesuffix(suffix)
    if lower.endswith((".csv", ".tsv")):
        return "csv", packing
    if lower.endswith((".jsonl", ".ndjson")):
        return "jsonl", packing
    if lower.endswith(".json"):
        return "json", packing
    if lower.endswith(".parquet") and packing is None:
        return "parquet", None
    raise BadTable(f"{name!r} isn't a table that can be read.", "Upload CSV, JSONL, JSON or Parquet.")


def sniff_table(stream: BinaryIO, name: str) -> TableFormat:
    """Find the format by the first 256 KB; a reader may find out later that a text isn't UTF-8.

    Args:
        stream: The table, unpacked, at its beginning.
        name: Its name.

    Raises:
        BadTable: Empty, or not text.
    """
    kind, packing = kind_of(name)
    if kind == "parquet":
        return TableFormat(kind="parquet")
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = _decode_wide(head, name) if wide else None
    if text is None and b"\0" in head:
        raise BadTable(f"{name!r} isn't text.", "Upload CSV with a header row, or JSONL.")
    if not (head.removeprefix(BOM).strip() if text is None else text.strip()):
        raise BadTable(f"{name!r} is empty.", "Upload CSV with a header row, or JSONL with one object per line.")
    form = TableFormat(kind=kind, packing=packing, encoding="utf-16" if wide else "utf-8")
    if kind == "json":
        return form
    if text is None:
        text = _decode_head(head)
        if not _is_utf8(head):
            form = form.model_copy(update={"encoding": "cp1252"})
    newline: Literal["\n", "\r"] = "\r" if "\r" in text and "\n" not in text else "\n"
    form = form.model_copy(update={"newline": newline})
    if kind == "jsonl":
        return form
    quote = _sniff_quote(text)
    known = "\t" if ".tsv" in name.casefold()[-8:] else ""
    return form.model_copy(update={"quote": quote, "delimiter": known or _sniff_delimiter(text, quote)})


def check_header(name: str, columns: tuple[str, ...]) -> None:
    """Refuse names of columns that aren't a header. Raises `BadTable`."""
    fix = "Make the first row the column names."
    if len(columns) > MAX_COLUMNS:
        raise BadTable(f"{name!r} has {len(columns):,} columns.", f"Keep it to {MAX_COLUMNS:,}.")
    for column in columns:
        if column and _is_number(column):
            raise BadTable(f"{name!r} has no header row: its first row holds the number {column!r}.", fix)
    if "" in columns:
        place = columns.index("") + 1
        raise BadTable(
            f"{name!r}: column {place} of the header has no name.",
            "Name every column (pandas: `to_csv(..., index=False)`), or remove it.",
        )
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise BadTable(f"{name!r} has two columns named {column!r}.", "Give every column its own name.")
        seen.add(column)


def _decode_wide(head: bytes, name: str) -> str:
    """UTF-16 text, cut to whole characters."""
    try:
        return codecs.getincrementaldecoder("utf-16")().decode(head)
    except UnicodeDecodeError as error:
        raise BadTable(f"{name!r} isn't the UTF-16 text that its first bytes promise.", "Save it as UTF-8.") from error


def _is_utf8(head: bytes) -> bool:
    """Whether whole lines at the beginning are UTF-8; where no line is whole, a reader finds out."""
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    if len(head) == HEAD_BYTES and end < 0:
        return True
    try:
        (head[: end + 1] if len(head) == HEAD_BYTES else head).decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode_head(head: bytes) -> str:
    # Cut at the last line break, so that no character or row is cut in two.
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    whole = head[: end + 1] if len(head) == HEAD_BYTES and end >= 0 else head
    try:
        return whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        return whole.decode("cp1252", "replace")


def _sniff_quote(text: str) -> Literal['"', "'"]:
    """Single quotes when cells begin and end with them, and none with double ones."""
    lines = text.splitlines()[:_SNIFF_ROWS]
    single = sum(line[:1] == "'" and line[-1:] == "'" and len(line) > 1 for line in lines)
    return "'" if '"' not in text and single > 1 and single >= 0.5 * len(lines) else '"'


def _sniff_delimiter(text: str, quote: str) -> str:
    """The delimiter that gives most rows the header's number of cells (two or more); comma when none does.

    Rare delimiters count only where no common one does, and every row must agree on them.
    """
    best, score = _best_delimiter(text, quote, DELIMITERS)
    if score > 0:
        return best
    rare, score = _best_delimiter(text, quote, _RARE_DELIMITERS)
    return rare if score == 1 else ","


def _best_delimiter(text: str, quote: str, candidates: str) -> tuple[str, float]:
    lines = text.splitlines(keepends=True)
    best, best_score = ",", (0.0, 0)
    for delimiter in candidates:
        rows: list[list[str]] = []
        try:
            for row in csv.reader(iter(lines), delimiter=delimiter, quotechar=quote):
                if row:
                    rows.append(row)
                if len(rows) > _SNIFF_ROWS:
                    break
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        width = len(rows[0])
        score = (sum(len(row) == width for row in rows) / len(rows), width)
        if score > best_score:
            best, best_score = delimiter, score
    return best, best_score[0]


def _is_number(cell: str) -> bool:
    try:
        return parse_number(cell) is not None
    except ValueError:
        return False
