"""Kinesis streams: moto knows them and their shards, `streaming` keeps their records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, number, recorded, tag_map
from shoal.local.intrinsics import intrinsic
from shoal.local.template import Resource

_ON_DEMAND = "ON_DEMAND"


def _create_stream(context: Context, resource: Resource) -> Created:
    client, properties = context.client("kinesis"), resource.properties
    name = context.name(resource, "Name", 128)
    hours = number(resource, "RetentionPeriodHours", 24) or 24
    on_demand = properties.get("StreamModeDetails", {}).get("StreamMode") == _ON_DEMAND
    # Moto gives a stream on demand four shards, as AWS does.
    arguments: dict[str, Any] = {"StreamModeDetails": {"StreamMode": _ON_DEMAND}} if on_demand else {}
    if not on_demand:
        arguments["ShardCount"] = number(resource, "ShardCount", 1)
    if name not in client.list_streams(Limit=1000)["StreamNames"]:
        client.create_stream(StreamName=name, **arguments)
    summary = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    if hours > summary["RetentionPeriodHours"]:
        client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)
    if properties.get("Tags"):
        client.add_tags_to_stream(StreamName=name, Tags=tag_map(properties["Tags"]))
    return Created(name, {"Arn": summary["StreamARN"]})


def _check_stream(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mode = properties.get("StreamModeDetails", {})
    if intrinsic(mode) is None and mode.get("StreamMode") == _ON_DEMAND and "ShardCount" in properties:
        yield "ShardCount", "can't go with a stream on demand"
    if "StreamModeDetails" not in properties and "ShardCount" not in properties:
        yield "ShardCount", "is missing; give it, or StreamModeDetails"


STREAM = ResourceType(
    "AWS::Kinesis::Stream",
    {
        "Name": Property("name of the stream; by default the stack's name and the logical id"),
        "StreamModeDetails.StreamMode": Property("on demand: four shards", only=("ON_DEMAND", "PROVISIONED")),
        "ShardCount": Property("create_stream; afterwards it can't be changed here"),
        "RetentionPeriodHours": Property("older records are deleted when new ones arrive"),
        "StreamEncryption.EncryptionType": recorded("data on disk is as safe as the disk", only=("KMS",)),
        "StreamEncryption.KeyId": recorded("data on disk is as safe as the disk"),
        "Tags": Property("add_tags_to_stream"),
    },
    _create_stream,
    _check_stream,
)

TYPES = (STREAM,)
