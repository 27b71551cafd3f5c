"""DynamoDB's exports in the embedded cloud: laid out as AWS does, once per token, and refused by AWS's names."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from shoal.local import table_exports
from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, error_response
from shoal.local.state import StateStore
from shoal.local.table_exports import TableExports

REGION, ACCOUNT = "us-east-1", "123456789012"
ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/orders"


class Bucket:
    """Takes objects, as long as it is told to."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuses = False

    def put(self, request: AwsRequest, bucket: str, key: str, body: bytes) -> AwsResponse:
        if self.refuses:
            request.service = "s3"
            return error_response(request, "AccessDenied", "Not you.", 403)
        self.objects[key] = body
        return AwsResponse(200, [("ETag", '"abc"')])


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def exports(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[TableExports]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(table_exports, "ITEMS_PER_FILE", 4)
    store = StateStore(tmp_path)
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        client.create_table(
            TableName="orders",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        for number in range(10):
            client.put_item(TableName="orders", Item={"id": {"S": str(number)}, "raw": {"B": b"\x00x"}})
        yield TableExports(store, ACCOUNT, REGION, bucket.put)
    store.close()


def turn_recovery_on() -> None:
    boto3.client("dynamodb", region_name=REGION).update_continuous_backups(
        TableName="orders", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )


def ask(exports: TableExports, operation: str, **parameters: Any) -> dict[str, Any]:
    body = json.dumps(parameters).encode()
    environ = {"HTTP_X_AMZ_TARGET": f"DynamoDB_20120810.{operation}"}
    request = AwsRequest(environ, "POST", "/", {}, body, "dynamodb", operation, "KEY")
    return dict(json.loads(b"".join(exports.answer(request).body)))


def begin(exports: TableExports, **changes: Any) -> dict[str, Any]:
    return ask(exports, "ExportTableToPointInTime", **{"TableArn": ARN, "S3Bucket": "b", "S3Prefix": "p/q", **changes})


def test_an_export_is_laid_out_as_awss(exports: TableExports, bucket: Bucket) -> None:
    turn_recovery_on()
    described = begin(exports)["ExportDescription"]
    assert (described["ExportStatus"], described["ItemCount"]) == ("COMPLETED", 10)
    folder = f"p/q/AWSDynamoDB/{described['ExportArn'].rpartition('/')[2]}"
    assert described["ExportManifest"] == f"{folder}/manifest-summary.json"
    listed = [json.loads(line) for line in bucket.objects[f"{folder}/manifest-files.json"].splitlines()]
    assert [entry["itemCount"] for entry in listed] == [4, 4, 2]
    items = []
    for entry in listed:
        data = bucket.objects[entry["dataFileS3Key"]]
        assert base64.b64decode(entry["md5Checksum"]) == hashlib.md5(data, usedforsecurity=False).digest()
        items += [json.loads(line)["Item"] for line in gzip.decompress(data).splitlines()]
    assert sorted(item["id"]["S"] for item in items) == [str(number) for number in range(10)]
    assert items[0]["raw"] == {"B": "AHg="}
    summary = json.loads(bucket.objects[f"{folder}/manifest-summary.json"])
    assert (summary["itemCount"], summary["outputFormat"]) == (10, "DYNAMODB_JSON")
    assert bucket.objects[f"{folder}/_started"] == b"" and f"{folder}/manifest-files.checksum" in bucket.objects
    assert ask(exports, "DescribeExport", ExportArn=described["ExportArn"])["ExportDescription"] == described
    assert [entry["ExportArn"] for entry in ask(exports, "ListExports")["ExportSummaries"]] == [described["ExportArn"]]


def test_a_token_begins_one_export(exports: TableExports) -> None:
    turn_recovery_on()
    first = begin(exports, ClientToken="t")
    assert begin(exports, ClientToken="t") == first
    assert begin(exports, ClientToken="t", S3Prefix="other")["__type"].endswith("ExportConflictException")
    assert begin(exports, ClientToken="u") != first


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TableArn": ARN + "s"}, "TableNotFoundException"),
        ({"ExportFormat": "ION"}, "ValidationException"),
        ({"ExportType": "INCREMENTAL_EXPORT"}, "ValidationException"),
        ({"ExportTime": 1.0}, "ValidationException"),
    ],
)
def test_what_cant_be_exported_is_refused(changes: dict[str, Any], code: str, exports: TableExports) -> None:
    turn_recovery_on()
    assert begin(exports, **changes)["__type"].endswith(code)


def test_without_recovery_or_permission_there_is_no_export(exports: TableExports, bucket: Bucket) -> None:
    assert begin(exports)["__type"].endswith("PointInTimeRecoveryUnavailableException")
    turn_recovery_on()
    bucket.refuses = True
    described = begin(exports)["ExportDescription"]
    assert (described["ExportStatus"], described["FailureCode"]) == ("FAILED", "S3AccessDenied")
    assert described["FailureMessage"] == "Not you."
    assert ask(exports, "DescribeExport", ExportArn="no")["__type"].endswith("ExportNotFoundException")
