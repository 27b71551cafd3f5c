"""Lambda's REST API over the local workers: Invoke, GetFunction, ListFunctions.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import re
from typing import Any

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, bytes_response, error_response, json_response
from shoal.local.compute.errors import FunctionNotFound, LambdaError
from shoal.local.compute.service import LambdaService
from shoal.local.compute.spec import FunctionSpec

PREFIX = "/2015-03-31/functions"
_PATH = re.compile(r"^/2015-03-31/functions(?:/(?P<function>[^/]+)(?:/(?P<action>invocations|configuration))?)?/?$")
_ARN = re.compile(
    r"^(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?(?P<name>[^:]+)(?::(?P<qualifier>.+))?$"
)
_LATEST = "$LATEST"


class LambdaApi:
    """Answers Lambda's API from a `LambdaService`."""

    def __init__(self, service: LambdaService) -> None:
        self._service = service
        self._functions: dict[str, FunctionSpec] = {}

    def set_functions(self, functions: list[FunctionSpec]) -> None:
        """The functions that are deployed now."""
        self._functions = {spec.name: spec for spec in functions}

    def answer(self, request: AwsRequest) -> AwsResponse | None:
        """Answer a request, or None when it is none of the operations here."""
        found = _PATH.match(request.path)
        if found is None:
            return None
        function, action = found["function"], found["action"]
        if function is None:
            return self._list() if request.method == "GET" else None
        arn = _ARN.match(function)
        name = arn["name"] if arn else function
        if request.method == "POST" and action == "invocations":
            qualifier = request.query.get("Qualifier") or (arn["qualifier"] if arn else None) or _LATEST
            return self._invoke(request, name, qualifier)
        if request.method == "GET" and action != "invocations":
            return self._get(request, name, configuration_only=action == "configuration")
        return None

    def _invoke(self, request: AwsRequest, name: str, qualifier: str) -> AwsResponse:
        kind: Any = request.header("X-Amz-Invocation-Type") or "RequestResponse"
        try:
            if qualifier != _LATEST:
                raise FunctionNotFound(f"Function not found: {self._arn(name)}:{qualifier}")
            result = self._service.invoke(
                name,
                request.body or b"{}",
                invocation_type=kind,
                log_tail=request.header("X-Amz-Log-Type") == "Tail",
                client_context=request.header("X-Amz-Client-Context") or None,
            )
        except LambdaError as error:
            return bytes_response(
                error.status, error.body(), {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
            )
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": result.executed_version}
        if result.function_error:
            headers["X-Amz-Function-Error"] = result.function_error
        if result.log_tail is not None:
            headers["X-Amz-Log-Result"] = base64.b64encode(result.log_tail).decode()
        response = bytes_response(result.status, result.payload, headers)
        if result.request_id:
            response.set_header("x-amzn-RequestId", result.request_id)
        return response

    def _get(self, request: AwsRequest, name: str, *, configuration_only: bool) -> AwsResponse:
        spec = self._functions.get(name)
        if spec is None:
            return error_response(request, "ResourceNotFoundException", f"Function not found: {self._arn(name)}", 404)
        configuration = _configuration(spec)
        if configuration_only:
            return json_response(200, configuration)
        code = {"Location": spec.code.as_uri()}
        return json_response(200, {"Configuration": configuration, "Code": code, "Tags": {}})

    def _list(self) -> AwsResponse:
        functions = [_configuration(spec) for _, spec in sorted(self._functions.items())]
        return json_response(200, {"Functions": functions})

    def _arn(self, name: str) -> str:
        for spec in self._functions.values():
            return f"{spec.arn.rpartition(':')[0]}:{name}"
        return name


def _configuration(spec: FunctionSpec) -> dict[str, Any]:
    return {
        "FunctionName": spec.name,
        "FunctionArn": spec.arn,
        "Runtime": "python3.13",
        "Role": spec.role_arn,
        "Handler": spec.handler,
        "Timeout": int(spec.timeout_s),
        "MemorySize": spec.memory_mb,
        "EphemeralStorage": {"Size": spec.ephemeral_mb},
        "Environment": {"Variables": spec.environment},
        "TracingConfig": {"Mode": "Active" if spec.tracing else "PassThrough"},
        "PackageType": "Zip",
        "Version": _LATEST,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": spec.log_group or f"/aws/lambda/{spec.name}"},
    }
