"""HTTP answers: JSON, and errors as problem+json.

Source: RFC 9457 (https://www.rfc-editor.org/rfc/rfc9457).
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import ApiGatewayResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from shoal_core.aws.handler import logger
from shoal_core.errors import RateLimited, ShoalError

PROBLEM = "application/problem+json"


def json_response(value: object, status: int = 200) -> Response[str]:
    """A JSON answer."""
    return Response(status, "application/json", json.dumps(value, separators=(",", ":"), allow_nan=False))


def problem(status: int, kind: str, detail: str, fix: str = "") -> Response[str]:
    """An error as a document: what kind, what is wrong, what to do."""
    document: dict[str, Any] = {
        "type": f"urn:shoal:error:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "fix": fix,
        # Where clients of the Open Inference Protocol look.
        "error": f"{detail} {fix}".strip(),
    }
    return Response(status, PROBLEM, json.dumps(document, separators=(",", ":")))


def answers_problems(app: ApiGatewayResolver) -> None:
    """Make a resolver answer every error as problem+json."""

    @app.exception_handler(ShoalError)  # type: ignore[untyped-decorator]
    def shoal_error(error: ShoalError) -> Response[str]:
        answer = problem(error.status, type(error).__name__, error.reason, error.fix)
        if isinstance(error, RateLimited):
            answer.headers["Retry-After"] = str(error.retry_after)
        return answer

    @app.not_found
    def not_found(error: NotFoundError) -> Response[str]:
        event = app.current_event
        return problem(404, "NoRoute", f"{event.http_method} {event.path} isn't part of the API.", "See /openapi.json.")

    @app.exception_handler(Exception)  # type: ignore[untyped-decorator]
    def fault(error: Exception) -> Response[str]:
        logger.exception("request failed")
        return problem(
            500, type(error).__name__, "Shoal failed to answer.", "The log of the function tells why: `shoal logs`."
        )
