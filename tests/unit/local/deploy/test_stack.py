"""A whole template deployed into moto, looked at through AWS's API."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from shoal.local.deploy.stack import check_stack, deploy_stack, recorded_uses, supported_properties
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import load_stack
from tests.unit.local.deploy.conftest import ACCOUNT, REGION
from tests.unit.local.deploy.stacks import TEMPLATE, write_project

API_URL = "http://127.0.0.1:8080"
BUCKET = f"shoal-uploads-{ACCOUNT}"


def load(folder, template=TEMPLATE, parameters=None, files=None):
    return load_stack(write_project(folder, template, files), "shoal", parameters or {}, REGION, ACCOUNT)


@pytest.fixture
def deployment(tmp_path, endpoint):
    return deploy_stack(load(tmp_path), endpoint=endpoint, api_url=API_URL)


CORS = "      DefaultRouteSettings: {ThrottlingBurstLimit: 10, ThrottlingRateLimit: 5}\n"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (CORS, "      CorsConfiguration: {AllowOrigins: ['*']}\n", "Body.x-amazon-apigateway-cors: isn't honoured"),
        (
            CORS,
            "      RouteSettings: {'GET /healthz': {ThrottlingRateLimit: 1}}\n",
            "property RouteSettings isn't honoured",
        ),
        (CORS, "      StageName: prod\n", "StageName is 'prod'"),
        ('AuthorizerPayloadFormatVersion: "2.0"', 'AuthorizerPayloadFormatVersion: "1.0"', "only payload format 2.0"),
        (
            "Path: /healthz, Method: GET,",
            'Path: /healthz, Method: GET, PayloadFormatVersion: "1.0",',
            "payload format 2.0",
        ),
    ],
)
def test_what_the_gateway_doesnt_serve_is_named(tmp_path, old, new, problem):
    assert problem in "; ".join(problems_of(tmp_path, TEMPLATE.replace(old, new)))


POLICIES = '        - S3ReadPolicy: {BucketName: !Sub "${AWS::StackName}-uploads-${AWS::AccountId}"}\n'


def test_managed_policies_by_name(tmp_path, endpoint):
    stack = load(tmp_path, TEMPLATE.replace(POLICIES, "        - AWSLambdaExecute\n"))
    role = deploy_stack(stack, endpoint=endpoint, api_url=API_URL).roles[
        f"arn:aws:iam::{ACCOUNT}:role/shoal-IngestFunctionRole"
    ]
    assert role.documents["arn:aws:iam::aws:policy/AWSLambdaExecute"]["Statement"][0]["Action"] == ["logs:*"]
    problems = problems_of(tmp_path, TEMPLATE.replace(POLICIES, "        - AmazonS3FullAccess\n"))
    assert "policy/AmazonS3FullAccess isn't known here" in problems[0]


def test_a_second_http_api_is_refused(tmp_path, endpoint):
    second = """
  Other:
    Type: AWS::Serverless::HttpApi
    Properties: {}
  OtherFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/api
      Handler: app.handler
      Events: {Any: {Type: HttpApi, Properties: {ApiId: !Ref Other}}}
