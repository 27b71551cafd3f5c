"""Bad samples of a dataset version: listed, and saved as files to be mended and replayed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from shoal.connection import Connection
from shoal.errors import BadRequest

LIST = "quarantine.jsonl"
"""Name of the list of reasons that is saved beside the samples; a replay leaves it out."""
PAGE = 1000


def version_path(name: str, version: str) -> str:
    """The API's path of a dataset version."""
    return f"/datasets/{quote(name, safe='')}/versions/{quote(version, safe='')}"


def list_samples(connection: Connection, name: str, version: str) -> Iterator[dict[str, Any]]:
    """Every bad sample: file, place, code, reason, fix, and row (a table's row) or key (a file). Raises `NotFound`."""
    query = {"limit": str(PAGE)}
    while True:
        page = connection.request("GET", f"{version_path(name, version)}/quarantine", query=query)
        yield from page["samples"]
        if page.get("after") is None:
            return
        query["after"] = str(page["after"])


def read_sample(connection: Connection, name: str, version: str, sample: Mapping[str, Any]) -> bytes | None:
    """A bad sample's own bytes; None where only its reason is known."""
    if sample.get("row") is not None:
        return str(sample["row"]).encode()
    if not sample.get("key"):
        return None
    item, file = str(sample["key"]).split("/")[-2:]
    return connection.fetch(f"{version_path(name, version)}/quarantine/{quote(item)}/{quote(file)}")


def save_samples(
    connection: Connection,
    name: str,
    version: str,
    samples: Sequence[Mapping[str, Any]],
    folder: Path,
    report: Any,  # noqa: ANN401 - JSON
) -> list[Path]:
    """Save bad samples as files that can be mended, and then replayed.

    Files go under their own names; rows of a table go into one table per file, with the header that the report tells;
    the reasons go into `quarantine.jsonl`.

    Args:
        connection: The cloud.
        name: The dataset's name.
        version: Its version.
        samples: Of `list_samples`.
        folder: Where they go; it is made where it isn't there, and must be empty.
        report: The version's report.

    Raises:
        BadRequest: The folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadRequest(f"{folder} isn't empty.", "Name a new folder: what is mended there is replayed as a whole.")
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    rows: dict[str, list[str]] = {}
    for sample in samples:
        if sample.get("row") is not None:
            rows.setdefault(str(sample["file"]), []).append(str(sample["row"]))
        elif sample.get("key"):
            path = _free(folder, _relative(str(sample["place"]), str(sample["key"])))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_sample(connection, name, version, sample) or b"")
            saved.append(path)
    for file, texts in rows.items():
        saved.append(_save_rows(folder, file, texts, report))
    lines = (json.dumps(dict(sample), sort_keys=True, ensure_ascii=False) for sample in samples)
    (folder / LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")
    return [*saved, folder / LIST]


def _save_rows(folder: Path, file: str, rows: Sequence[str], report: Mapping[str, Any]) -> Path:
    """One table of bad rows: each is the row's own text, or its cells as a JSON object."""
    stem = PurePosixPath(file).name.partition(".")[0] or "rows"
    cells = [_object(row) for row in rows]
    if not any(suffix.casefold() in (".csv", ".tsv") for suffix in PurePosixPath(file).suffixes):
        path = _free(folder, PurePosixPath(f"{stem}-mended.jsonl"))
        path.write_text("".join(f"{row.strip()}\n" for row in rows), encoding="utf-8")
        return path
    header = next((list(found) for found in cells if found), None)
    names = header or [str(column["name"]) for column in report.get("columns") or []]
    separator = str((report.get("settings") or {}).get("delimiter") or ",")
    text = io.StringIO()
    table = csv.writer(text, delimiter=separator, lineterminator="\n")
    table.writerow(names)
    for row, found in zip(rows, cells, strict=True):
        if found is None:
            text.write(row.rstrip("\r\n") + "\n")
        else:
            table.writerow([found.get(name) for name in names])
    path = _free(folder, PurePosixPath(f"{stem}-mended.{'tsv' if separator == chr(9) else 'csv'}"))
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def _object(row: str) -> dict[str, Any] | None:
    try:
        value = json.loads(row)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _relative(place: str, key: str) -> PurePosixPath:
    """A member's name as a path below a folder: it comes from an upload, so it mustn't lead out of there."""
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..") and "\0" not in part]
    return PurePosixPath(*[part[:200] for part in parts]) if parts else PurePosixPath(key).relative_to("quarantine")


def _free(folder: Path, relative: PurePosixPath) -> Path:
    """A path that isn't taken yet."""
    path = folder / relative
    number = 2
    while path.exists():
        path = folder / relative.with_name(f"{relative.stem}-{number}{relative.suffix}")
        number += 1
    return path
