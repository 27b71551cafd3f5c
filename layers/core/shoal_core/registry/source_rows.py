"""Items of a DynamoDB table as JSONL: every value as the JSON that means the same, whatever order they came in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal_core.data.config import SourceFile
from shoal_core.errors import BadDataset
from shoal_core.keys import SourceKeys
from shoal_core.registry.file_sets import ContentSum
from shoal_core.store import ObjectStore

# One part; about a work item of planning.
ROWS_BYTES = 16 << 20
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


@dataclass
class RowWriter:
    """Collects rows and writes them in parts named by their content; memory is bounded by one part and one page."""

    artifacts: ObjectStore
    bucket: str
    keys: SourceKeys
    name: str
    files: list[SourceFile] = field(default_factory=list)
    content: ContentSum = field(default_factory=ContentSum)
    buffered: int = 0
    _rows: list[bytes] = field(default_factory=list)

    def add(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take a page of DynamoDB items in."""
        for item in items:
            row = item_json(item).encode("utf-8", "replace")
            self.content.add(row)
            self._rows.append(row)
            self.buffered += len(row) + 1

    def flush(self) -> None:
        """Write what was collected as a part."""
        if not self._rows:
            return
        data = b"\n".join(self._rows) + b"\n"
        digest = hashlib.sha256(data).hexdigest()
        key = self.keys.rows(digest)
        self.artifacts.write(key, data, "application/x-ndjson")
        name = f"{self.name}-{len(self.files):05d}.jsonl"
        self.files.append(SourceFile(key=key, name=name, size=len(data), sha256=digest, bucket=self.bucket))
        self._rows, self.buffered = [], 0


def item_json(item: Mapping[str, Any]) -> str:
    """A DynamoDB item as one JSON object with sorted keys.

    Numbers keep all of their up to 38 digits; sets become sorted lists, binary values base64 text.

    Raises:
        BadDataset: A type that DynamoDB doesn't have.
    """
    pairs = (f"{_text(name)}:{_value(item[name])}" for name in sorted(item))
    return "{" + ",".join(pairs) + "}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _binary(value: bytes | str) -> str:
    """botocore hands bytes out decoded from base64."""
    return _text(value if isinstance(value, str) else base64.b64encode(bytes(value)).decode())


def _number(value: str) -> str:
    return value if _NUMBER.fullmatch(value) else _text(value)


def _list(values: Iterable[str]) -> str:
    return "[" + ",".join(values) + "]"


_TYPES: Mapping[str, Callable[[Any], str]] = {
    "S": _text,
    "N": _number,
    "B": _binary,
    "BOOL": lambda value: "true" if value else "false",
    "NULL": lambda value: "null",
    "M": item_json,
    "L": lambda values: _list(map(_value, values)),
    "SS": lambda values: _list(map(_text, sorted(values))),
    "NS": lambda values: _list(map(_number, sorted(values, key=lambda value: (float(value), value)))),
    "BS": lambda values: _list(sorted(map(_binary, values))),
}


def _value(attribute: Mapping[str, Any]) -> str:
    ((kind, value),) = attribute.items()
    if kind not in _TYPES:
        raise BadDataset(f"DynamoDB has no type {kind!r} that is known here.", "Update Shoal.")
    return _TYPES[kind](value)
