"""When a schedule is due: EventBridge's `rate(…)` and `cron(…)` expressions, in UTC.

Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from shoal_core.errors import BadConfig

_RATE = re.compile(r"rate\(([1-9]\d{0,3}) (minute|hour|day)s?\)")
_CRON = re.compile(r"cron\((.+)\)")
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
# 1 is Sunday, as EventBridge counts.
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_SEARCHED_DAYS = 366 * 5


def next_due(expression: str, after: datetime) -> str:
    """The next time after `after`, ISO 8601 in UTC.

    Raises:
        BadConfig: The expression isn't one, or names a time that never comes (within five years).
    """
    after = after.astimezone(UTC).replace(microsecond=0)
    rate = _RATE.fullmatch(expression)
    if rate:
        return (after + timedelta(**{f"{rate[2]}s": int(rate[1])})).isoformat()
    cron = _CRON.fullmatch(expression)
    fields = cron[1].split() if cron else []
    if len(fields) != 6:
        raise _bad(expression, "it has not six fields")
    minutes, hours = _values(expression, fields[0], 0, 59), _values(expression, fields[1], 0, 23)
    moment = after.replace(second=0) + timedelta(minutes=1)
    for offset in range(_SEARCHED_DAYS):
        day = (moment + timedelta(days=offset)).date()
        if not _is_day(expression, fields, day):
            continue
        for hour in sorted(hours):
            for minute in sorted(minutes):
                found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                if found >= moment:
                    return found.isoformat()
    raise _bad(expression, "that time never comes")


def _is_day(expression: str, fields: list[str], day: date) -> bool:
    _, _, days, months, weekdays, years = fields
    weekday = day.isoweekday() % 7 + 1
    return (
        day.day in _values(expression, days, 1, 31)
        and day.month in _values(expression, months, 1, 12, _MONTHS)
        and weekday in _values(expression, weekdays, 1, 7, _DAYS)
        and day.year in _values(expression, years, 1970, 2199)
    )


def _values(expression: str, field: str, first: int, last: int, names: Mapping[str, int] | None = None) -> set[int]:
    """The numbers that a field of a cron expression means: `*`, `?`, `a`, `a-b`, `a/n`, `*/n`, joined by commas."""
    found: set[int] = set()
    for part in field.upper().split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            start = first if low in ("*", "?") else (names or {}).get(low) or int(low)
            end = (names or {}).get(high) or int(high) if dash else last if slash or low in ("*", "?") else start
            values = range(start, end + 1, int(step) if slash else 1)
        except ValueError as error:
            raise _bad(expression, f"{part!r} isn't understood") from error
        if not values or start < first or end > last:
            raise _bad(expression, f"{part!r} is outside {first} to {last}")
        found.update(values)
    return found


def _bad(expression: str, why: str) -> BadConfig:
    return BadConfig(
        f"dataset.yaml: schedule: {expression!r}: {why}.",
        "Use rate(1 day) or cron(MINUTE HOUR DAY MONTH WEEKDAY YEAR), for example cron(30 6 ? * MON-FRI *).",
    )
