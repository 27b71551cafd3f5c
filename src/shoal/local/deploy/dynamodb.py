"""DynamoDB tables."""

from __future__ import annotations

from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, recorded, tag_map
from shoal.local.template import Resource

_AT_CREATION = "create_table"


def _create_table(context: Context, resource: Resource) -> Created:
    name = context.name(resource, "TableName", 255)
    client, properties = context.client("dynamodb"), resource.properties
    try:
        table = client.create_table(TableName=name, **_creation(properties))["TableDescription"]
    except client.exceptions.ResourceInUseException:
        table = client.describe_table(TableName=name)["Table"]
    if "PointInTimeRecoverySpecification" in properties:
        enabled = flag(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"])
        client.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled}
        )
    if "TimeToLiveSpecification" in properties:
        given = properties["TimeToLiveSpecification"]
        ttl = {"Enabled": flag(given["Enabled"]), "AttributeName": given["AttributeName"]}
        client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    partition_key = next(key["AttributeName"] for key in properties["KeySchema"] if key["KeyType"] == "HASH")
    context.deployment.partition_keys[name] = str(partition_key)
    attributes = {"Arn": table["TableArn"]}
    if "LatestStreamArn" in table:
        attributes["StreamArn"] = table["LatestStreamArn"]
    return Created(name, attributes)


def _creation(properties: Any) -> dict[str, Any]:  # noqa: ANN401
    arguments: dict[str, Any] = {
        name: properties[name]
        for name in (
            "GlobalSecondaryIndexes",
            "LocalSecondaryIndexes",
            "TableClass",
        )
        if name in properties
    }
    arguments |= {name: properties[name] for name in ("AttributeDefinitions", "KeySchema")}
    arguments["BillingMode"] = properties.get("BillingMode", "PROVISIONED")
    if "ProvisionedThroughput" in properties:
        given = properties["ProvisionedThroughput"]
        arguments["ProvisionedThroughput"] = {name: int(value) for name, value in given.items()}
    if "StreamSpecification" in properties:
        arguments["StreamSpecification"] = {"StreamEnabled": True, **properties["StreamSpecification"]}
    if "SSESpecification" in properties:
        arguments["SSESpecification"] = {"Enabled": flag(properties["SSESpecification"]["SSEEnabled"])}
    if "DeletionProtectionEnabled" in properties:
        arguments["DeletionProtectionEnabled"] = flag(properties["DeletionProtectionEnabled"])
    if "Tags" in properties:
        arguments["Tags"] = [{"Key": key, "Value": value} for key, value in tag_map(properties["Tags"]).items()]
    return arguments


TABLE = ResourceType(
    "AWS::DynamoDB::Table",
    {
        "TableName": Property("name of the table; by default the stack's name and the logical id"),
        "AttributeDefinitions": Property(_AT_CREATION),
        "KeySchema": Property(_AT_CREATION),
        "GlobalSecondaryIndexes": Property(_AT_CREATION),
        "LocalSecondaryIndexes": Property(_AT_CREATION),
        "BillingMode": recorded("shown by the API; nothing is billed or throttled"),
        "ProvisionedThroughput": recorded("shown by the API; nothing is billed or throttled"),
        "TableClass": recorded("shown by the API; nothing is billed"),
        "StreamSpecification.StreamViewType": Property(_AT_CREATION),
        "PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled": Property(
            "exports to S3 need it; there is no history to restore from"
        ),
        "TimeToLiveSpecification.AttributeName": recorded("shown by the API; items don't expire here"),
        "TimeToLiveSpecification.Enabled": recorded("shown by the API; items don't expire here"),
        "SSESpecification.SSEEnabled": recorded("shown by the API; data on disk is as safe as the disk"),
        "DeletionProtectionEnabled": Property("create_table: DeleteTable is refused"),
        "Tags": Property(_AT_CREATION),
    },
    _create_table,
)

TYPES = (TABLE,)
