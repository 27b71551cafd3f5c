"""CloudWatch's metrics from what functions write: the embedded metric format in their logs, and Lambda's own reports.

Values go into moto's CloudWatch as one set of statistics for each metric and second, so that memory is bounded whatever
the number of requests. They aren't kept over a restart.

Sources: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
and https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend, MetricAggregatedDatum, cloudwatch_backends

from shoal.local.compute.spec import LogRecord

MAX_DATA = 100_000
"""So many sets of statistics are kept; the oldest go."""
_REPORT = re.compile(r"REPORT RequestId: \S+\s+Duration: ([\d.]+) ms")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetricName:
    """One metric: namespace, name, dimensions in order of their names, and unit."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str = "None"


@dataclass(frozen=True)
class Sample:
    """Values of a metric at one second (since the epoch)."""

    metric: MetricName
    second: int
    values: tuple[float, ...]


class MetricCollector:
    """Puts what log records tell into moto's CloudWatch.

    Args:
        account: Account id.
        region: Region.
    """

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._open: dict[tuple[MetricName, int], MetricAggregatedDatum] = {}

    @property
    def _backend(self) -> CloudWatchBackend:
        return cloudwatch_backends[self._account][self._region]

    def add(self, records: Iterable[LogRecord]) -> None:
        """Take log records, a batch at a time, from one thread."""
        for record in records:
            for sample in samples_of(record):
                self._add(sample)
        self._trim()

    def _add(self, sample: Sample) -> None:
        key, metric = (sample.metric, sample.second), sample.metric
        known = self._open.get(key)
        low, high, total = min(sample.values), max(sample.values), sum(sample.values)
        if known is not None:
            known.min, known.max = min(known.min, low), max(known.max, high)
            known.sum, known.sample_count = known.sum + total, known.sample_count + len(sample.values)
            return
        datum = MetricAggregatedDatum(
            namespace=metric.namespace,
            name=metric.name,
            min_stat=low,
            max_stat=high,
            sample_count=float(len(sample.values)),
            sum_stat=total,
            dimensions=[{"Name": name, "Value": value} for name, value in metric.dimensions],
            # moto compares with naive times in UTC
            timestamp=datetime.fromtimestamp(sample.second, UTC).replace(tzinfo=None),
            unit=metric.unit,
        )
        self._open[key] = datum
        self._backend.metric_data.append(datum)

    def _trim(self) -> None:
        data = self._backend.metric_data
        if len(data) > MAX_DATA:
            del data[: len(data) - MAX_DATA]
        newest = max((second for _, second in self._open), default=0)
        # What is older by a minute is finished: a log line that late would open a second set, which adds up the same.
        for key in [key for key in self._open if key[1] < newest - 60]:
            del self._open[key]


def samples_of(record: LogRecord) -> Iterator[Sample]:
    """What one log record tells: nothing, of most."""
    if record.message.startswith("REPORT "):
        yield from _reported(record)
    elif record.message.startswith("{") and '"CloudWatchMetrics"' in record.message:
        try:
            document = json.loads(record.message)
            yield from _embedded(document)
        except (ValueError, KeyError, TypeError, AttributeError):
            # As CloudWatch does: a line that isn't of the format stays a line.
            _log.debug("%s wrote metrics that can't be read: %.200s", record.source, record.message)


def _embedded(document: Mapping[str, Any]) -> Iterator[Sample]:
    second = int(document["_aws"]["Timestamp"]) // 1000
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = tuple(sorted((name, str(document[name])) for name in names))
            for metric in directive["Metrics"]:
                value = document[metric["Name"]]
                values = tuple(float(entry) for entry in (value if isinstance(value, list) else [value]))
                if values:
                    unit = str(metric.get("Unit", "None"))
                    yield Sample(MetricName(directive["Namespace"], metric["Name"], dimensions, unit), second, values)


def _reported(record: LogRecord) -> Iterator[Sample]:
    """Lambda's own metrics of one invocation; `Errors` are those that the function didn't survive."""
    found = _REPORT.match(record.message)
    if found is None:
        return
    dimensions = (("FunctionName", record.source),)
    second = record.timestamp_ms // 1000
    failed = float("Status: " in record.message)
    for name, value, unit in (
        ("Invocations", 1.0, "Count"),
        ("Errors", failed, "Count"),
        ("Duration", float(found[1]), "Milliseconds"),
    ):
        yield Sample(MetricName("AWS/Lambda", name, dimensions, unit), second, (value,))
