"""Reads a SAM template: checks its parameters, expands it offline, decides its conditions, orders its resources.

Local folders (`CodeUri`, `ContentUri`, `DefinitionUri`) are what SAM would upload. They're kept aside by logical id,
and the expanded template holds a placeholder location instead, which `Stack.source` turns back into the folder.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from samtranslator.metrics.metrics import DummyMetricsPublisher, Metrics
from samtranslator.model.exceptions import ExceptionWithMessage, InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from shoal.local.deploy.managed_policies import MANAGED_POLICIES
from shoal.local.intrinsics import BadTemplate, Scope, choose, evaluate_conditions, is_no_value, references
from shoal.local.template_parameters import parameter_values, pseudo_parameters

PLACEHOLDER_BUCKET = "shoal-local-sources"
_SECTIONS = frozenset(
    [
        "AWSTemplateFormatVersion",
        "Description",
        "Metadata",
        "Parameters",
        "Mappings",
        "Conditions",
        "Transform",
        "Globals",
        "Resources",
        "Outputs",
    ]
)
_SOURCE_PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
# What a resource may say beside its properties. Policies for deletion and update are about real stacks: a laptop's
# stack is created anew each time and its data outlives it, so they're accepted as they stand.
_RESOURCE_KEYS = frozenset(
    {"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy"}
)


@dataclass(frozen=True)
class Source:
    """A local folder or file that a resource names.

    Attributes:
        path: Absolute path.
        build_method: `Metadata.BuildMethod`, such as `python3.13` or `makefile`; empty when not given.
    """

    path: Path
    build_method: str = ""


@dataclass(frozen=True)
class Resource:
    """One CloudFormation resource after SAM's expansion, conditions decided.

    Attributes:
        logical_id: Name in the template.
        type: Such as `AWS::S3::Bucket`.
        properties: With intrinsic functions not yet resolved (`Fn::If` is already decided).
        depends_on: Logical ids that must exist first, by `DependsOn` or by reference.
    """

    logical_id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stack:
    """A template ready to deploy.

    Attributes:
        name: Name of the stack.
        region: Region that ARNs say.
        account: Account that ARNs say.
        root: Folder of the template.
        values: Parameters and pseudo parameters by name.
        mappings: The template's `Mappings`.
        conditions: Truth of each condition.
        resources: In the order to create them.
        outputs: Output values, not yet resolved.
        sources: Local folders and files by the logical id of the template.
    """

    name: str
    region: str
    account: str
    root: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)

    def source(self, location: Mapping[str, Any]) -> Source | None:
        """The local source behind an expanded S3 location; None for a real location in S3."""
        bucket = location.get("S3Bucket", location.get("Bucket"))
        key = location.get("S3Key", location.get("Key"))
        return self.sources.get(str(key)) if bucket == PLACEHOLDER_BUCKET else None


def load_stack(template_path: Path, stack_name: str, parameters: Mapping[str, str], region: str, account: str) -> Stack:
    """Read, check, expand and order a SAM template. Touches no network.

    Args:
        template_path: A YAML (or JSON) template, with or without the SAM transform.
        stack_name: Name of the stack, the prefix of every name that the template leaves open.
        parameters: Values by parameter name; the rest take their defaults.
        region: Such as `us-east-1`.
        account: Twelve digits.

    Raises:
        BadTemplate: Anything CloudFormation or SAM would refuse too, with the name of the part that is wrong.
    """
    template_path = Path(template_path).resolve()
    template = read_template(template_path)
    values: dict[str, Any] = {
        **pseudo_parameters(stack_name, region, account),
        **parameter_values(template.get("Parameters") or {}, parameters),
    }
    mappings = template.get("Mappings") or {}
    conditions = evaluate_conditions(template.get("Conditions") or {}, Scope(values, mappings))
    sources = _take_sources(template, template_path.parent)
    expanded = _expand(template, values, region)
    resources = _chosen_resources(expanded["Resources"], conditions)
    _check_references(resources, values)
    return Stack(
        name=stack_name,
        region=region,
        account=account,
        root=template_path.parent,
        values=values,
        mappings=mappings,
        conditions=conditions,
        resources=_ordered(resources),
        outputs=_chosen_outputs(expanded.get("Outputs") or {}, conditions),
        sources=sources,
    )


if TYPE_CHECKING:
    from yaml import SafeLoader as _SafeLoader
else:
    # The C parser reads template.yaml in a tenth of the time; not every platform's wheel has it.
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TemplateLoader(_SafeLoader):
    """YAML as CloudFormation reads it: short tags, dates stay strings, a key appears once."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _short_tag(loader: _TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _short_tag)


