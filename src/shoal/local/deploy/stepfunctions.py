"""Step Functions: state machines, which moto's interpreter executes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from shoal.local.deploy.deployment import StateMachine
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, recorded, tag_map
from shoal.local.deploy.sdk_tasks import spelt_for_interpreter
from shoal.local.deploy.state_machines import check_definition, has_distributed_map
from shoal.local.intrinsics import BadTemplate
from shoal.local.permissions import evaluate
from shoal.local.template import Resource

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_.:]+)\}")


def _create_state_machine(context: Context, resource: Resource) -> Created:
    properties, client = resource.properties, context.client("stepfunctions")
    name = context.name(resource, "StateMachineName", 80)
    definition = read_definition(_definition_text(context, resource), resource.logical_id, _substitutions(properties))
    arguments: dict[str, Any] = {
        "definition": json.dumps(definition | {"States": spelt_for_interpreter(definition["States"])}, sort_keys=False),
        "roleArn": properties["RoleArn"],
        "loggingConfiguration": _logging(properties.get("LoggingConfiguration", {})),
        "tracingConfiguration": {"enabled": flag(properties.get("TracingConfiguration", {}).get("Enabled", False))},
    }
    arn = context.arn("states", f"stateMachine:{name}")
    check_definition(definition, resource.logical_id)
    _check_role(context, resource, definition, arn)
    tags = [{"key": key, "value": value} for key, value in tag_map(properties.get("Tags")).items()]
    existing = [
        item["name"]
        for page in client.get_paginator("list_state_machines").paginate()
        for item in page["stateMachines"]
    ]
    if name in existing:
        client.update_state_machine(stateMachineArn=arn, **arguments)
    else:
        arn = client.create_state_machine(name=name, type="STANDARD", tags=tags, **arguments)["stateMachineArn"]
    context.deployment.state_machines[resource.logical_id] = StateMachine(
        name, arn, definition, str(properties["RoleArn"]), arguments["loggingConfiguration"]
    )
    return Created(arn, {"Arn": arn, "Name": name})


def _check_role(context: Context, resource: Resource, definition: Mapping[str, Any], arn: str) -> None:
    """Whether the role may start a Distributed Map's children, which moto runs without asking."""
    role = context.deployment.roles.get(str(resource.properties["RoleArn"]))
    if role is None or not has_distributed_map(definition):
        return
    execution = f"{arn.replace(':stateMachine:', ':execution:')}:child"
    wanted = {"StartExecution": arn, "DescribeExecution": execution, "StopExecution": execution}
    lacking = [
        f"states:{action} on {target}"
        for action, target in wanted.items()
        if evaluate(role.documents.values(), f"states:{action}", target, {}) != "allow"
    ]
    if lacking:
        raise BadTemplate(
            f"{resource.logical_id} has a Distributed Map, whose children AWS starts with the role of the state "
            f"machine; {role.name} lacks {', '.join(lacking)}.",
            "Add it to the state machine's Policies.",
        )


def _definition_text(context: Context, resource: Resource) -> str:
    properties = resource.properties
    if "DefinitionString" in properties:
        return str(properties["DefinitionString"])
    if "Definition" in properties:
        return json.dumps(properties["Definition"])
    source = context.stack.source(properties["DefinitionS3Location"])
    if source is None:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): its definition isn't a local file.", "Give DefinitionUri a path."
        )
    return source.path.read_text(encoding="utf-8")


def _substitutions(properties: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in properties.get("DefinitionSubstitutions", {}).items()
    }


def read_definition(text: str, logical_id: str, substitutions: Mapping[str, str]) -> dict[str, Any]:
    """Amazon States Language, YAML or JSON, with every `${Name}` replaced in the text, as CloudFormation does.

    Raises:
        BadTemplate: A name without a value, or text that isn't a definition.
    """
    missing = sorted({name for name in _VARIABLE.findall(text) if name not in substitutions})
    if missing:
        raise BadTemplate(
            f"The definition of {logical_id} uses {', '.join(missing)}, which DefinitionSubstitutions doesn't give.",
            "Add them to DefinitionSubstitutions.",
        )
    try:
        definition = yaml.safe_load(_VARIABLE.sub(lambda match: substitutions[match.group(1)], text))
    except yaml.YAMLError as error:
        raise BadTemplate(f"The definition of {logical_id} isn't valid YAML or JSON: {error}", "Correct it.") from error
    if not isinstance(definition, dict) or "StartAt" not in definition or "States" not in definition:
        raise BadTemplate(f"The definition of {logical_id} has no StartAt and States.", "Write a state machine.")
    return definition


def _logging(given: Mapping[str, Any]) -> dict[str, Any]:
    """From CloudFormation's form to the API's."""
    if not given:
        return {"level": "OFF", "includeExecutionData": False, "destinations": []}
    return {
        "level": given.get("Level", "OFF"),
        "includeExecutionData": flag(given.get("IncludeExecutionData", False)),
        "destinations": [
            {"cloudWatchLogsLogGroup": {"logGroupArn": item["CloudWatchLogsLogGroup"]["LogGroupArn"]}}
            for item in given.get("Destinations", [])
        ],
    }


def _check(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not {"DefinitionS3Location", "DefinitionString", "Definition"} & set(properties):
        yield "Definition", "is missing; give DefinitionUri"


STATE_MACHINE = ResourceType(
    "AWS::StepFunctions::StateMachine",
    {
        "StateMachineName": Property("name of the state machine; by default the stack's name and the logical id"),
        "StateMachineType": Property("create_state_machine", only=("STANDARD",)),
        "Definition": Property("create_state_machine"),
        "DefinitionString": Property("create_state_machine"),
        "DefinitionS3Location.Bucket": Property("DefinitionUri: the local file is the definition"),
        "DefinitionS3Location.Key": Property("DefinitionUri: the local file is the definition"),
        "DefinitionSubstitutions.*": Property("replaced in the definition's text; a name without a value is an error"),
        "RoleArn": Property("the middleware checks the role's policies on the interpreter's calls"),
        "LoggingConfiguration.Level": recorded("shown by the API; `shoal logs` reads the functions' logs"),
        "LoggingConfiguration.IncludeExecutionData": recorded("shown by the API; as Level"),
        "LoggingConfiguration.Destinations[].CloudWatchLogsLogGroup.LogGroupArn": recorded(
            "shown by the API; as Level"
        ),
        "TracingConfiguration.Enabled": recorded("shown by the API; there is no X-Ray on this machine"),
        "Tags": Property("create_state_machine"),
    },
    _create_state_machine,
    _check,
)

TYPES = (STATE_MACHINE,)
