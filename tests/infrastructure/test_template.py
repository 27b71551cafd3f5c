"""What template.yaml, samconfig.toml and the state machines promise, read from the expanded stack."""

from __future__ import annotations

import copy
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from shoal.local.deploy.stack import check_stack
from shoal.local.intrinsics import references as all_references
from shoal.local.template import Stack, load_stack, read_template
from tests.support.lint_state_machines import problems, states

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
STATE_MACHINES = sorted((ROOT / "statemachines").glob("*.asl.yaml"))
MAX_LINES = 1000
ARCHITECTURES = ("x86_64", "arm64")
# What these policies of AWS allow can't be narrowed to a resource: X-Ray has none.
# Actions that know no resources.
WITHOUT_RESOURCE = {"cloudwatch:GetMetricData", "cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}
XRAY_POLICIES = re.compile(r":policy/(service-role/)?AWSXRay", re.IGNORECASE)


@cache
def stack(architecture: str = "x86_64") -> Stack:
    return load_stack(TEMPLATE, "shoal", {"Architecture": architecture}, "eu-central-1", "123456789012")


@cache
def template() -> dict:
    return read_template(TEMPLATE)


def resources(kind: str) -> dict[str, dict]:
    return {name: found.properties for name, found in stack().resources.items() if found.type == kind}


def ids(kind: str) -> list[str]:
    return list(resources(kind))


def statements(document: dict) -> list[dict]:
    found = document["Statement"]
    return found if isinstance(found, list) else [found]


def references(value) -> set[str]:
    return set(all_references(value))


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("output", ["stream", "s3", "both"])
def test_streams_are_there_only_when_they_are_asked_for(output):
    """A stream costs money while nothing flows; a queue doesn't."""
    assert not resources("AWS::Kinesis::Stream")
    assert [references(found["EventSourceArn"]) for found in resources("AWS::Lambda::EventSourceMapping").values()] == [
        {"RequestsQueue"}
    ]
    asked = load_stack(TEMPLATE, "shoal", {"Streaming": "on", "StreamOutput": output}, "eu-central-1", "123456789012")
    check_stack(asked)
    streams = {name for name, found in asked.resources.items() if found.type == "AWS::Kinesis::Stream"}
    assert streams == {"RequestsStream"} | (set() if output == "s3" else {"PredictionsStream"})
    mapping = asked.resources["RequestsStreamMapping"].properties
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["ParallelizationFactor"] == 1  # one ledger a shard
    assert references(mapping["DestinationConfig"]["OnFailure"]["Destination"]) == {"DeadLetterQueue"}
    for name in streams:
        assert asked.resources[name].properties["StreamEncryption"]["EncryptionType"] == "KMS"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_expands_for_both_architectures_and_the_embedded_cloud_honours_all_of_it(architecture):
    found = stack(architecture)
    check_stack(found)
    functions = [item for item in found.resources.values() if item.type == "AWS::Lambda::Function"]
    assert len(functions) == len(FUNCTIONS)
    parameter = template()["Parameters"]["Architecture"]
    assert parameter["AllowedValues"] == list(ARCHITECTURES)
    assert found.values["Architecture"] == architecture
    for function in functions:
        assert references(function.properties["Architectures"]) == {"Architecture"}


def test_it_stays_short():
    assert len(TEMPLATE.read_text(encoding="utf-8").splitlines()) < MAX_LINES


@pytest.mark.parametrize("name", ids("AWS::S3::Bucket"))
def test_a_bucket_is_encrypted_versioned_private_and_kept(name):
    bucket = resources("AWS::S3::Bucket")[name]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms")
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert bucket["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert template()["Resources"][name]["DeletionPolicy"] == "Retain"
    assert template()["Resources"][name]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", ids("AWS::S3::Bucket"))
def test_a_bucket_lets_go_of_unfinished_uploads_and_old_versions(name):
    rules = resources("AWS::S3::Bucket")[name]["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    assert any("NoncurrentVersionExpiration" in rule for rule in rules)


def test_every_bucket_refuses_requests_without_tls():
    policies = resources("AWS::S3::BucketPolicy").values()
    covered = set()
    for policy in policies:
        for statement in statements(policy["PolicyDocument"]):
            tls = statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            everyone = statement["Principal"] == "*" and statement["Action"] == "s3:*" and statement["Effect"] == "Deny"
            if tls and everyone and len(statement["Resource"]) == 2:
                covered |= references(policy["Bucket"])
    assert covered == set(ids("AWS::S3::Bucket"))


def test_only_the_uploads_bucket_starts_anything_and_each_prefix_one_function():
    notified = {
        name: bucket["NotificationConfiguration"]
        for name, bucket in resources("AWS::S3::Bucket").items()
        if "NotificationConfiguration" in bucket
    }
    assert list(notified) == ["UploadsBucket"]
    started = {
        rule["Value"]: references(configuration["Function"])
        for configuration in notified["UploadsBucket"]["LambdaConfigurations"]
        for rule in configuration["Filter"]["S3Key"]["Rules"]
        if rule["Name"] == "prefix"
    }
    assert started == {
        "datasets/": {"IngestUploadFunction"},
        "batch/": {"IngestUploadFunction"},
        "models/": {"ImportModelFunction"},
    }


def test_the_catalog_is_on_demand_recoverable_encrypted_and_forgets_what_expires():
    (table,) = resources("AWS::DynamoDB::Table").values()
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert template()["Resources"]["CatalogTable"]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("name", ids("AWS::Lambda::Function"))
def test_a_function_has_its_own_log_group_with_retention(name):
    function = resources("AWS::Lambda::Function")[name]
    groups = {str(group["LogGroupName"]): group for group in resources("AWS::Logs::LogGroup").values()}
    expected = {"Fn::Sub": f"/aws/lambda/{function['FunctionName']['Fn::Sub']}"}
    assert str(expected) in groups
    assert groups[str(expected)]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert name.replace("Function", "Logs") in stack().resources[name].depends_on


def test_every_log_group_has_a_retention():
    assert all("RetentionInDays" in group for group in resources("AWS::Logs::LogGroup").values())


def test_every_function_has_a_role_of_its_own():
    roles = [references(function["Role"]) for function in resources("AWS::Lambda::Function").values()]
    assert all(len(role) == 1 for role in roles)
    assert len(set().union(*roles)) == len(roles) == len(FUNCTIONS)


def test_the_runtime_is_one_python():
    assert {function["Runtime"] for function in resources("AWS::Lambda::Function").values()} == {"python3.13"}
    layers = resources("AWS::Lambda::LayerVersion").values()
    assert [layer["CompatibleRuntimes"] for layer in layers] == [["python3.13"]] * 6
    assert all(len(function["Layers"]) <= 5 for function in resources("AWS::Lambda::Function").values())


def our_statements() -> list[tuple[str, dict]]:
    """Every statement of the template's own policies, inline and shared, with the resource that holds it."""
    inline = [
        (name, policy["PolicyDocument"])
        for name, role in resources("AWS::IAM::Role").items()
        for policy in role.get("Policies", [])
    ]
    shared = [(name, policy["PolicyDocument"]) for name, policy in resources("AWS::IAM::ManagedPolicy").items()]
    assert inline and shared
    return [(name, statement) for name, document in [*inline, *shared] for statement in statements(document)]


def test_no_policy_of_ours_is_for_every_resource():
    wide = [
        f"{name}: {statement}"
        for name, statement in our_statements()
        if "*" in as_list(statement["Resource"])
        and not _is_xray(statement)
        and statement["Action"] not in WITHOUT_RESOURCE
    ]
    assert not wide


def _is_xray(statement: dict) -> bool:
    return all(str(action).startswith("xray:") for action in as_list(statement["Action"]))


def test_no_policy_allows_every_action_of_a_service():
    allowed = [statement for _, statement in our_statements() if statement["Effect"] == "Allow"]
    actions = [str(action) for statement in allowed for action in as_list(statement["Action"])]
    assert actions
    assert not [action for action in actions if action.endswith(":*") or action == "*"]


def test_sam_adds_only_logging_and_tracing():
    ours = set(resources("AWS::IAM::ManagedPolicy"))
    managed = {str(arn) for role in resources("AWS::IAM::Role").values() for arn in role.get("ManagedPolicyArns", [])}
    added = {arn for arn in managed if not any(name in arn for name in ours)}
    assert added
    # SAM attaches the VPC policy to every function that may be in one, whatever the parameter says.
    ours_to_expect = ("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole")
    assert all(any(name in arn for name in ours_to_expect) or XRAY_POLICIES.search(arn) for arn in added)


def test_queues_are_encrypted_and_keep_messages_as_long_as_possible():
    queues = resources("AWS::SQS::Queue").values()
    assert queues
    assert all(queue["SqsManagedSseEnabled"] is True for queue in queues)
    assert all(queue["MessageRetentionPeriod"] == 14 * 24 * 3600 for queue in queues)


def test_an_upload_event_that_failed_for_good_goes_to_a_queue():
    configured = list(resources("AWS::Lambda::EventInvokeConfig").values())
    functions = set().union(*(references(invoke["FunctionName"]) for invoke in configured))
    assert functions == {"IngestUploadFunction", "ImportModelFunction"}
    for invoke in configured:
        assert references(invoke["DestinationConfig"]["OnFailure"]["Destination"]) == {"FailedEventsQueue"}


def test_every_route_but_health_and_its_description_asks_for_the_token():
    (api,) = resources("AWS::ApiGatewayV2::Api").values()
    open_routes = {
        path
        for path, methods in api["Body"]["paths"].items()
        for operation in methods.values()
        if operation.get("security", [{}]) in ([], [{"NONE": []}])
    }
    assert open_routes == {"/healthz", "/openapi.json"}


def test_the_token_is_made_at_deploy_time_and_never_written_down():
    (secret,) = resources("AWS::SecretsManager::Secret").values()
    assert "SecretString" not in secret
    assert secret["GenerateSecretString"]["PasswordLength"] >= 32


@pytest.mark.parametrize("path", STATE_MACHINES, ids=lambda path: path.stem)
def test_every_substitution_of_a_state_machine_is_given_and_used(path):
    used = set(re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")))
    (machine,) = [
        properties
        for properties in (resource.get("Properties", {}) for resource in template()["Resources"].values())
        if properties.get("DefinitionUri") == path.relative_to(ROOT).as_posix()
    ]
    assert set(machine["DefinitionSubstitutions"]) == used


@pytest.mark.parametrize("path", STATE_MACHINES, ids=lambda path: path.stem)
def test_a_state_machine_may_invoke_exactly_the_functions_that_it_names(path):
    tasks = {
        state["Resource"].strip("${}")
        for _, state in states(yaml.safe_load(path.read_text(encoding="utf-8")))
        if state["Type"] == "Task" and state["Resource"].startswith("${")
    }
    machines = resources("AWS::StepFunctions::StateMachine").values()
    (machine,) = (found for found in machines if tasks <= set(found["DefinitionSubstitutions"]))
    substitutions = machine["DefinitionSubstitutions"]
    (role_id,) = references(machine["RoleArn"])
    allowed = {
        frozenset(references(resource))
        for policy in resources("AWS::IAM::Role")[role_id]["Policies"]
        for statement in statements(policy["PolicyDocument"])
        if as_list(statement["Action"]) == ["lambda:InvokeFunction"]
        for resource in as_list(statement["Resource"])
    }
    assert tasks
    assert allowed == {frozenset(references(substitutions[name])) for name in tasks}


@pytest.mark.parametrize("path", STATE_MACHINES, ids=lambda path: path.stem)
def test_a_task_may_take_longer_than_its_function(path):
    functions = resources("AWS::Lambda::Function")
    for name, state in states(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if state["Type"] == "Task" and state["Resource"].startswith("${"):
            function = state["Resource"].strip("${}").removesuffix("Arn")
            assert state["TimeoutSeconds"] > functions[function]["Timeout"], name


@pytest.mark.parametrize("path", STATE_MACHINES, ids=lambda path: path.stem)
def test_a_state_machine_has_no_problem(path):
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def _without(key: str):
    def plant(definition):
        del definition["States"]["Plan Shards"][key]

    return plant


def _no_jitter(definition):
    del definition["States"]["Write Shards"]["ItemProcessor"]["States"]["Write Shard"]["Retry"][0]["JitterStrategy"]


def _uncaught_map(definition):
    del definition["States"]["Train Shards"]["Catch"]


def _uncaught_item(definition):
    del definition["States"]["Pack Shards"]["ItemProcessor"]["States"]["Pack Shard"]["Catch"]


def _large_result(definition):
    del definition["States"]["Write Shards"]["ItemProcessor"]["States"]["Write Shard"]["ResultSelector"]


def _lost_failure(definition):
    definition["States"]["Write Shards"]["Next"] = "Assign Samples"


def _nowhere(definition):
    definition["States"]["Merge Round"]["Next"] = "Somewhere Else"


def _unknown_field(definition):
    definition["States"]["Is Training Finished"]["Choices"][0]["BooleanEqual"] = True
    del definition["States"]["Is Training Finished"]["Choices"][0]["BooleanEquals"]


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (_without("TimeoutSeconds"), "Plan Shards"),
        (_without("Retry"), "Plan Shards"),
        (_without("Catch"), "Plan Shards"),
        (_no_jitter, "Write Shard"),
        (_uncaught_map, "Train Shards"),
        (_uncaught_item, "Pack Shard: an item's failure"),
        (_large_result, "Write Shard: an item's result"),
        (_lost_failure, "Write Shards: the state after"),
        (_nowhere, "Somewhere Else"),
        (_unknown_field, "Choices"),
    ],
)
def test_the_lint_finds_what_is_planted(plant, name):
    definition = yaml.safe_load((ROOT / "statemachines/training.asl.yaml").read_text(encoding="utf-8"))
    planted = copy.deepcopy(definition)
    plant(planted)
    assert any(name in problem for problem in problems(planted))


@pytest.mark.parametrize("environment", ["default", "staging", "prod"])
def test_samconfig_has_the_environment_with_a_stack_of_its_own(environment):
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    assert set(config) == {"version", "default", "staging", "prod"}
    names = [config[name]["global"]["parameters"]["stack_name"] for name in ("default", "staging", "prod")]
    assert len(set(names)) == 3
    overrides = dict(
        entry.split("=", 1) for entry in config[environment]["deploy"]["parameters"]["parameter_overrides"]
    )
    parameters = template()["Parameters"]
    assert set(overrides) <= set(parameters)
    assert overrides["Architecture"] in parameters["Architecture"]["AllowedValues"]
    assert int(overrides["LogRetentionDays"]) in parameters["LogRetentionDays"]["AllowedValues"]
