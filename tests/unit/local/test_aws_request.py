import io
import json

import pytest

from shoal.local.aws_request import read_request
from shoal.local.aws_response import error_response
from shoal.local.s3_front import parse_range

SIGNED = "AWS4-HMAC-SHA256 Credential=KEY/20261121/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def environ(method="GET", path="/", query="", body=b"", **headers):
    fields = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        **fields,
    }


def test_a_signed_object_with_a_unicode_key():
    request = read_request(environ("PUT", "/b/ü +/k", body=b"abc", authorization=SIGNED.format("s3")))
    assert (request.service, request.bucket, request.key) == ("s3", "b", "ü +/k")
    assert request.access_key == "KEY"
    assert request.body == b"abc"


def test_a_presigned_url_and_a_virtual_host():
    query = "X-Amz-Credential=KEY%2F20261121%2Fus-east-1%2Fs3%2Faws4_request&versionId=1"
    request = read_request(environ("GET", "/k", query, host="bucket.s3.us-east-1.amazonaws.com"))
    assert (request.service, request.access_key, request.bucket, request.key) == ("s3", "KEY", "bucket", "k")


@pytest.mark.parametrize(
    ("fields", "service", "operation"),
    [
        ({"x_amz_target": "DynamoDB_20120810.PutItem"}, "dynamodb", "PutItem"),
        ({"x_amz_target": "AWSStepFunctions.StartExecution", "authorization": SIGNED.format("states")}, "states", None),
        ({}, "s3", ""),
    ],
)
def test_services(fields, service, operation):
    request = read_request(environ("POST", "/", body=b"{}", **fields))
    assert request.service == service
    assert operation is None or request.operation == operation


def test_a_chunked_body_is_read_to_its_end():
    fields = environ("PUT", "/b/k", body=b"x" * 3_000_000)
    del fields["CONTENT_LENGTH"]
    fields["wsgi.input_terminated"] = True
    assert len(read_request(fields).body) == 3_000_000


def test_errors_take_the_form_of_their_service():
    s3 = error_response(read_request(environ("PUT", "/b/k")), "AccessDenied", "No <b>", 403)
    assert b"<Code>AccessDenied</Code><Message>No &lt;b&gt;</Message>" in b"".join(s3.body)
    table = read_request(environ("POST", "/", body=b"{}", x_amz_target="DynamoDB_20120810.PutItem"))
    answer = error_response(table, "ValidationException", "big")
    assert json.loads(b"".join(answer.body))["__type"] == "com.amazonaws.dynamodb.v20120810#ValidationException"
    assert answer.status == 400


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-100", (5, 10)),
        ("bytes=10-", None),
        ("bytes=-0", None),
        ("bytes=0-1,3-4", (0, 10)),
        ("nonsense", (0, 10)),
    ],
)
def test_ranges(text, span):
    assert parse_range(text, 10) == span
