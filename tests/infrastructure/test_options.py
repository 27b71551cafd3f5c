"""What the template's options do: off by default, whole when on, and refused by name by the embedded cloud."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shoal.local.deploy.stack import check_stack
from shoal.local.intrinsics import BadTemplate, references
from shoal.local.template import Stack, load_stack, read_template

ROOT = Path(__file__).resolve().parents[2]
KEY = {"Fn::GetAtt": ["EncryptionKey", "Arn"]}
KMS = (("Encryption", "kms"), ("Streaming", "on"))
VPC = (("VpcSubnetIds", "subnet-1,subnet-2"), ("VpcSecurityGroupIds", "sg-1"))
OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "KMS": KMS,
    "VPC": VPC,
    "snapshots": (("PredictSnapStart", "PublishedVersions"),),
    "provisioned": (("PredictProvisioned", "2"),),
    "scaled": (("PredictProvisioned", "2"), ("PredictProvisionedMax", "9")),
    "CORS": (("CorsOrigins", "https://a.example,https://b.example"),),
    "Function URL": (("FunctionUrl", "aws-iam"),),
}


@cache
def stack(*parameters: tuple[str, str]) -> Stack:
    return load_stack(ROOT / "template.yaml", "shoal", dict(parameters), "eu-central-1", "123456789012")


def resources(kind: str, *parameters: tuple[str, str]) -> dict[str, Any]:
    found = stack(*parameters).resources
    return {name: resource.properties for name, resource in found.items() if resource.type == kind}


def test_every_option_is_off_by_default() -> None:
    check_stack(stack())
    for kind in ("AWS::KMS::Key", "AWS::Lambda::Url", "AWS::ApplicationAutoScaling::ScalableTarget"):
        assert not resources(kind)
    functions = resources("AWS::Lambda::Function").values()
    assert not [function for function in functions if "VpcConfig" in function or "SnapStart" in function]
    (api,) = resources("AWS::ApiGatewayV2::Api").values()
    assert "x-amazon-apigateway-cors" not in api["Body"]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_embedded_cloud_refuses_by_name_what_it_cant_honour(option: str) -> None:
    with pytest.raises(BadTemplate, match=r"isn't honoured|only 'None' is honoured") as caught:
        check_stack(stack(*OPTIONS[option]))
    assert caught.value.problems


def test_one_key_of_the_stacks_own_encrypts_everything_that_keeps_data() -> None:
    (rotates,) = [key["EnableKeyRotation"] for key in resources("AWS::KMS::Key", *KMS).values()]
    assert rotates is True
    for bucket in resources("AWS::S3::Bucket", *KMS).values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
        assert rule["BucketKeyEnabled"] is True
    (table,) = resources("AWS::DynamoDB::Table", *KMS).values()
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    queues, streams = resources("AWS::SQS::Queue", *KMS), resources("AWS::Kinesis::Stream", *KMS)
    assert {str(queue.get("KmsMasterKeyId")) for queue in queues.values()} == {str(KEY)}
    assert not [name for name, queue in queues.items() if "SqsManagedSseEnabled" in queue]
    assert {str(stream["StreamEncryption"]["KeyId"]) for stream in streams.values()} == {str(KEY)}
    logs = resources("AWS::Logs::LogGroup", *KMS)
    assert {str(group.get("KmsKeyId")) for group in logs.values()} == {str(KEY)}
    (secret,) = resources("AWS::SecretsManager::Secret", *KMS).values()
    assert secret["KmsKeyId"] == KEY


def test_the_key_is_used_through_services_of_this_account_only() -> None:
    (key,) = resources("AWS::KMS::Key", *KMS).values()
    statements = {statement["Sid"]: statement for statement in key["KeyPolicy"]["Statement"]}
    assert set(statements) == {"Administration", "ThroughServices", "Logs"}
    condition = statements["ThroughServices"]["Condition"]["StringEquals"]
    assert condition["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
    services = [name["Fn::Sub"].partition(".")[0] for name in condition["kms:ViaService"]]
    assert services == ["s3", "dynamodb", "sqs", "kinesis", "secretsmanager", "sagemaker"]
    assert "ArnLike" in statements["Logs"]["Condition"]


def test_without_it_everything_is_encrypted_by_awss_own_keys() -> None:
    assert all(queue["SqsManagedSseEnabled"] is True for queue in resources("AWS::SQS::Queue").values())
    assert not [name for name, group in resources("AWS::Logs::LogGroup").items() if "KmsKeyId" in group]


def test_every_function_may_be_in_a_vpc() -> None:
    functions = resources("AWS::Lambda::Function", *VPC)
    assert len(functions) == len(list((ROOT / "functions").glob("*/app.py")))
    for name, function in functions.items():
        assert function["VpcConfig"] == {
            "SubnetIds": {"Ref": "VpcSubnetIds"},
            "SecurityGroupIds": {"Ref": "VpcSecurityGroupIds"},
        }, name


def test_the_networks_outputs_are_the_parameters_and_nothing_leads_to_the_internet() -> None:
    network = read_template(ROOT / "network.yaml")
    assert (
        set(network["Outputs"]) == {name for name, _ in VPC} <= set(read_template(ROOT / "template.yaml")["Parameters"])
    )
    kinds = [resource["Type"] for resource in network["Resources"].values()]
    assert not {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route"} & set(kinds)
    services = {
        resource["Properties"]["ServiceName"]["Fn::Sub"].rpartition(".")[2]: resource["Properties"]["VpcEndpointType"]
        for resource in network["Resources"].values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    }
    assert {name for name, kind in services.items() if kind == "Gateway"} == {"s3", "dynamodb"}
    # What functions ask for, by the names of botocore's clients.
    named = {"stepfunctions": "states", "cloudwatch": "monitoring", "kinesis": "kinesis-streams"}
    asked = {
        named.get(line.split('client("')[1].split('"')[0], line.split('client("')[1].split('"')[0])
        for folder in ("layers/core/shoal_core", "functions")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if 'client("' in line
    }
    assert asked <= set(services)
    subnets = [resource for resource in network["Resources"].values() if resource["Type"] == "AWS::EC2::Subnet"]
    assert len(subnets) == 2
    assert all(subnet["Properties"]["MapPublicIpOnLaunch"] is False for subnet in subnets)


def test_the_api_calls_predict_by_its_alias() -> None:
    (alias,) = resources("AWS::Lambda::Alias").values()
    assert (alias["Name"], references(alias["FunctionName"]).__next__()) == ("live", "PredictFunction")
    (api,) = resources("AWS::ApiGatewayV2::Api").values()
    called = set(references(api["Body"]["paths"]["/models/{name}/predict"]))
    assert called == {"PredictFunctionAliaslive"} or {"AWS::Region", "AWS::Partition"} >= called - {
        "PredictFunctionAliaslive"
    }


def test_predict_starts_from_a_snapshot_or_is_provisioned_but_not_both() -> None:
    function = resources("AWS::Lambda::Function", *OPTIONS["snapshots"])["PredictFunction"]
    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    (alias,) = resources("AWS::Lambda::Alias", *OPTIONS["provisioned"]).values()
    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": {"Ref": "PredictProvisioned"}}
    (both,) = resources("AWS::Lambda::Alias", *OPTIONS["snapshots"], *OPTIONS["scaled"]).values()
    assert "ProvisionedConcurrencyConfig" not in both
    assert not resources("AWS::ApplicationAutoScaling::ScalableTarget", *OPTIONS["snapshots"], *OPTIONS["scaled"])


def test_provisioned_instances_follow_the_load() -> None:
    (target,) = resources("AWS::ApplicationAutoScaling::ScalableTarget", *OPTIONS["scaled"]).values()
    assert target["ResourceId"] == {"Fn::Sub": "function:${AWS::StackName}-predict:live"}
    assert (target["MinCapacity"], target["MaxCapacity"]) == (
        {"Ref": "PredictProvisioned"},
        {"Ref": "PredictProvisionedMax"},
    )
    assert len(resources("AWS::ApplicationAutoScaling::ScalingPolicy", *OPTIONS["scaled"])) == 1
    assert not resources("AWS::ApplicationAutoScaling::ScalableTarget", *OPTIONS["provisioned"])


def test_only_named_origins_may_call_the_api() -> None:
    (api,) = resources("AWS::ApiGatewayV2::Api", *OPTIONS["CORS"]).values()
    cors = api["Body"]["x-amazon-apigateway-cors"]
    assert cors["allowOrigins"] == {"Fn::Split": [",", OPTIONS["CORS"][0][1]]}
    assert "Authorization" in cors["allowHeaders"]
    assert "allowCredentials" not in cors


def test_a_function_url_asks_iam() -> None:
    (url,) = resources("AWS::Lambda::Url", *OPTIONS["Function URL"]).values()
    assert (url["AuthType"], url["Qualifier"]) == ("AWS_IAM", "live")
