"""Lambda: functions and layers become `FunctionSpec`s for our workers; nothing of it lives in moto."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shoal.local.compute.errors import BadFunction
from shoal.local.compute.spec import FunctionSpec, check_spec
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, number, recorded
from shoal.local.intrinsics import BadTemplate, intrinsic
from shoal.local.permissions import credentials_for
from shoal.local.template import Resource, Source

_ONLY_VERSION = "1"
_INTERPRETER = "workers run on the Python and the processor of this machine"


def _create_function(context: Context, resource: Resource) -> Created:
    properties = resource.properties
    name = context.name(resource, "FunctionName", 64)
    arn = context.arn("lambda", f"function:{name}")
    layers = [str(layer) for layer in properties.get("Layers", [])]
    unknown = [layer for layer in layers if layer not in context.layer_paths]
    if unknown:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): layers {unknown} aren't of this template.",
            "Add them as AWS::Serverless::LayerVersion with a ContentUri.",
        )
    variables = properties.get("Environment", {}).get("Variables", {})
    role_arn = str(properties["Role"])
    spec = FunctionSpec(
        name=name,
        arn=arn,
        handler=str(properties["Handler"]),
        code=_source(context, resource, properties["Code"]).path,
        python_path=tuple(path for path in (context.layer_paths[layer] for layer in layers) if path is not None),
        environment={key: _variable(value) for key, value in variables.items()},
        memory_mb=number(resource, "MemorySize") or 128,
        timeout_s=number(resource, "Timeout") or 3,
        ephemeral_mb=number(resource, "EphemeralStorage.Size") or 512,
        reserved_concurrency=number(resource, "ReservedConcurrentExecutions"),
        role_arn=role_arn,
        credentials=credentials_for(role_arn),
        log_group=str(properties.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}")),
        tracing=properties.get("TracingConfig", {}).get("Mode") == "Active",
    )
    try:
        check_spec(spec)
    except BadFunction as error:
        raise BadTemplate(f"{resource.logical_id} ({resource.type}): {error.reason}", error.fix) from error
    context.deployment.functions.append(spec)
    return Created(name, {"Arn": arn})


def _variable(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _source(context: Context, resource: Resource, location: Mapping[str, Any]) -> Source:
    source = context.stack.source(location)
    if source is None:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): its code isn't a local folder.", "Give the folder of the code."
        )
    return source


def _create_layer(context: Context, resource: Resource) -> Created:
    name = str(resource.properties.get("LayerName", f"{context.stack.name}-{resource.logical_id}"))
    arn = context.arn("lambda", f"layer:{name}:1")
    context.layer_paths[arn] = layer_import_path(_source(context, resource, resource.properties["Content"]))
    return Created(arn, {"LayerVersionArn": arn})


def layer_import_path(source: Source) -> Path | None:
    """The folder that a layer adds to a worker's import path.

    A layer that is built by a Makefile holds third-party packages, which the environment that runs the cloud has
    installed; so has one without Python packages in its folder (only a requirements.txt).
    """
    if source.build_method == "makefile":
        return None
    for folder in (source.path, source.path / "python"):
        if folder.is_dir() and any((item / "__init__.py").is_file() for item in sorted(folder.iterdir())):
            return folder
    return None


def _create_permission(context: Context, resource: Resource) -> Created:
    return Created(f"{context.stack.name}-{resource.logical_id}")


def _create_version(context: Context, resource: Resource) -> Created:
    arn = context.arn("lambda", f"function:{resource.properties['FunctionName']}:{_ONLY_VERSION}")
    return Created(arn, {"Version": _ONLY_VERSION, "FunctionArn": arn})


def _create_alias(context: Context, resource: Resource) -> Created:
    arn = context.arn("lambda", f"function:{resource.properties['FunctionName']}:{resource.properties['Name']}")
    return Created(arn, {"AliasArn": arn})


def _create_event_invoke_config(context: Context, resource: Resource) -> Created:
    properties, functions = resource.properties, context.deployment.functions
    name = str(properties["FunctionName"]).rpartition(":")[2]
    position = next((index for index, spec in enumerate(functions) if spec.name == name), None)
    if position is None:
        raise BadTemplate(f"{resource.logical_id} ({resource.type}): function {name!r} isn't of this template.")
    destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    if destination is not None and not str(destination).startswith("arn:aws:sqs:"):
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): property DestinationConfig.OnFailure.Destination is "
            f"{destination!r}, but only a queue is honoured.",
            "Give the ARN of an AWS::SQS::Queue.",
        )
    retries = number(resource, "MaximumRetryAttempts", 2)
    functions[position] = dataclasses.replace(
        functions[position],
        max_retry_attempts=2 if retries is None else retries,
        max_event_age_s=number(resource, "MaximumEventAgeInSeconds") or 21_600,
        on_failure=destination,
    )
    check_spec(functions[position])
    return Created(f"{context.stack.name}-{resource.logical_id}")


def _check_function(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    runtime = properties.get("Runtime")
    if intrinsic(runtime) is None and not str(runtime).startswith("python3."):
        yield "Runtime", f"is {runtime!r}, but only python3.x runs here"
    if "ZipFile" not in properties.get("Code", {}) and not properties.get("Code"):
        yield "Code", "is missing; give CodeUri"


FUNCTION = ResourceType(
    "AWS::Lambda::Function",
    {
        "FunctionName": Property("name of the function; by default the stack's name and the logical id"),
        "Code.S3Bucket": Property("CodeUri: the worker's working folder"),
        "Code.S3Key": Property("CodeUri: the worker's working folder"),
        "Handler": Property("the worker's handler"),
        "Role": Property("the worker's keys; the middleware checks the role's policies"),
        "Runtime": recorded(f"accepted for python3.x; {_INTERPRETER}"),
        "Architectures": recorded(f"accepted; {_INTERPRETER}"),
        "PackageType": Property("folders run as they are", only=("Zip",)),
        "Description": recorded("accepted; it has no effect on AWS either"),
        "MemorySize": Property("the worker is killed when it holds more"),
        "Timeout": Property("the worker is killed when it takes longer"),
        "EphemeralStorage.Size": Property("bounds what a worker leaves in its temporary folder"),
        "Environment.Variables.*": Property("the worker's environment, at most 4 KB"),
        "Layers": Property("folders with Python packages are on the worker's import path, in their order"),
        "ReservedConcurrentExecutions": Property("bounds the function's workers"),
        "SnapStart.ApplyOn": Property("nothing is snapshotted here", only=("None",)),
        "TracingConfig.Mode": Property(
            "Active: one invocation a second is sampled, and 5 % of the others", only=("Active", "PassThrough")
        ),
        "LoggingConfig.LogGroup": Property("the log group of the function"),
        "Tags": recorded("accepted; nothing here reads them"),
    },
    _create_function,
    _check_function,
)

LAYER = ResourceType(
    "AWS::Lambda::LayerVersion",
    {
        "LayerName": Property("name of the layer"),
        "Content.S3Bucket": Property("ContentUri: folder on the import path of the workers"),
        "Content.S3Key": Property("ContentUri: folder on the import path of the workers"),
        "CompatibleRuntimes": recorded(f"accepted; {_INTERPRETER}"),
        "CompatibleArchitectures": recorded(f"accepted; {_INTERPRETER}"),
        "Description": recorded("accepted; it has no effect on AWS either"),
        "LicenseInfo": recorded("accepted; it has no effect on AWS either"),
    },
    _create_layer,
)

VERSION = ResourceType(
    "AWS::Lambda::Version",
    {
        "FunctionName": Property("the function; its code as it is now is the only version here"),
        "Description": recorded("accepted; it has no effect on AWS either"),
    },
    _create_version,
)

ALIAS = ResourceType(
    "AWS::Lambda::Alias",
    {
        "Name": Property("what the gateway and invocations may call the function by"),
        "FunctionName": Property("the function"),
        "FunctionVersion": Property("the function's only version"),
        "Description": recorded("accepted; it has no effect on AWS either"),
    },
    _create_alias,
)

PERMISSION = ResourceType(
    "AWS::Lambda::Permission",
    {
        "Action": Property("accepted for what SAM makes of an event", only=("lambda:InvokeFunction",)),
        "FunctionName": recorded("the event that it permits is wired by the deployment itself"),
        "Principal": recorded("the event that it permits is wired by the deployment itself"),
        "SourceArn": recorded("the event that it permits is wired by the deployment itself"),
        "SourceAccount": recorded("there is one account"),
    },
    _create_permission,
)

EVENT_INVOKE_CONFIG = ResourceType(
    "AWS::Lambda::EventInvokeConfig",
    {
        "FunctionName": Property("the function"),
        "Qualifier": Property("the function's only version", only=("$LATEST",)),
        "MaximumRetryAttempts": Property("retries of a failed asynchronous invocation"),
        "MaximumEventAgeInSeconds": Property("how old an asynchronous event may get"),
        "DestinationConfig.OnFailure.Destination": Property("failed events go to that SQS queue"),
    },
    _create_event_invoke_config,
)

TYPES = (FUNCTION, LAYER, VERSION, ALIAS, PERMISSION, EVENT_INVOKE_CONFIG)