Outputs:
"""
    with pytest.raises(BadTemplate, match="one HTTP API"):
        deploy_stack(load(tmp_path, TEMPLATE.replace("\nOutputs:\n", second)), endpoint=endpoint, api_url=API_URL)


def test_secrets_are_generated_once(deployment, client, tmp_path, endpoint):
    token = deployment.secrets["shoal/token"]
    assert len(token) == 48
    assert token.isalnum()
    secret = client("secretsmanager").get_secret_value(SecretId="shoal/token")
    assert (secret["SecretString"], secret["ARN"]) == (token, deployment.outputs["TokenSecretArn"])
    again = deploy_stack(load(tmp_path), endpoint=endpoint, api_url=API_URL, secrets={"shoal/token": "kept"})
    assert again.secrets == {"shoal/token": "kept"}
    assert client("secretsmanager").get_secret_value(SecretId="shoal/token")["SecretString"] == "kept"


def test_deploying_again_keeps_data_and_changes_settings(deployment, client, tmp_path, endpoint):
    client("s3").put_object(Bucket=BUCKET, Key="k", Body=b"x")
    client("dynamodb").put_item(TableName="shoal-Catalog", Item={"pk": {"S": "a"}, "sk": {"S": "b"}})
    changed = TEMPLATE.replace("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 60")
    changed = changed.replace("IngestArn: !GetAtt IngestFunction.Arn", "IngestArn: !GetAtt ApiFunction.Arn")
    stack = load(tmp_path, changed.replace("RetentionInDays: 30", "RetentionInDays: 14"))
    again = deploy_stack(stack, endpoint=endpoint, api_url=API_URL, secrets=deployment.secrets)
    assert {**again.resources} == {**deployment.resources}
    assert again.secrets == deployment.secrets
    assert client("s3").get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"
    assert client("dynamodb").scan(TableName="shoal-Catalog")["Count"] == 1
    url = again.resources["Failed"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["MessageRetentionPeriod"] == "60"
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix="shoal-HttpApiLogs")["logGroups"]
    assert group["retentionInDays"] == 14
    machine = client("stepfunctions").describe_state_machine(stateMachineArn=again.outputs["StateMachineArn"])
    assert "shoal-ApiFunction" in machine["definition"]


MORE = """
Parameters: {Target: {Type: String, Default: queue}}
Resources:
  Dead: {Type: AWS::SQS::Queue}
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      FifoQueue: true
      ContentBasedDeduplication: true
      VisibilityTimeout: "45"
      Tags: [{Key: a, Value: b}]
  Work:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}}
  DeadPolicy:
    Type: AWS::SQS::QueuePolicy
    Properties: {Queues: [!Ref Dead], PolicyDocument: {Version: 2012-10-17, Statement: []}}
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      TableName: items
      AttributeDefinitions: [{AttributeName: a, AttributeType: S}, {AttributeName: b, AttributeType: S}]
      KeySchema: [{AttributeName: a, KeyType: HASH}]
      ProvisionedThroughput: {ReadCapacityUnits: "1", WriteCapacityUnits: "1"}
      GlobalSecondaryIndexes:
        - IndexName: by_b
          KeySchema: [{AttributeName: b, KeyType: HASH}]
          Projection: {ProjectionType: ALL}
          ProvisionedThroughput: {ReadCapacityUnits: 1, WriteCapacityUnits: 1}
      StreamSpecification: {StreamViewType: NEW_IMAGE}
      DeletionProtectionEnabled: true
      Tags: [{Key: a, Value: b}]
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: facts}}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref Bus
      EventPattern: {source: [shoal]}
      Targets: [{Id: one, Arn: !GetAtt Work.Arn}]
  Shared:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: s3:GetObject, Resource: "*"}]}
  Role:
    Type: AWS::IAM::Role
    Properties:
      Path: /team/
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
      ManagedPolicyArns: [!Ref Shared]
  Plain:
    Type: AWS::SecretsManager::Secret
    Properties: {SecretString: known}
  Login:
    Type: AWS::SecretsManager::Secret
    Properties:
      GenerateSecretString:
        SecretStringTemplate: '{"user": "me"}'
        GenerateStringKey: password
        ExcludeCharacters: "abc"
        PasswordLength: 12
  Machine:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      RoleArn: !GetAtt Role.Arn
      Definition: {StartAt: A, States: {A: {Type: Pass, End: true}}}
Outputs:
  Stream: {Value: !GetAtt Table.StreamArn}
  Name: {Value: !GetAtt Dead.QueueName}
