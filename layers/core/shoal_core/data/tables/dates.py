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

from shoal_core.data.tables.cells import NO_INSTANT, TypedValues
from shoal_core.data.tables.parsing import parse_numbers
from shoal_core.data.values import is_missing, parse_number

DateOrder = Literal["day", "month"]
DateUnit = Literal["s", "ms", "us", "ns"]
DAY = 86_400_000_000
# 2026-01-31, then with seconds, milliseconds or microseconds, each without and with Z.
_ISO_LENGTHS = (10, 19, 20, 23, 24, 26, 27)
_ISO_FORM = "0000-00-00T00:00:00.000000"
# Fewer texts than these are parsed one by one just as fast.
_MANY = 16
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


def parse_dates(
    values: Sequence[object], order: DateOrder | None = None, unit: DateUnit | None = None
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """`parse_date` for many: int64 [N], `NO_INSTANT` where missing or wrong; and why those are wrong, by place."""
    if unit is not None:
        return _parse_counts(values, unit)
    if isinstance(values, TypedValues) and values.array.dtype.kind == "M":
        return values.instants, {}
    found, rest = _parse_iso(values)
    wrong: dict[int, str] = {}
    for place in rest:
        try:
            instant = parse_date(values[place], order)
        except ValueError as error:
            wrong[place] = str(error)
            continue
        if instant is not None:
            found[place] = instant
    return found, wrong


def _parse_counts(values: Sequence[object], unit: DateUnit) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Bare numbers in a unit."""
    numbers, wrong = parse_numbers(values)
    counts = np.rint(numbers * _MICROSECONDS[unit])
    with np.errstate(invalid="ignore"):
        far = np.abs(counts) > _LAST
    wrong.update(dict.fromkeys(np.flatnonzero(far).tolist(), "it is a date beyond the year 9999"))
    known = ~np.isnan(counts) & ~far
    return np.where(known, np.where(known, counts, 0).astype(np.int64), NO_INSTANT), wrong


def _parse_iso(values: Sequence[object]) -> tuple[NDArray[np.int64], list[int]]:
    """The values that are dates in one of the common forms of ISO 8601, and the places of all others.

    The forms are 2026-01-31, and 2026-01-31T12:30:00 with or without a fraction of three or six digits, and Z.
    """
    found = np.full(len(values), NO_INSTANT)
    sizes = np.array([len(value) if type(value) is str else 0 for value in values])
    for length in _ISO_LENGTHS:
        places = np.flatnonzero(sizes == length)
        if len(places) < _MANY:
            continue
        text = "".join(values[place] for place in places.tolist())  # type: ignore[misc]
        if not text.isascii():
            continue
        marks = np.frombuffer(text.encode(), np.uint8).reshape(len(places), length).T.astype(np.int64, order="C")
        instants, right = _instants_of(marks)
        chosen = places[right]
        found[chosen] = instants[right]
    return found, np.flatnonzero(found == NO_INSTANT).tolist()


def _instants_of(marks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Instants of texts of one length, character by character int64 [L,N], and which of them are right."""
    length = len(marks)
    right = np.ones(marks.shape[1], np.bool_)
    zone = length in (20, 24, 27)
    if zone:
        right &= marks[-1] == ord("Z")
    for place, mark in enumerate(_ISO_FORM[: length - zone]):
        if mark == "0":
            right &= (marks[place] >= 48) & (marks[place] <= 57)
        elif mark == "T":
            right &= (marks[place] == ord("T")) | (marks[place] == ord(" "))
        else:
            right &= marks[place] == ord(mark)
    digits = marks - 48
    year = digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3]
    month, day = digits[5] * 10 + digits[6], digits[8] * 10 + digits[9]
    right &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = np.where(right, (year - 1970) * 12 + month - 1, 0)
    first = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    right &= day <= (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - first
    instants = (first + day - 1) * DAY
    if length > 10:
        hour, minute, second = (digits[place] * 10 + digits[place + 1] for place in (11, 14, 17))
        right &= (hour <= 23) & (minute <= 59) & (second <= 59)
        instants += ((hour * 60 + minute) * 60 + second) * 1_000_000
        for place in range(20, length - zone):
            instants += digits[place] * 10 ** (25 - place)
    return instants, right


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