def read_template(path: Path) -> dict[str, Any]:
    """A template file as plain values, short tags written out (`!Ref X` is `{"Ref": "X"}`). Raises `BadTemplate`."""
    try:
        template = yaml.load(path.read_text(encoding="utf-8"), Loader=_TemplateLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise BadTemplate(
            f"Template {path} doesn't exist.", "Run the command in the folder of template.yaml."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadTemplate(f"Template {path.name} isn't valid YAML: {error}", "Correct the line it names.") from error
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict) or not template["Resources"]:
        raise BadTemplate(f"Template {path.name} has no Resources.", "Write the resources under Resources.")
    unknown = sorted(set(template) - _SECTIONS)
    if unknown:
        raise BadTemplate(
            f"Template {path.name} has sections that the embedded cloud doesn't honour: {', '.join(unknown)}.",
            f"Use only {', '.join(sorted(_SECTIONS))}.",
        )
    for logical_id, resource in template["Resources"].items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise BadTemplate(f"Resource {logical_id} has no Type.")
        if not logical_id.isalnum():
            raise BadTemplate(f"Resource {logical_id!r} has a name with other characters than A-Z, a-z, 0-9.")
    return template


def _take_sources(template: dict[str, Any], root: Path) -> dict[str, Source]:
    """Put a placeholder in the place of every local path, and give back what the paths were. Changes `template`."""
    sources: dict[str, Source] = {}
    problems = []
    shared = ((template.get("Globals") or {}).get("Function") or {}).pop("CodeUri", None)
    for logical_id, resource in template["Resources"].items():
        name = _SOURCE_PROPERTIES.get(resource["Type"])
        if name is None:
            continue
        properties = resource.setdefault("Properties", {})
        inherited = shared if name == "CodeUri" and "InlineCode" not in properties else None
        location = properties.get(name, inherited)
        if location is None or (isinstance(location, str) and location.startswith("s3://")):
            continue
        if not isinstance(location, str):
            problems.append(f"{logical_id}.{name} isn't the path of a local folder or file: {location!r}")
            continue
        path = (root / location).resolve()
        if not path.exists():
            problems.append(f"{logical_id}.{name} is {location}, which doesn't exist under {root}")
        sources[logical_id] = Source(path, str((resource.get("Metadata") or {}).get("BuildMethod", "")))
        properties[name] = f"s3://{PLACEHOLDER_BUCKET}/{logical_id}"
    if problems:
        raise BadTemplate(f"Sources are missing: {'; '.join(problems)}.", "Correct the paths.", tuple(problems))
    return sources


def _expand(template: dict[str, Any], values: Mapping[str, Any], region: str) -> dict[str, Any]:
    """SAM's transform. A template without it is plain CloudFormation and stays as it is."""
    transforms = template.get("Transform") or []
    transforms = [transforms] if isinstance(transforms, str) else transforms
    unknown = [name for name in transforms if name != "AWS::Serverless-2016-10-31"]
    if unknown:
        raise BadTemplate(f"The template asks for transforms that the embedded cloud doesn't run: {unknown}.")
    if not transforms:
        return template
    scalars = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name != "AWS::NotificationARNs"
    }
    metrics = Metrics("ServerlessTransform", DummyMetricsPublisher())
    try:
        # The session gives SAM its region (for the partition of ARNs); it opens no connection.
        session = boto3.Session(region_name=region)
        translator = Translator(_ManagedPolicies(), Parser(), boto_session=session, metrics=metrics)
        expanded: dict[str, Any] = translator.translate(copy.deepcopy(template), scalars)
    except InvalidDocumentException as error:
        causes = tuple(str(cause.message) for cause in error.causes)
        raise BadTemplate(f"SAM refuses the template: {' '.join(causes)}", "Correct the resources.", causes) from error
    except ExceptionWithMessage as error:
        raise BadTemplate(f"SAM refuses the template: {error.message}", "Correct the resource.") from error
    finally:
        metrics.publish()  # to nowhere; SAM complains about metrics that were never published
    return expanded


