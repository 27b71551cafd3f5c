"""AWS in the test's own process (moto), with the stack's buckets, table, secret and state machine."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import yaml
from moto import mock_aws

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
TOKEN = "token-of-the-test"
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "POWERTOOLS_TRACE_DISABLED": "1",
    "POWERTOOLS_METRICS_NAMESPACE": "Shoal",
    "POWERTOOLS_SERVICE_NAME": "shoal",
    "SHOAL_BUCKET": "uploads",
    "SHOAL_ARTIFACTS_BUCKET": "artifacts",
    "SHOAL_TABLE": "catalog",
    "SHOAL_ARCHITECTURE": "x86_64",
    "SHOAL_PREDICT_FUNCTION": "predict",
    "SHOAL_CANARY_RULE": "canaries",
    "SHOAL_CHECK_NETWORK_FUNCTION": "check-network",
    "SHOAL_START_TRAINING_FUNCTION": "start-training",
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as plain values."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix} {node.value}")  # type: ignore[no-untyped-call]


@functools.cache
def template() -> dict[str, Any]:
    """template.yaml as written; intrinsic functions as text."""
    return dict(yaml.load((ROOT / "template.yaml").read_text(), _Loader))  # noqa: S506 - a SafeLoader


@contextmanager
def stack() -> Iterator[None]:
    """The stack's resources in moto, and the environment of its functions."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    # Handlers are called one by one here; another test of the process may have turned the interpreter on.
    with mock_aws(config={"stepfunctions": {"execute_state_machine": False}}):
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in ("uploads", "artifacts"):
            s3.create_bucket(Bucket=bucket)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        _create_table()
        secret = boto3.client("secretsmanager", region_name=REGION).create_secret(Name="token", SecretString=TOKEN)
        machine = boto3.client("stepfunctions", region_name=REGION).create_state_machine(
            name="training",
            definition='{"StartAt":"Done","States":{"Done":{"Type":"Succeed"}}}',
            roleArn="arn:aws:iam::123456789012:role/training",
        )
        os.environ["SHOAL_TOKEN_SECRET_ARN"] = secret["ARN"]
        os.environ["SHOAL_STATE_MACHINE_ARN"] = machine["stateMachineArn"]
        os.environ["SHOAL_SOURCE_STATE_MACHINE_ARN"] = _create_source_machine()
        os.environ["SHOAL_BATCH_STATE_MACHINE_ARN"] = _create_source_machine("batch")
        os.environ["SHOAL_TUNING_STATE_MACHINE_ARN"] = _create_source_machine("tuning")
        os.environ["SHOAL_SOURCE_RULE"] = "read-sources"
        boto3.client("events", region_name=REGION).put_rule(
            Name="read-sources", ScheduleExpression="rate(5 minutes)", State="DISABLED"
        )
        boto3.client("events", region_name=REGION).put_rule(
            Name="canaries", ScheduleExpression="rate(1 minute)", State="DISABLED"
        )
        _create_streams()
        forget()
        try:
            yield
        finally:
            forget()
            os.environ.clear()
            os.environ.update(before)


def _create_table() -> None:
    properties = template()["Resources"]["CatalogTable"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    boto3.client("dynamodb", region_name=REGION).create_table(
        TableName="catalog", **{name: properties[name] for name in names}
    )


def _create_source_machine(name: str = "source") -> str:
    machine = boto3.client("stepfunctions", region_name=REGION).create_state_machine(
        name=name,
        definition='{"StartAt":"Done","States":{"Done":{"Type":"Succeed"}}}',
        roleArn="arn:aws:iam::123456789012:role/step-functions",
    )
    return str(machine["stateMachineArn"])


def _create_streams() -> None:
    """Streams and queues for records: `requests`, `predictions`, `dead-letters`."""
    kinesis, sqs = boto3.client("kinesis", region_name=REGION), boto3.client("sqs", region_name=REGION)
    for name in ("requests", "predictions"):
        kinesis.create_stream(StreamName=name, ShardCount=1)
        os.environ[f"SHOAL_{name.upper()}_STREAM"] = name
    for name in ("requests", "dead-letters"):
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        os.environ["SHOAL_REQUESTS_QUEUE" if name == "requests" else "SHOAL_DEAD_LETTER_QUEUE"] = url


def forget() -> None:
    """Drop what the handlers' modules cached of an earlier stack."""
    from shoal_core.aws import clients, config, handler, secrets

    for cached in (
        clients.client,
        config.environment,
        handler.artifacts,
        handler.uploads,
        handler.catalog,
        handler.batches,
        handler.tunings,
    ):
        cached.cache_clear()
    secrets._cached = None
    traffic = sys.modules.get("shoal_core.aws.traffic")
    if traffic is not None:
        traffic.models.cache_clear()
        traffic.traffic.cache_clear()
    streams = sys.modules.get("shoal_core.aws.streams")
    if streams is not None:
        streams.exits.cache_clear()
        streams.entrances.cache_clear()
    stream_routes = sys.modules.get("shoal_core.aws.stream_routes")
    if stream_routes is not None:
        stream_routes.dead_letters.cache_clear()
    for name in [name for name in sys.modules if name.startswith("functions_under_test.")]:
        del sys.modules[name]


def function(name: str) -> ModuleType:
    """The module of a function's app.py, imported once per stack."""
    qualified = f"functions_under_test.{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, ROOT / "functions" / name / "app.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        spec.loader.exec_module(module)
    return sys.modules[qualified]


class Context:
    """A Lambda context with what Powertools reads of it."""

    function_name = "function"
    function_version = "$LATEST"
    memory_limit_in_mb = 1769
    invoked_function_arn = f"arn:aws:lambda:{REGION}:123456789012:function:function"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def invoke(name: str, event: dict[str, Any]) -> Any:
    """Run a function's handler on an event."""
    return function(name).handler(event, Context())
