"""Which IAM action on which resource an HTTP request to an AWS service asks for.

Reference: https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from shoal.local.access import Access, Inventory, Request
from shoal.local.actions_s3 import identify_s3
from shoal.local.streaming.iterators import stream_of_iterator


def identify(request: Request, inventory: Inventory) -> list[Access]:
    """Every permission that a request needs; empty when the request isn't one that Shoal knows."""
    service = request.credential.group(4) if request.credential else ""
    known = _SERVICES.get(service)
    if known is None:
        return []
    try:
        return known(request, inventory)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        IndexError,
        StopIteration,
    ):  # a body of another form than the API's
        return []


def _operation(request: Request) -> tuple[str, dict[str, Any]]:
    """(operation, input) of a request in the JSON or the Query protocol."""
    target = request.header("X-Amz-Target")
    if target:
        body = json.loads(request.body or b"{}")
        return target.rpartition(".")[2], body if isinstance(body, dict) else {}
    form = {**request.parameters, **{key: value[0] for key, value in parse_qs(request.body.decode()).items()}}
    return form.get("Action", ""), form


_TRANSACTION_ACTIONS = {
    "ConditionCheck": "ConditionCheckItem",
    "Delete": "DeleteItem",
    "Get": "GetItem",
    "Put": "PutItem",
    "Update": "UpdateItem",
}


