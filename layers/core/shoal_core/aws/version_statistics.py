"""What versions answered, from CloudWatch: the metrics that `shoal_core.aws.traffic` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment
from shoal_core.registry.canaries import Served

NAMESPACE = "Shoal"
_SERVED = (("Requests", "Sum"), ("Errors", "Sum"), ("Latency", "Sum"), ("Latency", "SampleCount"))
_SHADOWED = (
    ("ShadowRequests", "Sum"),
    ("ShadowErrors", "Sum"),
    ("ShadowSkipped", "Sum"),
    ("ShadowAgreement", "Sum"),
    ("ShadowLatency", "Sum"),
    ("ShadowedLatency", "Sum"),
    ("ShadowAgreement", "SampleCount"),
)
MINUTE = 60
_MAX_DAYS = 14


def served_since(model: str, version: int, since: datetime, moment: datetime) -> Served:
    """What a version answered from one moment (UTC) to another, to the minute and as far as CloudWatch has it."""
    found = _sums(model, version, since, moment, _SERVED)
    requests, errors, spent, timed = (found[statistic] for statistic in _SERVED)
    return Served(int(requests), int(errors), spent / timed if timed else None)


def shadowed_since(model: str, version: int, since: datetime, moment: datetime) -> dict[str, Any]:
    """How a shadow's answers compare, from one moment (UTC) to another."""
    found = _sums(model, version, since, moment, _SHADOWED)
    requests, errors, skipped, agreement, its, others, compared = (found[statistic] for statistic in _SHADOWED)
    return {
        "requests": int(requests),
        "errors": int(errors),
        "skipped": int(skipped),
        "agreement": agreement / compared if compared else None,
        "mean_ms": its / compared if compared else None,
        "production_mean_ms": others / compared if compared else None,
    }


def _sums(
    model: str, version: int, since: datetime, moment: datetime, wanted: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], float]:
    """Statistics over the whole span. Reference: GetMetricData's periods are whole minutes."""
    first = max(since, moment - timedelta(days=_MAX_DAYS)).replace(second=0, microsecond=0)
    # Clocks of two machines may differ: a span that ends before it begins is one that has just begun.
    last = max(moment, since) + timedelta(minutes=1)
    period = MINUTE * max(1, math.ceil((last - first).total_seconds() / MINUTE))
    dimensions = [
        {"Name": name, "Value": value}
        for name, value in (
            ("function_name", environment().predict_function),
            ("model", model),
            ("version", str(version)),
            ("service", "shoal"),
        )
    ]
    queries = [
        {
            "Id": f"q{index}",
            "MetricStat": {
                "Metric": {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions},
                "Period": period,
                "Stat": statistic,
            },
        }
        for index, (name, statistic) in enumerate(wanted)
    ]
    with service_errors("CloudWatch"):
        answer = client("cloudwatch").get_metric_data(MetricDataQueries=queries, StartTime=first, EndTime=last)
    sums = {result["Id"]: float(sum(result["Values"])) for result in answer["MetricDataResults"]}
    return {statistic: sums.get(f"q{index}", 0.0) for index, statistic in enumerate(wanted)}
