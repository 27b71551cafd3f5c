"""Dates and times: one parser for CSV text, JSON values and Parquet's types, and the numbers that they become.

ISO 8601 with or without a time and a zone (a time without one is UTC), slashed or dotted dates in the order that the
spec names, and bare numbers in the spec's unit. An instant is microseconds since 1970 in UTC.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import NO_INSTANT
from shoal_core.data.values import is_missing, parse_number

DateOrder = Literal["day", "month"]
DateUnit = Literal["s", "ms", "us", "ns"]
DAY = 86_400_000_000
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_TIME = r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?[ ]?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?"
_ISO = re.compile(r"(\d{4})([-/])(\d\d)\2(\d\d)" + _TIME, re.ASCII)
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})" + _TIME, re.ASCII)
_MICROSECONDS: dict[str, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_LAST = (datetime.date.max.toordinal() - _EPOCH + 1) * DAY


def parse_date(value: object, order: DateOrder | None = None, unit: DateUnit | None = None) -> int | None:
    """A cell as microseconds since 1970 (UTC), None when missing.

    Args:
        value: The cell.
        order: Whether `3/4/2026` is a day of April or of March; None takes ISO 8601 only.
        unit: What a bare number counts since 1970; None takes no numbers.

    Raises:
        ValueError: It isn't a date of that form.
    """
    if is_missing(value):
        return None
    if unit is not None:
        number = parse_number(value)
        instant = 0 if number is None else round(number * _MICROSECONDS[unit])
        if abs(instant) > _LAST:
            raise ValueError("it is a date beyond the year 9999")
        return instant
    if not isinstance(value, str):
        raise ValueError("it isn't a date")
    text = value.strip()
    if found := _ISO.fullmatch(text):
        year, _, month, day = found.group(1, 2, 3, 4)
    elif order is not None and (found := _SLASHED.fullmatch(text)):
        first, _, second, year = found.group(1, 2, 3, 4)
        day, month = (first, second) if order == "day" else (second, first)
    else:
        raise ValueError("it isn't a date")
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError as error:
        raise ValueError("it isn't a date of the calendar") from error
    return days * DAY + _time_of(found.groups()[4:])


def _time_of(parts: Sequence[str | None]) -> int:
    """Microseconds of the day, less the zone's offset."""
    hours, minutes, seconds, fraction, zone = parts
    hour, minute, second = int(hours or 0), int(minutes or 0), int(seconds or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("it isn't a time of the day")
    micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + int(((fraction or "") + "000000")[:6])
    if zone is None or zone[0] not in "+-":
        return micros
    offset = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)
    return micros - (offset if zone[0] == "+" else -offset) * 60_000_000


def slashed_parts(text: str) -> tuple[int, int] | None:
    """The first two numbers of a slashed or dotted date, whose order the whole column has to tell; else None."""
    found = _SLASHED.fullmatch(text.strip())
    return (int(found.group(1)), int(found.group(3))) if found else None


def date_features(instants: NDArray[np.int64], features: Sequence[str]) -> NDArray[np.float32]:
    """Numbers of instants: float32 [N, elapsed (days) and then sine and cosine of each other feature]; NaN is missing.

    Args:
        instants: int64 [N], microseconds since 1970, `NO_INSTANT` where missing.
        features: Of `spec.DateFeature`.
    """
    present = instants != NO_INSTANT
    known = np.where(present, instants, 0)
    columns = [known / DAY] if "elapsed" in features else []
    for feature in features:
        if feature != "elapsed":
            angle = feature_values(known, feature) * (2 * np.pi)
            columns += [np.sin(angle), np.cos(angle)]
    result = np.stack(columns, axis=1).astype(np.float32) if columns else np.empty((len(known), 0), np.float32)
    result[~present] = np.nan
    return result


def feature_values(instants: NDArray[np.int64], feature: str) -> NDArray[np.float64]:
    """Where instants lie in their day (hour), week (weekday), month (day) or year (month): float64 in [0, 1)."""
    days = instants // DAY
    if feature == "hour":
        return np.asarray((instants - days * DAY) / DAY, np.float64)
    if feature == "weekday":
        return np.asarray((days + 3) % 7 / 7, np.float64)
    dates = days.astype("M8[D]")
    months = dates.astype("M8[M]")
    if feature == "day":
        return np.asarray((dates - months.astype("M8[D]")).astype(np.int64) / 31, np.float64)
    return np.asarray(months.astype(np.int64) % 12 / 12, np.float64)