"""


def test_the_other_types(tmp_path, endpoint, client):
    deployment = deploy_stack(load(tmp_path, MORE), endpoint=endpoint, api_url=API_URL)
    assert ":table/items/stream/" in deployment.outputs["Stream"]
    assert deployment.outputs["Name"] == "shoal-Dead"
    sqs = client("sqs")
    assert deployment.resources["Jobs"].endswith("/shoal-Jobs.fifo")
    fifo = sqs.get_queue_attributes(QueueUrl=deployment.resources["Jobs"], AttributeNames=["All"])["Attributes"]
    assert (fifo["FifoQueue"], fifo["VisibilityTimeout"]) == ("true", "45")
    with pytest.raises(ClientError):
        client("dynamodb").delete_table(TableName="items")
    index = client("dynamodb").describe_table(TableName="items")["Table"]["GlobalSecondaryIndexes"][0]
    assert index["IndexName"] == "by_b"
    entry = {"Source": "shoal", "DetailType": "RunFailed", "Detail": "{}", "EventBusName": "facts"}
    client("events").put_events(Entries=[entry])
    (message,) = sqs.receive_message(QueueUrl=deployment.resources["Work"])["Messages"]
    assert json.loads(message["Body"])["detail-type"] == "RunFailed"
    role = deployment.roles[f"arn:aws:iam::{ACCOUNT}:role/team/shoal-Role"]
    assert list(role.documents) == [f"arn:aws:iam::{ACCOUNT}:policy/shoal-Shared"]
    attached = client("iam").list_attached_role_policies(RoleName="shoal-Role")["AttachedPolicies"]
    assert attached[0]["PolicyName"] == "shoal-Shared"
    assert deployment.secrets["shoal-Plain"] == "known"
    login = json.loads(deployment.secrets["shoal-Login"])
    assert login["user"] == "me"
    assert len(login["password"]) == 12
    assert not set("abc") & set(login["password"])
    machine = client("stepfunctions").describe_state_machine(stateMachineArn=deployment.resources["Machine"])
    assert json.loads(machine["definition"])["StartAt"] == "A"
    deploy_stack(load(tmp_path, MORE), endpoint=endpoint, api_url=API_URL)  # and once more over what is there


def problems_of(folder, template, files=None):
    with pytest.raises(BadTemplate) as caught:
        check_stack(load(folder, template, files=files))
    return caught.value.problems


def test_everything_that_isnt_honoured_is_listed_at_once(tmp_path):
    template = """
Resources:
  Topic: {Type: AWS::SNS::Topic}
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      AccelerateConfiguration: {AccelerationStatus: Enabled}
      LifecycleConfiguration: {Rules: [{Status: Enabled}, {Status: Enabled, ObjectSizeGreaterThan: 3}]}
  Queue: {Type: AWS::SQS::Queue, Properties: {KmsMasterKeyId: x}}
