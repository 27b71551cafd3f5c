"""One cell of a table, whether it came as CSV text or as a JSON value: the same meaning either way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

# What a class or a category is made of. Each kind has one text per value: `True` and `true` are one boolean,
# `1` and `1.0` are one number.
ValueKind = Literal["text", "boolean", "number"]

MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?"})
_BOOLEANS = frozenset({"true", "false"})
FLOAT32_MAX = 3.4028234663852886e38
_DIGITS = re.compile(r"(\d+)")


def is_missing(value: object) -> bool:
    """Whether a cell counts as missing: None, NaN or one of the `MISSING` markers, spaces around it ignored."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip() in MISSING
    return isinstance(value, float) and math.isnan(value)


def parse_number(value: object) -> float | None:
    """A cell as a number, None when missing.

    Raises:
        ValueError: The cell isn't a number that a 32-bit float can hold. Booleans aren't numbers.
    """
    if type(value) is str:
        value = value.strip()
        if value in MISSING:
            return None
    elif is_missing(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it isn't a number")
    try:
        if isinstance(value, str) and "_" in value:
            raise ValueError("Python's 1_000 isn't a number here")
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError("it isn't a number") from error
    if not math.isfinite(number) or abs(number) > FLOAT32_MAX:
        raise ValueError("it is infinite or too large for a 32-bit number")
    return number


def parse_text(value: object, kind: ValueKind = "text") -> str | None:
    """A cell as the text of its class or category, None when missing.

    Raises:
        ValueError: The cell can't be of that kind (a list, or `x` in a column of numbers).
    """
    if type(value) is str and kind == "text":
        # By far the most frequent case.
        text = value.strip()
        return None if text in MISSING else text if text.isascii() else text.encode("utf-8", "replace").decode()
    if is_missing(value):
        return None
    if kind == "number":
        number = parse_number(value)
        return None if number is None else number_text(number)
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = value.strip()
        if not text.isascii():
            # JSON may hold lone surrogates, which no file can.
            text = text.encode("utf-8", "replace").decode()
    elif isinstance(value, int | float):
        text = repr(value)
    else:
        raise ValueError("it isn't one value")
    if kind == "boolean":
        text = text.casefold()
        if text not in _BOOLEANS:
            raise ValueError("it isn't true or false")
    return text


def number_text(number: float) -> str:
    """The shortest text of a number; whole numbers have no fraction."""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def is_boolean_text(text: str) -> bool:
    """Whether a text is true or false, in any case."""
    return text.casefold() in _BOOLEANS


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `10` after `9`; ties between equal keys are broken by the text itself."""
    parts: list[tuple[int, int, str]] = []
    for part in _DIGITS.split(text):
        if part and part.isdecimal() and len(part) < 4000:
            parts.append((0, int(part), ""))
        elif part:
            parts.append((1, 0, part))
    return tuple(parts)


def sort_naturally(texts: Iterable[str]) -> list[str]:
    """Texts in natural order: numbers inside them by value."""

    def key(text: str) -> tuple[int, float, tuple[tuple[int, int, str], ...], str]:
        try:
            number = float(text)
        except ValueError:
            return (1, 0.0, natural_key(text), text)
        # Signs and fractions need the number as a whole.
        return (0, number, (), text) if math.isfinite(number) else (1, 0.0, natural_key(text), text)

    return sorted(texts, key=key)
