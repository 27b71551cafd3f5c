"""Canaries on a schedule while there are any, and when an alarm goes off: on by a step, or back."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.canaries import Canaries, now_utc
from shoal_core.aws.handler import catalog, framed, logger

CRASHES = "-predict-crashes"


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Review all canaries; when invocations of the data plane died, whosever they were, take all canaries back."""
    alarm = str((event.get("alarmData") or {}).get("alarmName", ""))
    crashed = "invocations of the data plane died while it was under way" if alarm.endswith(CRASHES) else None
    done = Canaries(catalog()).review(now_utc(), crashed)
    logger.info("reviewed canaries", alarm=alarm, done=done)
    return {"canaries": done}
