"""Requests as boto3 really sends them are identified."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import boto3
import pytest

from shoal.local.permissions import Inventory, Request, identify

INVENTORY = Inventory("123456789012", "us-east-1", {"catalog": "pk"})
KEY = {"pk": {"S": "RUN#1"}}
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:training"
SESSION = boto3.Session("SHOALABCDEFGHIJKLMNO", "x", region_name="us-east-1")


class Sent(Exception):
    """Carries the request instead of sending it."""


def sent_request(service, operation, arguments):
    client = SESSION.client(service, endpoint_url="http://127.0.0.1:4566")

    def take(request, **_):
        raise Sent(request)

    client.meta.events.register("before-send", take)
    with pytest.raises(Sent) as caught:
        getattr(client, operation)(**arguments)
    http = caught.value.args[0]
    url, body = urlsplit(http.url), http.body or b""
    raw = body.read() if hasattr(body, "read") else body.encode() if isinstance(body, str) else body
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in http.headers.items()}
    return Request(http.method, url.netloc, unquote(url.path), url.query, headers, raw)


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "actions"),
    [
        ("s3", "put_object", {"Bucket": "data", "Key": "a b/ü+%41", "Body": b"x"}, ["s3:PutObject"]),
        ("s3", "get_object", {"Bucket": "data", "Key": "k", "VersionId": "v"}, ["s3:GetObjectVersion"]),
        ("s3", "head_object", {"Bucket": "data", "Key": "k"}, ["s3:GetObject"]),
        ("s3", "list_objects_v2", {"Bucket": "data", "Prefix": "datasets/"}, ["s3:ListBucket"]),
        ("s3", "create_multipart_upload", {"Bucket": "data", "Key": "k"}, ["s3:PutObject"]),
        ("s3", "complete_multipart_upload", {"Bucket": "data", "Key": "k", "UploadId": "u"}, ["s3:PutObject"]),
        (
            "s3",
            "delete_objects",
            {"Bucket": "data", "Delete": {"Objects": [{"Key": "a&b"}, {"Key": "c"}]}},
            ["s3:DeleteObject", "s3:DeleteObject"],
        ),
        (
            "s3",
            "copy_object",
            {"Bucket": "data", "Key": "k", "CopySource": {"Bucket": "other", "Key": "a b"}},
            ["s3:PutObject", "s3:GetObject"],
        ),
        ("dynamodb", "update_item", {"TableName": "catalog", "Key": KEY}, ["dynamodb:UpdateItem"]),
        (
            "dynamodb",
            "transact_write_items",
            {"TransactItems": [{"Put": {"TableName": "catalog", "Item": KEY}}]},
            ["dynamodb:PutItem"],
        ),
        ("stepfunctions", "start_execution", {"stateMachineArn": MACHINE}, ["states:StartExecution"]),
        ("sqs", "send_message", {"QueueUrl": "http://h/1/q", "MessageBody": "x"}, ["sqs:SendMessage"]),
        ("events", "put_events", {"Entries": [{"Source": "shoal"}]}, ["events:PutEvents"]),
        ("secretsmanager", "get_secret_value", {"SecretId": "n"}, ["secretsmanager:GetSecretValue"]),
        ("logs", "create_log_stream", {"logGroupName": "g", "logStreamName": "s"}, ["logs:CreateLogStream"]),
        ("lambda", "invoke", {"FunctionName": "f", "Payload": b"{}"}, ["lambda:InvokeFunction"]),
        ("ssm", "get_parameter", {"Name": "/a/b"}, ["ssm:GetParameter"]),
        ("cloudwatch", "put_metric_data", {"Namespace": "N", "MetricData": []}, ["cloudwatch:PutMetricData"]),
        ("sagemaker", "stop_training_job", {"TrainingJobName": "j"}, ["sagemaker:StopTrainingJob"]),
        ("sagemaker", "list_training_jobs", {}, ["sagemaker:ListTrainingJobs"]),
        (
            "sagemaker",
            "create_training_job",
            {
                "TrainingJobName": "j",
                "RoleArn": "arn:aws:iam::123456789012:role/r",
                "OutputDataConfig": {"S3OutputPath": "s3://b"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {},
                "AlgorithmSpecification": {"TrainingInputMode": "File"},
                "Tags": [{"Key": "k", "Value": "v"}],
            },
            ["sagemaker:CreateTrainingJob", "iam:PassRole", "sagemaker:AddTags"],
        ),
        ("sts", "get_caller_identity", {}, ["sts:GetCallerIdentity"]),
        ("xray", "put_trace_segments", {"TraceSegmentDocuments": []}, ["xray:PutTraceSegments"]),
        ("kms", "decrypt", {"CiphertextBlob": b"x"}, ["kms:Decrypt"]),
    ],
)
def test_requests_of_boto3(service, operation, arguments, actions):
    request = sent_request(service, operation, arguments)
    assert request.access_key == "SHOALABCDEFGHIJKLMNO"
    assert [access.action for access in identify(request, INVENTORY)] == actions


def test_keys_arrive_as_they_are():
    request = sent_request("s3", "put_object", {"Bucket": "data", "Key": "a b/ü+%41", "Body": b"x"})
    assert identify(request, INVENTORY)[0].resource == "arn:aws:s3:::data/a b/ü+%41"
