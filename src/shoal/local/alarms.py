"""CloudWatch's alarms: moto keeps them, and this looks at their metrics and tells functions when one goes off.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html and, for the event,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
"""

from __future__ import annotations

import json
import logging
import operator
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from moto.cloudwatch.models import Alarm, CloudWatchBackend, MetricAggregatedDatum, cloudwatch_backends

from shoal.local.compute.errors import LambdaError
from shoal.local.schedules import Invoker

_TICK_SECONDS = 1.0
_LATE = timedelta(minutes=5)
_log = logging.getLogger(__name__)
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS: dict[str, Callable[[list[MetricAggregatedDatum]], float]] = {
    "Sum": lambda data: sum(datum.sum for datum in data),
    "SampleCount": lambda data: sum(datum.sample_count for datum in data),
    "Average": lambda data: sum(datum.sum for datum in data) / sum(datum.sample_count for datum in data),
    "Minimum": lambda data: min(datum.min for datum in data),
    "Maximum": lambda data: max(datum.max for datum in data),
}


class AlarmClock:
    """Evaluates all alarms every second; one that goes off invokes the functions among its actions.

    AWS looks at most alarms once a minute; the periods are the same.

    Args:
        service: Lambda.
        account: Account id.
        region: Region.
    """

    def __init__(self, service: Invoker, account: str, region: str) -> None:
        self._service = service
        self._account, self._region = account, region
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def start(self) -> None:
        """Begin, if there are alarms."""
        if self._backend.alarms:
            self._thread.start()

    def stop(self) -> None:
        """Look at nothing more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    @property
    def _backend(self) -> CloudWatchBackend:
        return cloudwatch_backends[self._account][self._region]

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            try:
                self.tick(datetime.now(UTC))
            except Exception:  # noqa: BLE001 - the clock must outlive whatever one tick meets
                _log.exception("A look at the alarms failed.")

    def tick(self, moment: datetime) -> list[str]:
        """Evaluate every alarm at a moment in UTC; the names of those that went off."""
        rang = []
        for alarm in list(self._backend.alarms.values()):
            state, reason = self._evaluate(alarm, moment)
            if state == alarm.state_value:
                continue
            before = alarm.state_value
            alarm.update_state(reason, "{}", state)
            if state == "ALARM" and alarm.actions_enabled is not False:
                rang.append(str(alarm.name))
                self._act(alarm, before, reason, moment)
        return rang

    def _evaluate(self, alarm: Alarm, moment: datetime) -> tuple[str, str]:
        """The alarm's state now, and why."""
        periods = int(alarm.evaluation_periods)
        points = [self._point(alarm, moment - timedelta(seconds=index * int(alarm.period))) for index in range(periods)]
        breaks = COMPARISONS[str(alarm.comparison_operator)]
        breaching = [point for point in points if point is not None and breaks(point, float(alarm.threshold))]
        missing = points.count(None)
        if alarm.treat_missing_data == "breaching":
            breaching += [0.0] * missing
        elif missing == periods and alarm.treat_missing_data != "notBreaching":
            return "INSUFFICIENT_DATA", "no datapoint was received"
        wanted = int(alarm.datapoints_to_alarm or periods)
        told = f"{len(breaching)} of the last {periods} datapoints crossed the threshold {float(alarm.threshold):g}"
        return ("ALARM", told) if len(breaching) >= wanted else ("OK", told)

    def _point(self, alarm: Alarm, end: datetime) -> float | None:
        """The alarm's statistic over one period that ends at a moment; None without data."""
        last = end.replace(tzinfo=None)
        first = last - timedelta(seconds=int(alarm.period))
        wanted = {(dimension.name, dimension.value) for dimension in alarm.dimensions}
        # The newest stand last, give or take what came late: a long history costs nothing.
        recent = takewhile(lambda datum: datum.timestamp > first - _LATE, reversed(list(self._backend.metric_data)))
        data = [
            datum
            for datum in recent
            if isinstance(datum, MetricAggregatedDatum)
            and datum.name == alarm.metric_name
            and datum.namespace == alarm.namespace
            and first < datum.timestamp <= last
            and {(dimension.name, dimension.value) for dimension in datum.dimensions} == wanted
        ]
        return STATISTICS[str(alarm.statistic)](data) if data else None

    def _act(self, alarm: Alarm, before: str, reason: str, moment: datetime) -> None:
        event = self._event(alarm, before, reason, moment)
        for action in alarm.alarm_actions:
            try:
                self._service.invoke(str(action), json.dumps(event).encode(), invocation_type="Event")
            except LambdaError as error:
                _log.warning("The alarm %s couldn't invoke %s: %s", alarm.name, action, error)

    def _event(self, alarm: Alarm, before: str, reason: str, moment: datetime) -> dict[str, Any]:
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
        return {
            "source": "aws.cloudwatch",
            "alarmArn": alarm.alarm_arn,
            "accountId": self._account,
            "time": stamp,
            "region": self._region,
            "alarmData": {
                "alarmName": alarm.name,
                "state": {"value": "ALARM", "reason": reason, "timestamp": stamp},
                "previousState": {"value": before},
                "configuration": {"description": alarm.description},
            },
        }
