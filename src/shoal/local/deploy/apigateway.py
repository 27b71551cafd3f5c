"""API Gateway: HTTP APIs become `HttpApiSpec`s for our gateway; nothing of them lives in moto."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, number, recorded
from shoal.local.gateway_event import AuthorizerSpec, HttpApiSpec, Route, Throttling
from shoal.local.intrinsics import BadTemplate, intrinsic
from shoal.local.template import Resource

_ANY = "x-amazon-apigateway-any-method"
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", _ANY})
_INTEGRATION, _AUTHORIZER = "x-amazon-apigateway-integration", "x-amazon-apigateway-authorizer"
# What the OpenAPI document may say, by level; `info`, `tags`, `parameters` and `responses` have no effect.
_BODY = frozenset({"openapi", "info", "paths", "components", "tags", "x-amazon-apigateway-cors"})
_OPERATION = frozenset({_INTEGRATION, "security", "parameters", "responses", "isDefaultRoute"})
_INTEGRATED = frozenset({"httpMethod", "type", "uri", "payloadFormatVersion", "timeoutInMillis"})
_AUTHORIZED = frozenset(
    {
        "type",
        "authorizerUri",
        "authorizerResultTtlInSeconds",
        "identitySource",
        "authorizerPayloadFormatVersion",
        "enableSimpleResponses",
    }
)
_ACCOUNT_BURST, _ACCOUNT_RATE = 5_000, 10_000.0  # API Gateway's limits per account and region
_NO_AUTHORIZER = "NONE"  # SAM's name for a route that is open to everyone
_IDENTITY = ("$request.header.", "$request.querystring.", "$stageVariables.", "$context.routeKey")


def _create_api(context: Context, resource: Resource) -> Created:
    body = resource.properties["Body"]
    if context.deployment.http_apis:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): the gateway serves one HTTP API, and the template has another.",
            "Put the routes into one AWS::Serverless::HttpApi.",
        )
    schemes = body.get("components", {}).get("securitySchemes", {})
    api_id = hashlib.sha256(f"{context.stack.name}/{resource.logical_id}".encode()).hexdigest()[:10]
    context.deployment.http_apis.append(
        HttpApiSpec(
            name=str(resource.properties.get("Name") or body["info"]["title"]),
            routes=tuple(_routes(body)),
            authorizers={name: _authorizer(scheme[_AUTHORIZER]) for name, scheme in schemes.items()},
            api_id=api_id,
            account_id=context.stack.account,
            region=context.stack.region,
        )
    )
    return Created(api_id, {"ApiEndpoint": context.api_url, "ApiId": api_id})


def _operations(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(path in the document, method, operation) of every route."""
    for path, item in body.get("paths", {}).items():
        for method, operation in item.items():
            yield path, method, operation


def _routes(body: Mapping[str, Any]) -> Iterator[Route]:
    for path, method, operation in _operations(body):
        names = [name for requirement in operation.get("security", []) for name in requirement]
        guards = [name for name in names if name != _NO_AUTHORIZER]
        yield Route(
            method="ANY" if method == _ANY else method.upper(),
            path_template=path,
            function_name=_function_name(operation[_INTEGRATION]["uri"]),
            authorizer=guards[0] if guards else None,
        )


def _function_name(uri: str) -> str:
    """From `arn:…:lambda:path/2015-03-31/functions/FUNCTION_ARN/invocations`; the ARN may end in an alias."""
    return uri.removesuffix("/invocations").rpartition("/functions/")[2].split(":")[6]


def _authorizer(given: Mapping[str, Any]) -> AuthorizerSpec:
    return AuthorizerSpec(
        function_name=_function_name(given["authorizerUri"]),
        identity_source=tuple(given.get("identitySource", ())),
        payload_version=str(given["authorizerPayloadFormatVersion"]),
        enable_simple_responses=flag(given.get("enableSimpleResponses", False)),
        ttl_s=int(given.get("authorizerResultTtlInSeconds", 0)),
    )


