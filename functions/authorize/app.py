"""The HTTP API's authorizer: who a bearer token belongs to. What that caller may do, the answering function decides."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.access import authenticate, authorizer_answer
from shoal_core.aws.handler import framed


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an authorizer request (payload format 2.0, simple response)."""
    return authorizer_answer(authenticate((event.get("headers") or {}).get("authorization", "")))
