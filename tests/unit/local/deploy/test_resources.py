"""Each resource type of a whole template, looked at through AWS's API after one deployment."""

from __future__ import annotations

import json

import pytest
from moto.core.model_instances import reset_model_data

from shoal.local.deploy.stack import deploy_stack
from shoal.local.permissions import Request, credentials_for
from shoal.local.template import load_stack
from tests.unit.local.deploy.conftest import ACCOUNT, REGION, clients
from tests.unit.local.deploy.stacks import write_project

API_URL = "http://127.0.0.1:8080"
BUCKET = f"shoal-uploads-{ACCOUNT}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def deployment(folder, server):
    reset_model_data()
    stack = load_stack(write_project(folder), "shoal", {}, REGION, ACCOUNT)
    return deploy_stack(stack, endpoint=server, api_url=API_URL)


@pytest.fixture
def client(server):
    return clients(server)


def function(deployment, logical_id):
    return next(spec for spec in deployment.functions if spec.name == deployment.resources[logical_id])


def test_outputs(deployment):
    assert deployment.outputs == {
        "Bucket": BUCKET,
        "Table": "shoal-Catalog",
        "StateMachineArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:shoal-Training",
        "ApiUrl": API_URL,
        "TokenSecretArn": deployment.secret_arns["shoal/token"],
    }


