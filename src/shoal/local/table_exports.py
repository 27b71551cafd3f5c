"""DynamoDB's exports to S3, written as AWS lays them out: moto's own would be neither durable nor asked for permission.

Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html (full export, DynamoDB
JSON). An export is done before its request is answered; there is no history, so it is of the table as it is.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, bytes_response, error_response
from shoal.local.state import StateStore
from shoal.local.table_state import item_text

OPERATIONS = frozenset({"ExportTableToPointInTime", "DescribeExport", "ListExports"})
ITEMS_PER_FILE = 10_000
_SETTING = "exports"
_ANSWER = {"Content-Type": "application/x-amz-json-1.0"}
Record = dict[str, Any]


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TableExports:
    """Answers DynamoDB's export API. One request at a time.

    Args:
        store: Where exports are noted.
        account: Account id.
        region: Region.
        put: Writes an object (request, bucket, key, body) with the permissions of who asked for the export.
    """

    def __init__(
        self, store: StateStore, account: str, region: str, put: Callable[[AwsRequest, str, str, bytes], AwsResponse]
    ) -> None:
        self._store = store
        self._account, self._region = account, region
        self._put = put

    @property
    def _backend(self) -> DynamoDBBackend:
        return dynamodb_backends[self._account][self._region]

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer one of `OPERATIONS`."""
        answers = {
            "ExportTableToPointInTime": self._export,
            "DescribeExport": self._describe,
            "ListExports": self._list,
        }
        try:
            value = answers[request.operation](request)
        except _Refused as refused:
            return error_response(request, refused.code, str(refused))
        return bytes_response(200, json.dumps(value).encode(), _ANSWER)

    def _records(self) -> dict[str, Record]:
        return dict(self._store.setting(_SETTING) or {})

    def _describe(self, request: AwsRequest) -> Record:
        arn = str(request.json.get("ExportArn", ""))
        found = self._records().get(arn)
        if found is None:
            raise _Refused("ExportNotFoundException", f"Export not found: {arn}")
        return {"ExportDescription": found}

    def _list(self, request: AwsRequest) -> Record:
        table = request.json.get("TableArn")
        fields = ("ExportArn", "ExportStatus", "ExportType")
        found = [record for record in self._records().values() if table in (None, record["TableArn"])]
        return {"ExportSummaries": [{field: record[field] for field in fields} for record in found]}

    def _export(self, request: AwsRequest) -> Record:
        wanted = request.json
        token = str(wanted.get("ClientToken") or uuid.uuid4())
        parts = {name: wanted.get(name) for name in ("TableArn", "S3Bucket", "S3Prefix")}
        for known in self._records().values():
            if known["ClientToken"] == token:
                if any(known.get(name) != value for name, value in parts.items()):
                    raise _Refused("ExportConflictException", f"There was another export with the token {token!r}.")
                return {"ExportDescription": known}
        self._check(wanted)
        started = time.time()
        identity = f"{int(started * 1000):014d}-{uuid.uuid4().hex[:8]}"
        record: Record = {
            "ExportArn": f"{wanted['TableArn']}/export/{identity}",
            "ExportStatus": "COMPLETED",
            "ExportType": "FULL_EXPORT",
            "ExportFormat": "DYNAMODB_JSON",
            "StartTime": started,
            "ExportTime": started,
            "ClientToken": token,
            "S3SseAlgorithm": wanted.get("S3SseAlgorithm", "AES256"),
            **{name: value for name, value in parts.items() if value is not None},
        }
        record |= self._write(request, record, identity) | {"EndTime": time.time()}
        self._store.set_setting(_SETTING, self._records() | {record["ExportArn"]: record})
        return {"ExportDescription": record}

    def _check(self, wanted: Mapping[str, Any]) -> None:
        table = str(wanted.get("TableArn", "")).rpartition("/")[2]
        if table not in self._backend.tables:
            raise _Refused("TableNotFoundException", f"Table not found: {wanted.get('TableArn')}")
        backups = self._backend.describe_continuous_backups(table)
        if backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") != "ENABLED":
            raise _Refused(
                "PointInTimeRecoveryUnavailableException",
                f"Point in time recovery is not enabled for table '{table}'",
            )
        if wanted.get("ExportFormat", "DYNAMODB_JSON") != "DYNAMODB_JSON" or wanted.get(
            "ExportType", "FULL_EXPORT"
        ) != ("FULL_EXPORT"):
            raise _Refused("ValidationException", "The embedded cloud makes full exports as DYNAMODB_JSON only.")
        if "ExportTime" in wanted:
            raise _Refused("ValidationException", "The embedded cloud keeps no history: leave ExportTime out.")

    def _write(self, request: AwsRequest, record: Mapping[str, Any], identity: str) -> Record:
        """Write data files and manifests; what the export's description tells of them, or of why it failed."""
        bucket, prefix = str(record["S3Bucket"]), str(record.get("S3Prefix", ""))
        folder = f"{prefix}/AWSDynamoDB/{identity}" if prefix else f"AWSDynamoDB/{identity}"
        files: list[Record] = []
        size = 0
        outputs = self._outputs(str(record["TableArn"]).rpartition("/")[2])
        for count, data in (None, b""), *outputs:
            name = "_started" if count is None else f"data/{uuid.uuid4().hex[:26]}.json.gz"
            answer = self._put(request, bucket, f"{folder}/{name}", data)
            if not answer.ok:
                return {"ExportStatus": "FAILED", **_reason(answer)}
            if count is not None:
                size += len(data)
                files.append(
                    {
                        "itemCount": count,
                        "md5Checksum": _md5(data).decode(),
                        "etag": answer.header("ETag").strip('"'),
                        "dataFileS3Key": f"{folder}/{name}",
                    }
                )
        items = sum(file["itemCount"] for file in files)
        listed = "".join(json.dumps(file) + "\n" for file in files)
        manifest = f"{folder}/manifest-summary.json"
        summary = {
            "version": "2020-06-30",
            "exportArn": record["ExportArn"],
            "startTime": _moment(record["StartTime"]),
            "endTime": _moment(time.time()),
            "tableArn": record["TableArn"],
            "exportTime": _moment(record["ExportTime"]),
            "s3Bucket": bucket,
            "s3Prefix": prefix or None,
            "s3SseAlgorithm": record["S3SseAlgorithm"],
            "s3SseKmsKeyId": None,
            "manifestFilesS3Key": f"{folder}/manifest-files.json",
            "billedSizeBytes": size,
            "itemCount": items,
            "outputFormat": "DYNAMODB_JSON",
        }
        for key, text in ((f"{folder}/manifest-files.json", listed), (manifest, json.dumps(summary))):
            self._put(request, bucket, key, text.encode())
            self._put(request, bucket, key.removesuffix(".json") + ".checksum", _md5(text.encode()))
        return {"ItemCount": items, "BilledSizeBytes": size, "ExportManifest": manifest}

    def _outputs(self, table: str) -> Iterator[tuple[int, bytes]]:
        """Data files: (items, gzip of one JSON object a line); an empty table has one, too."""
        texts = [f'{{"Item":{item_text(item)}}}\n' for item in self._backend.get_table(table).all_items()]
        for start in range(0, max(1, len(texts)), ITEMS_PER_FILE):
            part = texts[start : start + ITEMS_PER_FILE]
            yield len(part), gzip.compress("".join(part).encode(), compresslevel=1, mtime=0)


def _reason(answer: AwsResponse) -> Record:
    """What S3 said."""
    text = b"".join(answer.body).decode("utf-8", "replace")
    code, message = (re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message"))
    return {
        "FailureCode": f"S3{code[1]}" if code else "UNKNOWN",
        "FailureMessage": message[1] if message else f"S3 answered {answer.status}",
    }


def _md5(data: bytes) -> bytes:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest())


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
