"""S3: buckets, their policies, and the events that start functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.deployment import Notification
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, number, recorded, tag_map
from shoal.local.intrinsics import intrinsic
from shoal.local.template import Resource

_LOOPBACK = "the services listen on 127.0.0.1 only"
_NO_EXPIRY = "shown by the API; objects on this machine don't age away"
_RULE = "LifecycleConfiguration.Rules[]"


def _create_bucket(context: Context, resource: Resource) -> Created:
    name = context.name(resource, "BucketName", 63, lower=True)
    client, region, properties = context.client("s3"), context.stack.region, resource.properties
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    # Data of an earlier run stays; the settings below are brought up to date.
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket=name, **where)
    if "VersioningConfiguration" in properties:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"])
    if "BucketEncryption" in properties:
        client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=_encryption(properties))
    if "PublicAccessBlockConfiguration" in properties:
        block = properties["PublicAccessBlockConfiguration"]
        client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
    if "OwnershipControls" in properties:
        client.put_bucket_ownership_controls(Bucket=name, OwnershipControls=properties["OwnershipControls"])
    if "LifecycleConfiguration" in properties:
        rules = [
            _lifecycle_rule(resource, index) for index in range(len(properties["LifecycleConfiguration"]["Rules"]))
        ]
        client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    if "Tags" in properties:
        tags = [{"Key": key, "Value": value} for key, value in tag_map(properties["Tags"]).items()]
        client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
    context.deployment.notifications += _notifications(name, properties)
    return Created(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        },
    )


def _encryption(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Rules": [
            {
                "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                **({"BucketKeyEnabled": rule["BucketKeyEnabled"]} if "BucketKeyEnabled" in rule else {}),
            }
            for rule in properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        ]
    }


def _lifecycle_rule(resource: Resource, index: int) -> dict[str, Any]:
    given = resource.properties["LifecycleConfiguration"]["Rules"][index]
    rule: dict[str, Any] = {
        "ID": given.get("Id", f"rule-{index}"),
        "Status": given["Status"],
        "Filter": {"Prefix": given.get("Prefix", "")},
    }
    part = Resource(resource.logical_id, resource.type, given)
    expiration = {
        "Days": number(part, "ExpirationInDays"),
        "ExpiredObjectDeleteMarker": given.get("ExpiredObjectDeleteMarker"),
    }
    noncurrent = {
        "NoncurrentDays": number(part, "NoncurrentVersionExpiration.NoncurrentDays"),
        "NewerNoncurrentVersions": number(part, "NoncurrentVersionExpiration.NewerNoncurrentVersions"),
    }
    uploads = {"DaysAfterInitiation": number(part, "AbortIncompleteMultipartUpload.DaysAfterInitiation")}
    for name, values in (
        ("Expiration", expiration),
        ("NoncurrentVersionExpiration", noncurrent),
        ("AbortIncompleteMultipartUpload", uploads),
    ):
        chosen = {key: value for key, value in values.items() if value is not None}
        if chosen:
            rule[name] = chosen
    if "Transitions" in given:
        rule["Transitions"] = [
            {"Days": int(item["TransitionInDays"]), "StorageClass": item["StorageClass"]}
            for item in given["Transitions"]
        ]
    return rule


def _notifications(bucket: str, properties: Mapping[str, Any]) -> Iterator[Notification]:
    configurations = properties.get("NotificationConfiguration", {}).get("LambdaConfigurations", [])
    for index, configuration in enumerate(configurations):
        rules = configuration.get("Filter", {}).get("S3Key", {}).get("Rules", [])
        filters = {str(rule["Name"]).lower(): str(rule["Value"]) for rule in rules}
        yield Notification(
            bucket=bucket,
            function_name=str(configuration["Function"]).rpartition(":")[2],
            events=(str(configuration["Event"]),),
            prefix=filters.get("prefix", ""),
            suffix=filters.get("suffix", ""),
            configuration_id=f"{bucket}-{index}",
        )


def _create_policy(context: Context, resource: Resource) -> Created:
    bucket = str(resource.properties["Bucket"])
    # Not given to moto: its S3 ignores a statement's conditions, so "deny without TLS" would deny every request.
    context.deployment.bucket_policies[bucket] = resource.properties["PolicyDocument"]
    return Created(f"{bucket}-policy")


def _check_policy(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Only "deny what isn't sent over TLS" is known: it says nothing about the loopback interface."""
    document = properties.get("PolicyDocument", {})
    statements = document.get("Statement", []) if isinstance(document, Mapping) else []
    for index, statement in enumerate(statements if isinstance(statements, list) else [statements]):
        condition = statement.get("Condition", {}) if intrinsic(statement) is None else {}
        insecure = str(condition.get("Bool", {}).get("aws:SecureTransport", "")).lower() == "false"
        if statement.get("Effect") != "Deny" or not insecure or len(condition) != 1 or len(condition["Bool"]) != 1:
            yield (
                f"PolicyDocument.Statement[{index}]",
                "only a Deny of requests without TLS (Bool aws:SecureTransport false) is honoured; "
                "give permissions to roles instead",
            )