"""
    assert set(problems_of(tmp_path, template)) == {
        "Topic (AWS::SNS::Topic): the resource type isn't honoured",
        "Bucket (AWS::S3::Bucket): property AccelerateConfiguration isn't honoured",
        "Bucket (AWS::S3::Bucket): property LifecycleConfiguration.Rules[1].ObjectSizeGreaterThan isn't honoured",
        "Queue (AWS::SQS::Queue): property KmsMasterKeyId isn't honoured",
    }


def resource(kind, properties):
    return f"Resources:\n  X:\n    Type: {kind}\n    Properties: {properties}\n"


PLAIN_FUNCTION = "Code: {S3Bucket: b, S3Key: k}, Handler: a.b, Role: r"


@pytest.mark.parametrize(
    ("kind", "properties", "problem"),
    [
        ("AWS::Lambda::Function", f"{{{PLAIN_FUNCTION}, Runtime: nodejs22.x}}", "Runtime: is 'nodejs22.x'"),
        ("AWS::Lambda::Function", f"{{{PLAIN_FUNCTION}, Runtime: python3.13, VpcConfig: {{}}}}", "VpcConfig isn't"),
        (
            "AWS::Lambda::Function",
            f"{{{PLAIN_FUNCTION}, Runtime: python3.13, DeadLetterConfig: {{TargetArn: x}}}}",
            "DeadLetterConfig isn't",
        ),
        ("AWS::Lambda::Function", "{Code: {ZipFile: x}, Runtime: python3.13}", "Code.ZipFile isn't"),
        ("AWS::Lambda::Function", f"{{{PLAIN_FUNCTION}, Runtime: python3.13, PackageType: Image}}", "only 'Zip'"),
        ("AWS::Lambda::CodeSigningConfig", "{FunctionName: x}", "the resource type isn't honoured"),
        ("AWS::StepFunctions::StateMachine", "{StateMachineType: EXPRESS, Definition: {}}", "only 'STANDARD'"),
        ("AWS::StepFunctions::StateMachine", "{}", "Definition: is missing"),
        ("AWS::Events::Rule", '{ScheduleExpression: "cron(0 8 * * ? *)"}', "only rate(N minutes), hours or days"),
        ("AWS::Events::Rule", "{ScheduleExpression: rate(1 day), EventPattern: {}}", "make two rules"),
        ("AWS::Events::Rule", "{}", "EventPattern: is missing"),
        ("AWS::Events::Rule", "{EventPattern: {}, Targets: [{Arn: a, Id: b, RoleArn: c}]}", "Targets[0].RoleArn isn't"),
        (
            "AWS::S3::BucketPolicy",
            "{Bucket: b, PolicyDocument: {Statement: [{Effect: Allow, Action: 's3:*', Resource: '*'}]}}",
            "PolicyDocument.Statement[0]: only a Deny",
        ),
        ("AWS::S3::Bucket", "{NotificationConfiguration: {EventBridgeConfiguration: {}}}", "EventBridgeConfiguration"),
        ("AWS::IAM::Role", "{ManagedPolicyArns: ['arn:aws:iam::aws:policy/AdministratorAccess']}", "isn't known here"),
        (
            "AWS::IAM::Role",
            "{Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: '*', Resource: '*',"
            " Condition: {IpAddress: {aws:SourceIp: x}}}]}}]}",
            "Policies[0].PolicyDocument: condition operator IpAddress",
        ),
        ("AWS::IAM::Role", "{PermissionsBoundary: x}", "PermissionsBoundary isn't honoured"),
        ("AWS::DynamoDB::Table", "{ImportSourceSpecification: {}}", "ImportSourceSpecification isn't honoured"),
        ("AWS::DynamoDB::Table", "{SSESpecification: {KMSMasterKeyId: x}}", "SSESpecification.KMSMasterKeyId isn't"),
        ("AWS::Logs::LogGroup", "{KmsKeyId: x}", "KmsKeyId isn't honoured"),
        ("AWS::Logs::LogGroup", "{LogGroupClass: DELIVERY}", "only 'STANDARD' is honoured"),
        ("AWS::SecretsManager::Secret", "{ReplicaRegions: []}", "ReplicaRegions isn't honoured"),
        ("AWS::Lambda::Permission", "{Action: 'lambda:*'}", "only 'lambda:InvokeFunction'"),
        ("AWS::Events::EventBus", "{Name: x, EventSourceName: y}", "EventSourceName isn't honoured"),
        ("AWS::Lambda::LayerVersion", "{Content: {S3ObjectVersion: x}}", "Content.S3ObjectVersion isn't honoured"),
        ("AWS::Lambda::EventInvokeConfig", "{DestinationConfig: {OnSuccess: {}}}", "DestinationConfig.OnSuccess isn't"),
        ("AWS::SQS::QueuePolicy", "{Queues: [], Other: 1}", "Other isn't honoured"),
        ("AWS::IAM::ManagedPolicy", "{Groups: []}", "Groups isn't honoured"),
        ("AWS::ApiGatewayV2::Api", "{Name: x, Version: y}", "Version isn't honoured"),
        ("AWS::ApiGatewayV2::Stage", "{StageName: prod}", "only '$default' is honoured"),
    ],
)
def test_problems_are_named(tmp_path, kind, properties, problem):
    problems = problems_of(tmp_path, resource(kind, properties))
    assert problem in "; ".join(problems)
    assert all(item.startswith(f"X ({kind})") for item in problems)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (resource("AWS::Lambda::Function", f"{{{PLAIN_FUNCTION}, Runtime: python3.13}}"), "isn't a local folder"),
        (resource("AWS::DynamoDB::Table", "{TableName: x}"), "lacks property AttributeDefinitions"),
        (resource("AWS::SQS::Queue", "{QueueName: 'not allowed!'}"), "X (AWS::SQS::Queue) couldn't be created"),
        (resource("AWS::SQS::Queue", "{}") + "Outputs: {O: {Value: !GetAtt X.Nope}}", "no attribute 'Nope' here"),
        (resource("AWS::Logs::LogGroup", "{RetentionInDays: many}"), "RetentionInDays is 'many', not a whole number"),
        (
            resource("AWS::SecretsManager::Secret", "{GenerateSecretString: {PasswordLength: 3}}"),
            "leaves no password of 3 characters",
        ),
        (
            resource(
                "AWS::Events::Rule", "{EventPattern: {source: [a]}, Targets: [{Id: a, Arn: 'arn:aws:lambda:x:y:z'}]}"
            ),
            "only queues and log groups",
        ),
        (TEMPLATE.replace("IngestArn: !GetAtt IngestFunction.Arn, ", ""), "Training uses IngestArn"),
        (TEMPLATE.replace("      Timeout: 10\n", "      Timeout: 1000\n"), "ApiFunction (AWS::Lambda::Function)"),
        (TEMPLATE.replace("Retries: 3", "Retries: '['"), "definition of Training isn't valid"),
        (
            TEMPLATE.replace("Layers: [!Ref CoreLayer, !Ref BinaryLayer]", "Layers: ['arn:aws:lambda:x:1:layer:y:2']"),
            "aren't of this template",
        ),
    ],
)
def test_a_resource_that_cant_be_created_is_named(tmp_path, endpoint, template, reason):
    with pytest.raises(BadTemplate) as caught:
        deploy_stack(load(tmp_path, template), endpoint=endpoint, api_url=API_URL)
    assert reason in caught.value.reason


def test_what_is_only_recorded_is_listed(tmp_path):
    uses = {(use.logical_id, use.property): use.reason for use in recorded_uses(load(tmp_path))}
    assert "disk" in uses["Catalog", "SSESpecification.SSEEnabled"]
    assert "127.0.0.1" in uses["UploadsPolicy", "PolicyDocument"]
    assert ("Uploads", "LifecycleConfiguration.Rules[2].ExpirationInDays") in uses
    assert ("Uploads", "BucketName") not in uses


def test_every_honoured_property_says_how():
    rows = supported_properties()
    assert len({(row.type, row.property) for row in rows}) == len(rows)
    assert all(row.how for row in rows)
    assert {row.type for row in rows} > {"AWS::S3::Bucket", "AWS::Lambda::Function", "AWS::ApiGatewayV2::Api"}


def test_names_are_short_enough(tmp_path, endpoint):
    name = "AVeryLongName" * 6
    template = f"Resources:\n  {name}: {{Type: AWS::SQS::Queue}}\n  {name}Bucket: {{Type: AWS::S3::Bucket}}\n"
    deployment = deploy_stack(load(tmp_path, template), endpoint=endpoint, api_url=API_URL)
    bucket = deployment.resources[f"{name}Bucket"]
    assert len(bucket) == 63
    assert bucket == bucket.lower()
    assert len(deployment.resources[name].rsplit("/", 1)[-1]) == 80
