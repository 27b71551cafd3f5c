"""A resolver that checks requests against its routes' types and answers what doesn't fit as a problem.

Powertools reads the body before any middleware runs, so what can be wrong with it is caught here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.problems import answers_problems, problem
from shoal_core.errors import BadRequest

_FIX = "See /openapi.json for what is allowed."


class ValidatedApi(APIGatewayHttpResolver):
    """Answers HTTP API requests whose bodies are JSON; every error is problem+json."""

    def __init__(self) -> None:
        super().__init__(enable_validation=True, json_body_deserializer=_parsed)
        answers_problems(self)
        self.exception_handler(RequestValidationError)(_bad_parameter)
        self.exception_handler(UnicodeDecodeError)(_not_text)

    def resolve(self, event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer a request (payload format 2.0)."""
        given = str((event.get("headers") or {}).get("content-type", "application/json"))
        if event.get("body") and given.partition(";")[0].strip().lower() != "application/json":
            detail = f"Content-Type {given[:100]!r} isn't supported."
            refusal = problem(415, "BadRequest", detail, "Send application/json.")
            return {"statusCode": refusal.status_code, "headers": refusal.headers, "body": refusal.body}
        return super().resolve(event, context)


def _bad_parameter(error: RequestValidationError) -> Response[str]:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    return problem(400, "BadRequest", f"Parameter {name}: {first['msg']}.", _FIX)


def _not_text(error: UnicodeDecodeError) -> Response[str]:
    detail = f"The request's body isn't UTF-8: byte {error.start} is wrong."
    return problem(400, "BadRequest", detail, "Send JSON as UTF-8.")


def _parsed(text: str) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError covers bad JSON, and integers too long for Python to convert.
        raise BadRequest(f"The request's body isn't valid JSON: {error}.", _FIX) from error