BUCKET = ResourceType(
    "AWS::S3::Bucket",
    {
        "BucketName": Property("name of the bucket; by default the stack's name and the logical id in lower case"),
        "VersioningConfiguration.Status": Property("put_bucket_versioning: S3 keeps versions"),
        "BucketEncryption.ServerSideEncryptionConfiguration[].ServerSideEncryptionByDefault.SSEAlgorithm": recorded(
            "shown by the API; data on disk is as safe as the disk"
        ),
        "BucketEncryption.ServerSideEncryptionConfiguration[].BucketKeyEnabled": recorded("shown by the API; no KMS"),
        "PublicAccessBlockConfiguration.BlockPublicAcls": recorded(f"shown by the API; {_LOOPBACK}"),
        "PublicAccessBlockConfiguration.BlockPublicPolicy": recorded(f"shown by the API; {_LOOPBACK}"),
        "PublicAccessBlockConfiguration.IgnorePublicAcls": recorded(f"shown by the API; {_LOOPBACK}"),
        "PublicAccessBlockConfiguration.RestrictPublicBuckets": recorded(f"shown by the API; {_LOOPBACK}"),
        "OwnershipControls.Rules[].ObjectOwnership": recorded("shown by the API; there is one account"),
        f"{_RULE}.Id": Property("put_bucket_lifecycle_configuration"),
        f"{_RULE}.Status": Property("put_bucket_lifecycle_configuration"),
        f"{_RULE}.Prefix": Property("put_bucket_lifecycle_configuration"),
        f"{_RULE}.ExpirationInDays": recorded(_NO_EXPIRY),
        f"{_RULE}.ExpiredObjectDeleteMarker": recorded(_NO_EXPIRY),
        f"{_RULE}.NoncurrentVersionExpiration.NoncurrentDays": recorded(_NO_EXPIRY),
        f"{_RULE}.NoncurrentVersionExpiration.NewerNoncurrentVersions": recorded(_NO_EXPIRY),
        f"{_RULE}.AbortIncompleteMultipartUpload.DaysAfterInitiation": recorded(_NO_EXPIRY),
        f"{_RULE}.Transitions[].TransitionInDays": recorded("shown by the API; a disk has one storage class"),
        f"{_RULE}.Transitions[].StorageClass": recorded("shown by the API; a disk has one storage class"),
        "NotificationConfiguration.LambdaConfigurations[].Event": Property("the middleware invokes the function"),
        "NotificationConfiguration.LambdaConfigurations[].Function": Property("the middleware invokes the function"),
        "NotificationConfiguration.LambdaConfigurations[].Filter.S3Key.Rules[].Name": Property(
            "the middleware compares the key"
        ),
        "NotificationConfiguration.LambdaConfigurations[].Filter.S3Key.Rules[].Value": Property(
            "the middleware compares the key"
        ),
        "Tags": Property("put_bucket_tagging"),
    },
    _create_bucket,
)

BUCKET_POLICY = ResourceType(
    "AWS::S3::BucketPolicy",
    {
        "Bucket": Property("bucket that carries the policy"),
        "PolicyDocument": recorded(f"kept in the deployment; TLS isn't asked for because {_LOOPBACK}"),
    },
    _create_policy,
    _check_policy,
)

TYPES = (BUCKET, BUCKET_POLICY)
