"""Reading, checking and expanding SAM templates."""

from __future__ import annotations

import pytest

from shoal.local.intrinsics import BadTemplate
from shoal.local.template import load_stack
from tests.unit.local.deploy.stacks import TEMPLATE, write_project

QUEUE = "  Queue: {Type: AWS::SQS::Queue}\n"


def load(folder, template=TEMPLATE, parameters=None, files=None):
    return load_stack(write_project(folder, template, files), "shoal", parameters or {}, "eu-west-1", "123456789012")


def refusal(folder, template, parameters=None):
    with pytest.raises(BadTemplate) as caught:
        load(folder, template, parameters)
    return caught.value.reason


def test_expands_the_whole_template(tmp_path):
    stack = load(tmp_path)
    types = {resource.type for resource in stack.resources.values()}
    assert not [name for name in types if name.startswith("AWS::Serverless")]
    assert {
        "AWS::Lambda::Function",
        "AWS::ApiGatewayV2::Api",
        "AWS::IAM::Role",
        "AWS::Lambda::EventInvokeConfig",
    } <= types
    assert stack.values["AWS::Region"] == "eu-west-1"
    assert stack.conditions == {"IsProd": False, "IsLocal": False}
    assert "ProdQueue" not in stack.resources
    assert "ProdOnly" not in stack.outputs


def test_resources_come_after_what_they_need(tmp_path):
    stack = load(tmp_path)
    order = list(stack.resources)
    for resource in stack.resources.values():
        assert all(order.index(name) < order.index(resource.logical_id) for name in resource.depends_on)


def test_each_function_layer_and_state_machine_knows_its_source(tmp_path):
    stack = load(tmp_path)
    function = stack.source(stack.resources["IngestFunction"].properties["Code"])
    assert function is not None
    assert function.path == tmp_path / "functions/ingest"
    machine = stack.source(stack.resources["Training"].properties["DefinitionS3Location"])
    assert machine is not None
    assert machine.path.name == "training.asl.yaml"
    layers = [item for item in stack.resources.values() if item.type == "AWS::Lambda::LayerVersion"]
    assert {stack.source(layer.properties["Content"]).build_method for layer in layers} == {"python3.13", "makefile"}
    assert stack.source({"S3Bucket": "real", "S3Key": "IngestFunction"}) is None


def test_parameters_take_part_in_conditions(tmp_path):
    stack = load(tmp_path, parameters={"Stage": "prod", "EndpointUrl": "http://127.0.0.1:1"})
    assert stack.conditions == {"IsProd": True, "IsLocal": True}
    assert "ProdQueue" in stack.resources
    assert "ENDPOINT" in stack.resources["ApiFunction"].properties["Environment"]["Variables"]