def test_bucket(deployment, client):
    s3 = client("s3")
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    encryption = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    controls = s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]
    assert controls["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    assert rules["versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules["rule-1"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rules["old"]["Expiration"] == {"Days": 90}
    assert rules["old"]["Filter"] == {"Prefix": "runs/"}
    assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == [{"Key": "stage", "Value": "dev"}]
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")  # the TLS-only policy doesn't shut out the loopback
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"
    assert deployment.bucket_policies[BUCKET]["Statement"][0]["Resource"][1] == f"arn:aws:s3:::{BUCKET}/*"
    assert "shoal-artifacts" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_notifications(deployment):
    (notification,) = deployment.notifications
    assert (notification.bucket, notification.function_name) == (BUCKET, "shoal-IngestFunction")
    assert (notification.events, notification.prefix, notification.suffix) == (("s3:ObjectCreated:*",), "datasets/", "")


def test_table(deployment, client):
    dynamodb = client("dynamodb")
    table = dynamodb.describe_table(TableName="shoal-Catalog")["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSEDescription"]["Status"] == "ENABLED"
    backups = dynamodb.describe_continuous_backups(TableName="shoal-Catalog")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    ttl = dynamodb.describe_time_to_live(TableName="shoal-Catalog")["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    assert deployment.partition_keys == {"shoal-Catalog": "pk"}


def test_queue(deployment, client):
    sqs = client("sqs")
    url = sqs.get_queue_url(QueueName="shoal-Failed")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert attributes["MessageRetentionPeriod"] == "1209600"


def test_log_groups(deployment, client):
    groups = {group["logGroupName"]: group for group in client("logs").describe_log_groups()["logGroups"]}
    assert groups["/aws/lambda/shoal-IngestFunction"]["retentionInDays"] == 7
    assert groups["shoal-HttpApiLogs"]["retentionInDays"] == 30


def test_functions(deployment, folder):
    ingest = function(deployment, "IngestFunction")
    assert ingest.code == folder / "functions/ingest"
    assert ingest.python_path == (folder / "layers/core",)  # the Makefile layer is the environment's
    assert ingest.environment == {
        "STAGE": "dev",
        "TABLE": "shoal-Catalog",
        "MACHINE": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:x",
    }
    assert (ingest.memory_mb, ingest.timeout_s, ingest.tracing) == (256, 30, True)
    assert (ingest.max_retry_attempts, ingest.on_failure) == (1, f"arn:aws:sqs:{REGION}:{ACCOUNT}:shoal-Failed")
    assert ingest.credentials == credentials_for(ingest.role_arn)
    assert ingest.log_group == "/aws/lambda/shoal-IngestFunction"
    assert function(deployment, "ApiFunction").timeout_s == 10


def test_state_machine(deployment, client):
    stepfunctions = client("stepfunctions")
    machine = stepfunctions.describe_state_machine(stateMachineArn=deployment.outputs["StateMachineArn"])
    task = json.loads(machine["definition"])["States"]["Ingest"]
    assert task["Parameters"]["FunctionName"] == function(deployment, "IngestFunction").arn
    assert task["Retry"][0]["MaxAttempts"] == 3
    assert machine["loggingConfiguration"]["level"] == "ERROR"
    assert machine["tracingConfiguration"] == {"enabled": True}
    tags = stepfunctions.list_tags_for_resource(resourceArn=machine["stateMachineArn"])["tags"]
    assert {"key": "kind", "value": "training"} in tags
    assert deployment.state_machines["Training"].role_arn == machine["roleArn"]


def test_roles(deployment, client):
    iam = client("iam")
    names = iam.list_role_policies(RoleName="shoal-IngestFunctionRole")["PolicyNames"]
    assert "IngestFunctionRolePolicy0" in names
    role = deployment.roles[function(deployment, "IngestFunction").role_arn]
    assert role.principals == ("lambda.amazonaws.com",)
    assert "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole" in role.documents


def signed(spec_or_key, service, method="POST", path="/", target="", body=None):
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={spec_or_key}/20261121/{REGION}/{service}/aws4_request, x",
        "X-Amz-Target": target,
    }
    return Request(method, "127.0.0.1", path, "", headers, json.dumps(body or {}).encode())


def test_sams_policy_templates_are_enforced(deployment):
    authorizer = deployment.authorizer()
    key = function(deployment, "IngestFunction").credentials.access_key
    group = {"logGroupName": "/aws/lambda/shoal-IngestFunction", "logStreamName": "s"}
    allowed = [
        signed(key, "s3", "GET", f"/{BUCKET}/datasets/a"),  # S3ReadPolicy
        signed(key, "s3", "PUT", "/shoal-artifacts/datasets/a"),  # its own statement
        signed(key, "dynamodb", target="D.PutItem", body={"TableName": "shoal-Catalog"}),  # DynamoDBCrudPolicy
        signed(key, "sqs", target="AmazonSQS.SendMessage", body={"QueueUrl": "http://h/1/shoal-Failed"}),  # OnFailure
        signed(key, "logs", target="L.PutLogEvents", body=group),  # AWSLambdaBasicExecutionRole
        signed(key, "xray", path="/TraceSegments"),  # AWSXrayWriteOnlyAccess
    ]
    assert [authorizer.check(key, request) for request in allowed] == [None] * len(allowed)
    refused = [
        signed(key, "s3", "PUT", f"/{BUCKET}/datasets/a"),
        signed(key, "s3", "GET", "/shoal-artifacts/datasets/a"),
        signed(key, "dynamodb", target="D.PutItem", body={"TableName": "other"}),
        signed(key, "secretsmanager", target="s.GetSecretValue", body={"SecretId": "shoal/token"}),
    ]
    assert all(authorizer.check(key, request) for request in refused)
    api = function(deployment, "ApiFunction").credentials.access_key
    assert authorizer.check(api, refused[-1]) is None
    invoke = "/2015-03-31/functions/{}/invocations"
    assert authorizer.check("ak", signed("ak", "lambda", path=invoke.format("shoal-IngestFunction"))) is None
    assert authorizer.check("ak", signed("ak", "lambda", path=invoke.format("shoal-ApiFunction")))


def test_http_api(deployment):
    (api,) = deployment.http_apis
    assert deployment.resources["HttpApi"] == api.api_id
    assert {(route.key, route.function_name, route.authorizer) for route in api.routes} == {
        ("POST /models/{name}/predict", "shoal-ApiFunction", "Token"),
        ("ANY /{proxy+}", "shoal-ApiFunction", "Token"),
        ("GET /healthz", "shoal-ApiFunction", None),
    }
    authorizer = api.authorizers["Token"]
    assert authorizer.function_name == "shoal-AuthorizeFunction"
    assert authorizer.identity_source == ("$request.header.Authorization",)
    assert (authorizer.ttl_s, authorizer.enable_simple_responses) == (60, True)
    assert (api.throttling.burst, api.throttling.rate) == (10, 5)
    assert api.log_group == "shoal-HttpApiLogs"
    assert (api.account_id, api.region) == (ACCOUNT, REGION)
