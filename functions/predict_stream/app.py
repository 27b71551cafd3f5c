"""The data plane of streams: a batch of records of Kinesis or SQS, each answered once or kept as a dead letter."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.clock import now
from shoal_core.aws.handler import framed, metrics
from shoal_core.aws.streams import exits
from shoal_core.aws.traffic import models
from shoal_core.serving.streams.committing import settle
from shoal_core.serving.streams.records import records_of


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an event source mapping's batch; what it returns names what has to be delivered again."""
    settled = settle(records_of(event), models(), exits(), now)
    metrics.add_metric("AnsweredRecords", MetricUnit.Count, settled.answered)
    metrics.add_metric("DeadRecords", MetricUnit.Count, settled.died)
    return dict(settled.response)
