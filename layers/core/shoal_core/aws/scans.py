"""DynamoDB tables as sources: parallel scans, page by page, and exports to S3."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.errors import BadConfig, NotFound, NotPermitted
from shoal_core.registry.source_exports import ExportState

_DENIED = frozenset({"AccessDeniedException", "AccessDenied"})
# Backups and exports name it otherwise than tables do.
_MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException"})
Cursor = dict[str, Any]
Page = tuple[list[Mapping[str, Any]], Cursor | None]


class SourceTables:
    """`shoal_core.registry.sources.Tables` over DynamoDB."""

    def size(self, table: str) -> int:
        """The table's size in bytes, as DynamoDB tells it about every six hours."""
        with _named(table):
            return int(client("dynamodb").describe_table(TableName=table)["Table"].get("TableSizeBytes", 0))

    def is_recoverable(self, table: str) -> bool:
        """Whether the table has point-in-time recovery, which exports need."""
        with _named(table):
            answer = client("dynamodb").describe_continuous_backups(TableName=table)
        found = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return bool(found.get("PointInTimeRecoveryStatus") == "ENABLED")

    def export(self, table: str, bucket: str, prefix: str, token: str) -> str:
        """Begin an export of the table as it is now; the same token begins no second one. Its ARN.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
        """
        try:
            with _named(table):
                arn = client("dynamodb").describe_table(TableName=table)["Table"]["TableArn"]
                answer = client("dynamodb").export_table_to_point_in_time(
                    TableArn=arn, S3Bucket=bucket, S3Prefix=prefix, ExportFormat="DYNAMODB_JSON", ClientToken=token
                )
        except ClientError as error:
            if error_code(error) == "PointInTimeRecoveryUnavailableException":
                raise BadConfig(
                    f"DynamoDB table {table!r} has no point-in-time recovery, which an export needs.",
                    "Turn it on, or set `by: scan` under `source` in dataset.yaml.",
                ) from error
            raise
        return str(answer["ExportDescription"]["ExportArn"])

    def export_state(self, table: str, arn: str) -> ExportState:
        """How far an export has come."""
        with _named(table):
            found = client("dynamodb").describe_export(ExportArn=arn)["ExportDescription"]
        began = found.get("StartTime")
        seconds = int((datetime.now(UTC) - began).total_seconds()) if began else 0
        return ExportState(found["ExportStatus"], max(0, seconds), found.get("FailureMessage", ""))

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
        if error_code(error) in _MISSING:
            raise NotFound(
                f"DynamoDB table {table!r} doesn't exist.", "Name a table of the stack's account and region."
            ) from error
        if error_code(error) in _DENIED:
            raise NotPermitted(
                f"The stack may not read DynamoDB table {table!r}.",
                f"Deploy the stack with the parameter SourceTables holding its ARN, which ends in table/{table}.",
            ) from error
        raise
