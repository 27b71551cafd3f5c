"""Documents of the AWS managed policies that SAM attaches or that functions commonly name, with their default version.

Reference: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
A managed policy that isn't here is refused by name: its document isn't on this machine to enforce.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WRITE_LOGS = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
_INTERFACES = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]
_XRAY = [
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:GetSamplingStatisticSummaries",
]
_READ_STREAMS = {
    "Kinesis": [
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
        "kinesis:ListStreams",
        "kinesis:SubscribeToShard",
    ],
    "DynamoDB": [
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
    ],
    "SQSQueue": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
}


def _allow(actions: list[str], resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


MANAGED_POLICIES: Mapping[str, Mapping[str, Any]] = {
    f"arn:aws:iam::aws:policy/{name}": document
    for name, document in {
        "service-role/AWSLambdaBasicExecutionRole": _document(_allow(_WRITE_LOGS)),
        "service-role/AWSLambdaVPCAccessExecutionRole": _document(_allow([*_WRITE_LOGS, *_INTERFACES])),
        "service-role/AWSLambdaRole": _document(_allow(["lambda:InvokeFunction"])),
        "AWSXRayDaemonWriteAccess": _document(_allow(_XRAY)),
        "AWSXrayWriteOnlyAccess": _document(_allow(_XRAY)),
        "AWSLambdaExecute": _document(
            _allow(["logs:*"], "arn:aws:logs:*:*:*"), _allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::*")
        ),
        **{
            f"service-role/AWSLambda{source}ExecutionRole": _document(_allow([*actions, *_WRITE_LOGS]))
            for source, actions in _READ_STREAMS.items()
        },
    }.items()
}