def _create_stage(context: Context, resource: Resource) -> Created:
    properties, apis = resource.properties, context.deployment.http_apis
    position = next((index for index, api in enumerate(apis) if api.api_id == properties["ApiId"]), None)
    if position is None:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): API {properties['ApiId']!r} isn't of this template."
        )
    group = str(properties.get("AccessLogSettings", {}).get("DestinationArn", ""))
    variables = properties.get("StageVariables")
    apis[position] = dataclasses.replace(
        apis[position],
        default_stage_variables={key: str(value) for key, value in variables.items()} if variables else None,
        throttling=_throttling(resource),
        log_group=group.removesuffix(":*").rpartition(":log-group:")[2] or None,
    )
    return Created(str(properties["StageName"]))


def _throttling(resource: Resource) -> Throttling | None:
    """The stage's limits. AWS throttles by both numbers; one alone leaves the other at the account's limit."""
    settings = resource.properties.get("DefaultRouteSettings", {})
    if not settings:
        return None
    burst = number(resource, "DefaultRouteSettings.ThrottlingBurstLimit", _ACCOUNT_BURST) or 0
    return Throttling(burst, float(settings.get("ThrottlingRateLimit", _ACCOUNT_RATE)))


def _unknown(value: Mapping[str, Any], known: frozenset[str], path: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{path}.{key}", "isn't honoured") for key in value if key not in known)


def _check_api(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    body = properties.get("Body")
    if not isinstance(body, Mapping) or intrinsic(body) is not None:
        yield "Body", "is missing; use AWS::Serverless::HttpApi with the functions' HttpApi events"
        return
    yield from _unknown(body, _BODY, "Body")
    if body.get("x-amazon-apigateway-cors"):
        yield "Body.x-amazon-apigateway-cors", "isn't honoured: pages of other origins may not call the gateway"
    for path, method, operation in _operations(body):
        where = f"Body.paths.{path}.{method}"
        if method not in _METHODS:
            yield where, "isn't honoured"
            continue
        yield from _unknown(operation, _OPERATION, where)
        integration = operation.get(_INTEGRATION, {})
        yield from _unknown(integration, _INTEGRATED, f"{where}.{_INTEGRATION}")
        if integration.get("type") != "aws_proxy" or str(integration.get("payloadFormatVersion")) != "2.0":
            yield f"{where}.{_INTEGRATION}", "only functions (aws_proxy) with payload format 2.0 are honoured"
        if any(scopes for requirement in operation.get("security", []) for scopes in requirement.values()):
            yield f"{where}.security", "scopes aren't honoured"
    for name, scheme in body.get("components", {}).get("securitySchemes", {}).items():
        yield from _check_authorizer(scheme.get(_AUTHORIZER, {}), f"Body.components.securitySchemes.{name}")


def _check_authorizer(given: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    yield from _unknown(given, _AUTHORIZED, where)
    if given.get("type") != "request" or "authorizerUri" not in given:
        yield where, "only an authorizer function is honoured"
    if str(given.get("authorizerPayloadFormatVersion")) != "2.0":
        yield where, "only payload format 2.0 is honoured"
    for source in given.get("identitySource", ()):
        if not str(source).startswith(_IDENTITY):
            yield where, f"identity source {source} isn't honoured"


API = ResourceType(
    "AWS::ApiGatewayV2::Api",
    {
        "Name": Property("name of the API"),
        "Body": Property("the gateway serves its routes, functions and authorizer functions"),
        "Tags": recorded("accepted; nothing here reads them"),
    },
    _create_api,
    _check_api,
)

STAGE = ResourceType(
    "AWS::ApiGatewayV2::Stage",
    {
        "ApiId": Property("the API"),
        "StageName": Property("the gateway serves the default stage", only=("$default",)),
        "AutoDeploy": Property("the gateway serves what was deployed last", only=(True, "true")),
        "AccessLogSettings.DestinationArn": Property("the gateway writes its access log to the group"),
        "AccessLogSettings.Format": recorded("accepted; the gateway writes JSON lines of its own"),
        "DefaultRouteSettings.ThrottlingBurstLimit": Property("the gateway answers 429 above it"),
        "DefaultRouteSettings.ThrottlingRateLimit": Property("the gateway answers 429 above it"),
        "StageVariables.*": Property("in the events of the functions"),
        "Tags": recorded("accepted; nothing here reads them"),
    },
    _create_stage,
)

TYPES = (API, STAGE)