@pytest.mark.parametrize(
    ("definition", "given", "reason"),
    [
        ("{Type: String, AllowedValues: [a, b]}", "c", "P is 'c', but AllowedValues are a, b"),
        ("{Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: lower case}", "A", "[a-z]+ (lower case)"),
        ("{Type: String, MinLength: 2}", "a", "MinLength is 2"),
        ("{Type: String, MaxLength: 2}", "abc", "MaxLength is 2"),
        ("{Type: Number, MinValue: 2}", "1", "MinValue is 2"),
        ("{Type: Number, MaxValue: 2}", "3", "MaxValue is 2"),
        ("{Type: Number}", "x", "it isn't a number"),
        ("{Type: List<Number>}", "1,x", "P is 'x', but it isn't a number"),
        ("{Type: String}", None, "P has no default and no value"),
        ("{Type: AWS::SSM::Parameter::Value<String>}", "x", "has type AWS::SSM::Parameter::Value<String>"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, definition, given, reason):
    template = f"Parameters:\n  P: {definition}\nResources:\n{QUEUE}"
    assert reason in refusal(tmp_path, template, {} if given is None else {"P": given})


def test_unknown_parameters_are_named(tmp_path):
    assert "parameter Nope isn't in the template" in refusal(tmp_path, f"Resources:\n{QUEUE}", {"Nope": "1"})


def test_lists_are_split(tmp_path):
    template = f"Parameters:\n  P: {{Type: CommaDelimitedList, Default: 'a, b'}}\nResources:\n{QUEUE}"
    assert load(tmp_path, template).values["P"] == ["a", "b"]


def test_circular_dependencies_name_the_cycle(tmp_path):
    template = """
Resources:
  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref B}}
  B: {Type: AWS::SQS::Queue, DependsOn: C}
  C: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub "${A.Arn}"}}
"""
    reason = refusal(tmp_path, template)
    assert "Circular dependency" in reason
    assert "A -> B -> C -> A" in reason or "B -> C -> A -> B" in reason or "C -> A -> B -> C" in reason


def test_the_classic_circle_of_bucket_and_function_is_refused(tmp_path):
    circular = TEMPLATE.replace(
        'S3ReadPolicy: {BucketName: !Sub "${AWS::StackName}-uploads-${AWS::AccountId}"}',
        "S3ReadPolicy: {BucketName: !Ref Uploads}",
    )
    reason = refusal(tmp_path, circular)
    assert "Circular dependency" in reason
    assert "Uploads" in reason
    assert "IngestFunctionRole" in reason


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("Resources: {}", "has no Resources"),
        ("- a", "has no Resources"),
        ("Resources: {A: [}", "isn't valid YAML"),
        (f"Resources:\n{QUEUE}{QUEUE}", "key 'Queue' appears twice"),
        ("Resources: {A: {Properties: {}}}", "Resource A has no Type"),
        ("Resources: {a-b: {Type: AWS::SQS::Queue}}", "'a-b'"),
        (f"Rules: {{}}\nResources:\n{QUEUE}", "Rules"),
        (f"Transform: AWS::Include\nResources:\n{QUEUE}", "AWS::Include"),
        ("Resources: {A: {Type: AWS::SQS::Queue, DependsOn: B}}", "A depends on 'B'"),
        ("Resources: {A: {Type: AWS::SQS::Queue, Condition: Nope}}", "condition 'Nope'"),
        ("Resources: {A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref B}}}", "A refers to 'B'"),
        (
            "Resources: {A: {Type: AWS::SQS::Queue, CreationPolicy: {}}}",
            "A (AWS::SQS::Queue): attribute CreationPolicy",
        ),
    ],
)
def test_wrong_templates_are_refused(tmp_path, template, reason):
    assert reason in refusal(tmp_path, template)


def test_what_sam_refuses_is_told(tmp_path):
    template = TEMPLATE.replace(
        "      Handler: app.handler\n      EventInvokeConfig", "      Nonsense: 1\n      EventInvokeConfig"
    )
    reason = refusal(tmp_path, template)
    assert "SAM refuses" in reason
    assert "Nonsense" in reason


def test_missing_sources_are_named(tmp_path):
    reason = refusal(tmp_path, TEMPLATE.replace("functions/ingest", "functions/gone"))
    assert "IngestFunction.CodeUri is functions/gone" in reason


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(BadTemplate, match="doesn't exist"):
        load_stack(tmp_path / "none.yaml", "shoal", {}, "us-east-1", "123456789012")


def test_a_dependency_on_a_resource_left_out_is_ignored(tmp_path):
    template = """
Parameters: {Stage: {Type: String, Default: dev}}
Conditions: {IsProd: !Equals [!Ref Stage, prod]}
Resources:
  A: {Type: AWS::SQS::Queue, Condition: IsProd}
  B: {Type: AWS::SQS::Queue, DependsOn: [A]}
"""
    assert list(load(tmp_path, template).resources) == ["B"]


def test_code_uri_of_globals_is_each_functions_own(tmp_path):
    template = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: functions/api, Runtime: python3.13, Handler: app.handler}}
Resources:
  One: {Type: AWS::Serverless::Function, Properties: {}}
"""
    stack = load(tmp_path, template)
    assert stack.source(stack.resources["One"].properties["Code"]).path == tmp_path / "functions/api"
