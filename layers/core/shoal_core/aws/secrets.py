"""The API's bearer token, kept in Secrets Manager."""

from __future__ import annotations

import time

from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment

# A rotated token is honoured within a minute; a warm authorizer asks Secrets Manager once a minute.
SECONDS = 60.0
_cached: tuple[float, str] | None = None


def api_token() -> str:
    """The current token; at most a minute old."""
    global _cached
    if _cached is None or time.monotonic() - _cached[0] > SECONDS:
        with service_errors("Secrets Manager"):
            answer = client("secretsmanager").get_secret_value(SecretId=environment().token_secret_arn)
        _cached = (time.monotonic(), str(answer["SecretString"]))
    return _cached[1]
