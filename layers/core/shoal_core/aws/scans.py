"""DynamoDB tables as sources: parallel scans, page by page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.errors import NotFound, NotPermitted

_DENIED = frozenset({"AccessDeniedException", "AccessDenied"})
Cursor = dict[str, Any]
Page = tuple[list[Mapping[str, Any]], Cursor | None]


class ScannedTables:
    """`shoal_core.registry.sources.Tables` over DynamoDB."""

    def size(self, table: str) -> int:
        """The table's size in bytes, as DynamoDB tells it about every six hours."""
        with _named(table):
            return int(client("dynamodb").describe_table(TableName=table)["Table"].get("TableSizeBytes", 0))

    def pages(self, table: str, segment: int, segments: int, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of at most 1 MB of one segment; read consistently.

        A scan isn't a snapshot: items that are written while it goes on may or may not be in it.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html#Scan.ParallelScan
        """
        arguments = {"TableName": table, "Segment": segment, "TotalSegments": segments, "ConsistentRead": True}
        start = _unpack(cursor)
        while True:
            with _named(table):
                answer = client("dynamodb").scan(**arguments, **({"ExclusiveStartKey": start} if start else {}))
            start = answer.get("LastEvaluatedKey")
            yield answer["Items"], _pack(start)
            if not start:
                return


def _pack(key: Mapping[str, Mapping[str, Any]] | None) -> Cursor | None:
    """A key as JSON: binary values as base64."""
    if not key:
        return None
    return {name: _attribute(value, lambda data: base64.b64encode(data).decode()) for name, value in key.items()}


def _unpack(cursor: Cursor | None) -> dict[str, Any] | None:
    return {name: _attribute(value, base64.b64decode) for name, value in cursor.items()} if cursor else None


def _attribute(attribute: Mapping[str, Any], change: Any) -> dict[str, Any]:  # noqa: ANN401 - bytes to text or back
    return {kind: change(value) if kind == "B" else value for kind, value in attribute.items()}


@contextmanager
def _named(table: str) -> Iterator[None]:
    """Name the table in whatever DynamoDB says about it."""
    try:
        with service_errors(f"DynamoDB table {table!r}"):
            yield
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            raise NotFound(
                f"DynamoDB table {table!r} doesn't exist.", "Name a table of the stack's account and region."
            ) from error
        if error_code(error) in _DENIED:
            raise NotPermitted(
                f"The stack may not read DynamoDB table {table!r}.",
                f"Deploy the stack with the parameter SourceTables holding its ARN, which ends in table/{table}.",
            ) from error
        raise