class _ManagedPolicies(dict[str, str]):
    """AWS's managed policies by name, as far as Shoal knows their documents; needs no call to IAM."""

    def __init__(self) -> None:
        super().__init__({arn.rsplit("/", 1)[-1]: arn for arn in MANAGED_POLICIES})


def _chosen_resources(definitions: Mapping[str, Any], conditions: Mapping[str, bool]) -> dict[str, Resource]:
    """The resources whose condition holds, with `Fn::If` decided."""
    resources: dict[str, Resource] = {}
    problems = []
    for logical_id, definition in definitions.items():
        unknown = sorted(set(definition) - _RESOURCE_KEYS)
        problems += [f"{logical_id} ({definition['Type']}): attribute {key} isn't honoured" for key in unknown]
        condition = definition.get("Condition")
        if condition is not None and condition not in conditions:
            raise BadTemplate(f"Resource {logical_id} has condition {condition!r}, which isn't defined.")
        if condition is not None and not conditions[condition]:
            continue
        depends_on = definition.get("DependsOn") or []
        resources[logical_id] = Resource(
            logical_id=logical_id,
            type=definition["Type"],
            properties=choose(definition.get("Properties") or {}, conditions, f"Resources.{logical_id}"),
            depends_on=tuple([depends_on] if isinstance(depends_on, str) else depends_on),
        )
    if problems:
        raise BadTemplate(f"Resources have unknown attributes: {'; '.join(problems)}.", "Remove them.", tuple(problems))
    # A resource may depend on one that a condition left out; CloudFormation then ignores the dependency.
    return {
        logical_id: Resource(
            logical_id,
            resource.type,
            resource.properties,
            _dependencies(resource, resources, set(definitions)),
        )
        for logical_id, resource in resources.items()
    }


def _dependencies(resource: Resource, resources: Mapping[str, Resource], defined: set[str]) -> tuple[str, ...]:
    for name in resource.depends_on:
        if name not in defined:
            raise BadTemplate(f"Resource {resource.logical_id} depends on {name!r}, which isn't in the template.")
    names = [*resource.depends_on, *references(resource.properties)]
    return tuple(dict.fromkeys(name for name in names if name in resources))


def _check_references(resources: Mapping[str, Resource], values: Mapping[str, Any]) -> None:
    problems = tuple(
        f"{resource.logical_id} refers to {name!r}, which is no parameter and no resource (or its condition is false)"
        for resource in resources.values()
        for name in dict.fromkeys(references(resource.properties))
        if name not in resources and name not in values
    )
    if problems:
        raise BadTemplate(f"References lead nowhere: {'; '.join(problems)}.", "Correct the names.", problems)


def _ordered(resources: Mapping[str, Resource]) -> dict[str, Resource]:
    sorter = TopologicalSorter({name: resource.depends_on for name, resource in resources.items()})
    try:
        return {name: resources[name] for name in sorter.static_order()}
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise BadTemplate(
            f"Circular dependency between resources: {cycle}.",
            "Break it as CloudFormation asks: write a name or ARN out with !Sub in place of one !Ref or !GetAtt.",
        ) from None


def _chosen_outputs(definitions: Mapping[str, Any], conditions: Mapping[str, bool]) -> dict[str, Any]:
    outputs = {}
    for name, definition in definitions.items():
        condition = definition.get("Condition")
        if condition is not None and not conditions.get(condition, False):
            continue
        value = choose(definition.get("Value"), conditions, f"Outputs.{name}")
        if value is not None and not is_no_value(value):
            outputs[name] = value
    return outputs
