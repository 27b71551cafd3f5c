"""What a request's body holds, for people and for programs: instances, out of images, texts, rows, forms and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.forms import Part, read_multipart, read_urlencoded

MAX_INSTANCES = 1000
_LINES = ("application/jsonl", "application/jsonlines", "application/x-ndjson", "application/x-jsonlines")
_OF_ENDING = {".csv": "text/csv", ".json": "application/json", ".jsonl": _LINES[0], ".ndjson": _LINES[0]}
_STRUCTURED = ("text/csv", "application/json", *_LINES)


def read_instances(spec: PreprocessingSpec, body: bytes, content_type: str) -> list[dict[str, Any]]:
    """The instances of a request.

    | Content-Type | holds |
    |---|---|
    | `image/*`, `application/x-image`, `application/octet-stream` | one image |
    | `text/plain` | one text, for a model of one text column |
    | `text/csv` | rows; a first line of column names may be there, else columns are in the order of `table.names` |
    | `application/jsonlines` (`jsonl`, `x-ndjson`) | an object per line |
    | `multipart/form-data` | an image, text, CSV or JSON per file, in order; or the fields of one row |
    | `application/x-www-form-urlencoded` | the fields of one row |
    | all else | JSON: `{"instances": [...]}`, a list, or one instance; of a model of one text column also texts |

    Args:
        spec: The model's.
        body: The request's body.
        content_type: The request's.

    Returns:
        At least one; an image is `{"b64": ...}` or `{"bytes": ...}`.

    Raises:
        BadRequest: The body isn't of its type, or the model doesn't take that type.
        TooLarge: More than `MAX_INSTANCES`.
    """
    if not body:
        raise BadRequest("The request has no body.", expected(spec))
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = _form(spec, read_multipart(body, content_type))
    elif kind == "application/x-www-form-urlencoded":
        found = [dict(_row(spec, read_urlencoded(body)))]
    else:
        found = _of_kind(spec, body, kind)
    return _checked(spec, found)


def _of_kind(spec: PreprocessingSpec, body: bytes, kind: str) -> Any:  # noqa: ANN401 - not yet checked
    if kind.startswith("image/") or kind in ("application/octet-stream", "application/x-image"):
        if spec.kind != "image":
            raise BadRequest("The model doesn't take images.", expected(spec))
        return [{"bytes": body}]
    if kind == "text/plain":
        return [{only_text(spec): decoded(body)}]
    if kind == "text/csv":
        return _csv(spec, body)
    if kind in _LINES:
        return [_json(spec, line, f"Line {number}") for number, line in enumerate(body.splitlines(), 1) if line.strip()]
    return _json(spec, body, "The request's body")


def _checked(spec: PreprocessingSpec, value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what JSON held
    if isinstance(value, dict):
        value = value["instances"] if set(value) == {"instances"} else [value]
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise BadRequest("The request's JSON holds no instances.", expected(spec))
    if len(value) > MAX_INSTANCES:
        raise TooLarge(
            f"The request has {len(value):,} instances; {MAX_INSTANCES:,} are allowed.",
            "Send them in several requests.",
        )
    takes_text = _takes_one_text(spec)
    found = [{only_text(spec): entry} if takes_text and isinstance(entry, str) else entry for entry in value]
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, dict):
            raise BadRequest(f"Instance {number} is a {_json_type(entry)}, not an object.", expected(spec))
    return found


def _json(spec: PreprocessingSpec, body: bytes, what: str) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        # ValueError covers bad UTF-8, bad JSON, and integers too long for Python to convert.
        raise BadRequest(f"{what} isn't valid JSON: {error}.", expected(spec)) from error


def _csv(spec: PreprocessingSpec, body: bytes) -> list[dict[str, str]]:
    columns = _columns(spec)
    try:
        rows = [row for row in csv.reader(io.StringIO(decoded(body), newline="")) if row]
    except csv.Error as error:
        raise BadRequest(f"The request's CSV can't be read: {error}.", expected(spec)) from error
    table = spec.table
    target = [spec.target.column] if spec.target.column else []
    if rows and table is not None and set(rows[0]) <= {*columns, *table.ignored, *target}:
        columns = rows.pop(0)
        twice = next((name for place, name in enumerate(columns) if name in columns[:place]), None)
        if twice is not None:
            raise BadRequest(f"The CSV has two columns named {twice!r}.", "Give every column its own name.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise BadRequest(
                f"Row {number} of the CSV has {len(row):,} cells; there are {len(columns):,} columns.",
                f"Send the columns {', '.join(columns)[:500]} in this order, or a first line that names them.",
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _columns(spec: PreprocessingSpec) -> list[str]:
    if spec.table is None:
        raise BadRequest("The model doesn't take rows of a table.", expected(spec))
    return list(spec.table.names)


def _row(spec: PreprocessingSpec, fields: dict[str, str]) -> dict[str, str]:
    _columns(spec)
    if not fields:
        raise BadRequest("The form has no fields.", expected(spec))
    return fields


def _form(spec: PreprocessingSpec, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Every file is instances of its own; without files, the fields are one row."""
    chosen = [part for part in parts if part.filename is not None]
    if spec.kind == "image" or _takes_one_text(spec):
        chosen = chosen or list(parts)
        if not chosen:
            raise BadRequest("The form has no parts.", expected(spec))
    if not chosen:
        return [_row(spec, {part.name: decoded(part.data) for part in parts})]
    if spec.kind == "image":
        return [{"bytes": part.data} for part in chosen]
    return [entry for part in chosen for entry in _checked(spec, _of_kind(spec, part.data, _kind_of(spec, part)))]


def _kind_of(spec: PreprocessingSpec, part: Part) -> str:
    """What a part holds, by its name's ending, or else its Content-Type; what is neither CSV nor JSON is a text."""
    ending = PurePath((part.filename or "").lower()).suffix
    kind = _OF_ENDING.get(ending, part.content_type.partition(";")[0].strip())
    return "text/plain" if _takes_one_text(spec) and kind not in _STRUCTURED else kind


def only_text(spec: PreprocessingSpec) -> str:
    """The name of the column of a model that takes one text and nothing else. Raises `BadRequest`."""
    if not _takes_one_text(spec) or spec.table is None:
        raise BadRequest("The model doesn't take one text.", expected(spec))
    return spec.table.texts[0].name


def _takes_one_text(spec: PreprocessingSpec) -> bool:
    return spec.table is not None and len(spec.table.names) == 1 and bool(spec.table.texts)


def decoded(body: bytes) -> str:
    """A text's bytes as text. Raises `BadRequest`."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"The text isn't UTF-8: byte {error.start} is wrong.", "Send it as UTF-8.") from error


def _json_type(value: object) -> str:
    names = {list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def expected(spec: PreprocessingSpec) -> str:
    """What to send to a model, in one sentence."""
    if spec.kind == "image":
        return 'Send an image file with Content-Type image/png (or its own), or JSON {"instances": [{"b64": "..."}]}.'
    if _takes_one_text(spec):
        name = json.dumps(only_text(spec))
        return f'Send a text with Content-Type text/plain, or JSON {{"instances": [{{{name}: "..."}}]}}.'
    if spec.sequence is not None:
        rows = f"{spec.sequence.window} rows, oldest first"
        return f'Send JSON such as {{"instances": [{{"rows": [{{"COLUMN": VALUE}}, ...]}}]}} with {rows}.'
    return 'Send JSON such as {"instances": [{"COLUMN": VALUE}]}; GET the model to see its columns.'
