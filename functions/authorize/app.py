"""The HTTP API's authorizer: a bearer token, compared in constant time with the secret made at deploy time."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.handler import framed
from shoal_core.aws.secrets import api_token

SCHEME = "bearer "


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, bool]:
    """Answer an authorizer request (payload format 2.0, simple response)."""
    header = (event.get("headers") or {}).get("authorization", "")
    given = header[len(SCHEME) :].strip() if header.lower().startswith(SCHEME) else ""
    return {"isAuthorized": hmac.compare_digest(_digest(given), _digest(api_token()))}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