def _dynamodb(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    if operation in ("TransactWriteItems", "TransactGetItems"):
        return [
            _on_table(_TRANSACTION_ACTIONS[kind], item, inventory)
            for entry in body["TransactItems"]
            for kind, item in entry.items()
        ]
    if operation == "BatchGetItem":
        return [
            _on_table(operation, {"TableName": table, "Keys": wanted["Keys"]}, inventory)
            for table, wanted in body["RequestItems"].items()
        ]
    if operation == "BatchWriteItem":
        return [
            _on_table(operation, {"TableName": table, "Keys": [_written(item) for item in items]}, inventory)
            for table, items in body["RequestItems"].items()
        ]
    if "TableName" in body:
        return [_on_table(operation, body, inventory)]
    arn = next((body[name] for name in ("ResourceArn", "StreamArn", "TableArn", "ExportArn") if name in body), None)
    if arn is not None:
        return [Access(f"dynamodb:{operation}", arn)]
    named = operation in ("ListTables", "DescribeLimits", "ListExports")
    return [Access(f"dynamodb:{operation}", "*")] if named else []


def _written(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = item["PutRequest"]["Item"] if "PutRequest" in item else item["DeleteRequest"]["Key"]
    return found


def _on_table(operation: str, body: Mapping[str, Any], inventory: Inventory) -> Access:
    table = body["TableName"]
    arn = table if table.startswith("arn:") else inventory.arn("dynamodb", f"table/{table}")
    resource = f"{arn}/index/{body['IndexName']}" if body.get("IndexName") else arn
    name = inventory.partition_keys.get(arn.rpartition("/")[2], "")
    keys = body.get("Keys") or [body.get("Key") or body.get("Item") or {}]
    values = [next(iter(key[name].values())) for key in keys if name in key] or _queried(body, name)
    return Access(f"dynamodb:{operation}", resource, {"dynamodb:LeadingKeys": values} if values else {})


def _queried(body: Mapping[str, Any], name: str) -> list[str]:
    """Partition key values that a Query asks for, in either of DynamoDB's forms."""
    if not name:
        return []
    if name in body.get("KeyConditions", {}):
        return [next(iter(value.values())) for value in body["KeyConditions"][name]["AttributeValueList"]]
    names = body.get("ExpressionAttributeNames", {})
    for left, right in re.findall(r"([#\w.-]+)\s*=\s*(:\w+)", body.get("KeyConditionExpression", "")):
        if names.get(left, left) == name:
            return [next(iter(body["ExpressionAttributeValues"][right].values()))]
    return []


def _states(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    if operation in ("ListStateMachines", "CreateStateMachine") or operation.startswith("SendTask"):
        return [Access(f"states:{operation}", "*")]
    resource = next(body[key] for key in ("executionArn", "stateMachineArn", "mapRunArn", "resourceArn") if key in body)
    return [Access(f"states:{operation}", resource)]


def _sqs(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    if operation == "ListQueues":
        return [Access("sqs:ListQueues", "*")]
    url = body.get("QueueUrl") or (request.path if request.path.count("/") >= 2 else "")
    name = body.get("QueueName") or url.rstrip("/").rsplit("/", 1)[-1]
    # The batch forms have no actions of their own.
    return [Access(f"sqs:{operation.removesuffix('Batch')}", inventory.arn("sqs", name))] if name else []


def _events(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    if operation == "PutEvents":
        return [
            Access(
                "events:PutEvents",
                inventory.arn("events", _bus(entry.get("EventBusName"))),
                {"events:source": [entry.get("Source", "")], "events:detail-type": [entry.get("DetailType", "")]},
            )
            for entry in body["Entries"]
        ]
    name = body.get("Name") or body.get("Rule")
    return [Access(f"events:{operation}", inventory.arn("events", f"rule/{name}") if name else "*")]


def _bus(name: str | None) -> str:
    return name if name and name.startswith("arn:") else f"event-bus/{name or 'default'}"


def _secretsmanager(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    name = body.get("SecretId") or body.get("Name")
    if not name:
        return [Access(f"secretsmanager:{operation}", "*")]
    arn = inventory.secret_arns.get(name) or inventory.arn("secretsmanager", name if ":" in name else f"secret:{name}")
    return [Access(f"secretsmanager:{operation}", arn)]


def _logs(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    group = body.get("logGroupName") or body.get("logGroupIdentifier")
    if not group:
        return [Access(f"logs:{operation}", inventory.arn("logs", "log-group:*"))]
    arn = inventory.arn("logs", f"log-group:{group}").removesuffix(":*")
    stream = body.get("logStreamName")
    on_stream = stream and operation in ("PutLogEvents", "GetLogEvents", "DeleteLogStream")
    return [Access(f"logs:{operation}", f"{arn}:log-stream:{stream}" if on_stream else f"{arn}:*")]


_LAMBDA_PATH = re.compile(r"^/\d{4}-\d\d-\d\d/functions(?:/(?P<name>[^/]+)(?P<rest>/.*)?)?/?$")
_LAMBDA_ACTIONS = {
    ("POST", "/invocations"): "InvokeFunction",
    ("POST", "/invoke-async"): "InvokeFunction",
    ("POST", "/response-streaming-invocations"): "InvokeFunction",
    ("GET", ""): "GetFunction",
    ("GET", "/configuration"): "GetFunctionConfiguration",
    ("PUT", "/configuration"): "UpdateFunctionConfiguration",
    ("GET", "/policy"): "GetPolicy",
}


def _lambda(request: Request, inventory: Inventory) -> list[Access]:
    found = _LAMBDA_PATH.match(request.path)
    if not found:
        return []
    if not found["name"]:
        return [Access("lambda:ListFunctions", "*")] if request.method == "GET" else []
    action = _LAMBDA_ACTIONS.get((request.method, (found["rest"] or "").rstrip("/")))
    # A name, an ARN, ACCOUNT:function:NAME, each with or without :QUALIFIER
    parts = found["name"].rpartition("function:")[2].split(":")
    qualifier = request.parameters.get("Qualifier") or (parts[1] if len(parts) > 1 else "")
    arn = inventory.arn("lambda", f"function:{parts[0]}")
    return [Access(f"lambda:{action}", f"{arn}:{qualifier}" if qualifier else arn)] if action else []


_XRAY_ACTIONS = {
    "/TraceSegments": "PutTraceSegments",
    "/TelemetryRecords": "PutTelemetryRecords",
    "/GetSamplingRules": "GetSamplingRules",
    "/SamplingTargets": "GetSamplingTargets",
    "/SamplingStatisticSummaries": "GetSamplingStatisticSummaries",
}


def _xray(request: Request, inventory: Inventory) -> list[Access]:
    action = _XRAY_ACTIONS.get(request.path)
    return [Access(f"xray:{action}", "*")] if action else []


def _ssm(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    names = body.get("Names") or [name for name in (body.get("Name"), body.get("Path")) if name]
    return [
        Access(f"ssm:{operation}", inventory.arn("ssm", name if ":" in name else f"parameter/{name.strip('/')}"))
        for name in names
    ] or [Access(f"ssm:{operation}", "*")]


def _kms(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    key = body.get("KeyId", "")
    resource = key if key.startswith(("arn:", "alias/")) else f"key/{key}"
    return [Access(f"kms:{operation}", inventory.arn("kms", resource) if key else "*")]


def _kinesis(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    name = body.get("StreamName") or stream_of_iterator(body.get("ShardIterator", ""))
    stream = body.get("StreamARN") or (f"stream/{name}" if name else "")
    return [Access(f"kinesis:{operation}", inventory.arn("kinesis", stream) if stream else "*")]


def _sns(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    return [Access(f"sns:{operation.removesuffix('Batch')}", body.get("TopicArn") or body.get("TargetArn") or "*")]


_CLOUDWATCH_PATH = re.compile(r"^/service/GraniteServiceVersion20100801/operation/(\w+)$")


def _cloudwatch(request: Request, inventory: Inventory) -> list[Access]:
    binary = _CLOUDWATCH_PATH.match(request.path)
    if binary:  # boto3's own form, whose body is CBOR; the namespace of PutMetricData isn't read there
        return [] if binary[1] == "PutMetricData" else [Access(f"cloudwatch:{binary[1]}", "*")]
    operation, body = _operation(request)
    context = {"cloudwatch:namespace": [unquote_plus(body["Namespace"])]} if "Namespace" in body else {}
    return [Access(f"cloudwatch:{operation}", "*", context)] if operation else []


def _sagemaker(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    name = body.get("TrainingJobName")
    if not name:
        return [Access(f"sagemaker:{operation}", "*")] if operation else []
    # AWS writes the name in small letters in the ARN.
    arn = inventory.arn("sagemaker", f"training-job/{name.lower()}")
    if operation != "CreateTrainingJob":
        return [Access(f"sagemaker:{operation}", arn)]
    context = {"sagemaker:InstanceTypes": [body["ResourceConfig"]["InstanceType"]]}
    passed = Access("iam:PassRole", body["RoleArn"], {"iam:PassedToService": ["sagemaker.amazonaws.com"]})
    tagged = [Access("sagemaker:AddTags", arn)] if body.get("Tags") else []
    return [Access("sagemaker:CreateTrainingJob", arn, context), passed, *tagged]


def _sts(request: Request, inventory: Inventory) -> list[Access]:
    operation, body = _operation(request)
    return [Access(f"sts:{operation}", body.get("RoleArn", "*"))] if operation else []


_SERVICES: Mapping[str, Callable[[Request, Inventory], list[Access]]] = {
    "dynamodb": _dynamodb,
    "events": _events,
    "kinesis": _kinesis,
    "kms": _kms,
    "lambda": _lambda,
    "logs": _logs,
    "monitoring": _cloudwatch,
    "s3": identify_s3,
    "sagemaker": _sagemaker,
    "secretsmanager": _secretsmanager,
    "sns": _sns,
    "sqs": _sqs,
    "ssm": _ssm,
    "states": _states,
    "sts": _sts,
    "xray": _xray,
}
