from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import unquote_plus

import pytest
from aws_lambda_powertools.utilities.parser.models import S3Model

from shoal.local.s3_events import ObjectWrite, build_event, created_event, events_for, sequencer

WRITE = ObjectWrite(
    event="ObjectCreated:Put",
    bucket="uploads",
    key="datasets/a b+c/ünï 100%.zip",
    region="us-east-1",
    version="3a5c2a4e",
    sequence=255,
    size=5,
    etag="5d41402abc4b2a76b9719d911017c592",
    principal="KEY",
    source_ip="127.0.0.1",
    request_id="D62F0686C8344723",
    host_id="aWQ=",
)


@dataclass(frozen=True)
class Wanted:
    bucket: str = "uploads"
    function_name: str = "ingest"
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    prefix: str = ""
    suffix: str = ""
    configuration_id: str = "cid"


def test_an_event_has_every_field_that_s3_documents():
    event = build_event(WRITE, "cid", datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC))
    record = event["Records"][0]
    assert record["eventTime"] == "2026-11-21T08:00:00.123Z"
    assert record["responseElements"] == {"x-amz-request-id": "D62F0686C8344723", "x-amz-id-2": "aWQ="}
    assert record["s3"]["bucket"]["arn"] == "arn:aws:s3:::uploads"
    assert record["s3"]["object"] == {
        "key": "datasets/a+b%2Bc/%C3%BCn%C3%AF+100%25.zip",
        "sequencer": "0000000000000000FF",
        "size": 5,
        "eTag": WRITE.etag,
        "versionId": "3a5c2a4e",
    }
    parsed = S3Model.model_validate(event)
    assert unquote_plus(parsed.Records[0].s3.object.key) == WRITE.key


def test_a_deletion_has_no_size_and_an_unversioned_write_no_version():
    thing = build_event(replace(WRITE, event="ObjectRemoved:Delete", version="null"), "")["Records"][0]["s3"]["object"]
    assert thing.keys() == {"key", "sequencer"}


def test_sequencers_compare_as_strings():
    numbers = [1, 9, 10, 255, 256, 2**60]
    assert [sequencer(number) for number in numbers] == sorted(sequencer(number) for number in numbers)


@pytest.mark.parametrize(
    ("wanted", "fires"),
    [
        (Wanted(), True),
        (Wanted(prefix="datasets/", suffix=".zip"), True),
        (Wanted(prefix="models/"), False),
        (Wanted(suffix=".csv"), False),
        (Wanted(bucket="other"), False),
        (Wanted(events=("s3:ObjectCreated:Put",)), True),
        (Wanted(events=("s3:ObjectCreated:Copy", "s3:ObjectRemoved:*")), False),
    ],
)
def test_filters(wanted, fires):
    assert bool(events_for([wanted], WRITE)) is fires


@pytest.mark.parametrize(
    ("method", "multipart", "copy", "name"),
    [
        ("PUT", False, False, "Put"),
        ("PUT", False, True, "Copy"),
        ("POST", False, False, "Post"),
        ("POST", True, False, "CompleteMultipartUpload"),
    ],
)
def test_event_names(method, multipart, copy, name):
    assert created_event(method, multipart=multipart, copy=copy) == f"ObjectCreated:{name}"
