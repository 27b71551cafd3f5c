"""Columns of cells to tensors: what `PreprocessingSpec` does, in training and in serving alike.

Every function understands the distinct values of a column one by one (`data.values`, `dates`), and spreads the answers
over the rows. A value that its column can't hold is told as a `Problem`; its row's tensor holds nothing of use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import NO_INSTANT, Cells
from shoal_core.data.tables.dates import date_features, parse_date
from shoal_core.data.tables.hashing import Words, instant_digests, number_digests, text_digests
from shoal_core.data.values import ValueKind, is_boolean_text, number_text, parse_number, parse_text

if TYPE_CHECKING:
    from shoal_core.data.spec import CategoryColumn, DateColumn, TableInput


@dataclass(frozen=True)
class Problem:
    """A value that its column can't hold: row (from 0), column, raw value, why, and what to do."""

    row: int
    column: str
    value: object
    reason: str
    fix: str


@dataclass
class Encoded:
    """Tensors of rows, the values that couldn't be encoded, and the digests of what each column means.

    `near` uint64 [N,8] tells which rows have nearly equal texts: see `texts.near`.
    """

    tensors: dict[str, NDArray[Any]]
    problems: list[Problem]
    digests: dict[str, Words]
    near: Words | None = None


def encode_columns(
    table: TableInput, column_of: Callable[[str], Cells], rows: int, *, digests: bool = False, near: bool = False
) -> Encoded:
    """Encode all columns that a table's spec reads.

    Args:
        table: The columns.
        column_of: Gives a column's cells.
        rows: Number of rows.
        digests: Whether to make digests, too (they aren't needed to predict).
        near: Whether to make `near` of texts.

    Returns:
        `numbers` float32 [N,F], `categories` int64 [N,K] and `tokens` int32 [N,L], those that the spec has.
    """
    done = Encoded({}, [], {})
    numbers: list[NDArray[np.float32]] = []
    for number in table.numbers:
        numbers.append(_encode_numbers(number.name, column_of(number.name), done, digests)[:, None])
    for date in table.dates:
        numbers.append(_encode_dates(date, column_of(date.name), done, digests))
    if numbers:
        done.tensors["numbers"] = np.concatenate(numbers, axis=1)
    if table.categories:
        codes = np.zeros((rows, len(table.categories)), np.int64)
        for index, category in enumerate(table.categories):
            codes[:, index] = _encode_categories(category, column_of(category.name), done, digests)
        done.tensors["categories"] = codes
    if table.texts:
        # Texts are normalised with tables of Unicode that only models of texts need.
        from shoal_core.data.texts.near import near_columns
        from shoal_core.data.texts.tokens import encode_token_texts, token_texts

        tokens: list[NDArray[np.int32]] = []
        found: list[tuple[Cells, list[str | None]]] = []
        for text in table.texts:
            cells = column_of(text.name)
            texts = token_texts(_texts(text.name, cells, "text", done), text)
            tokens.append(cells.spread(encode_token_texts(texts, text), 0))
            if digests:
                # Of the tokens, not of the ids: a vocabulary that grows changes no hash.
                done.digests[text.name] = cells.spread(text_digests(texts), 0)
            found.append((cells, texts))
        if near:
            done.near = near_columns(found, table.texts[0].unit)
        done.tensors["tokens"] = np.concatenate(tokens, axis=1)
    return done


def numbers_of(cells: Cells, wrong: dict[int, str]) -> NDArray[np.float64]:
    """Cells as numbers: float64 [N], NaN where missing or wrong; `wrong` takes why, by code."""
    values = np.full(len(cells.values), np.nan)
    for code, value in enumerate(cells.values):
        try:
            number = parse_number(value)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        if number is not None:
            values[code] = number
    # Adding zero turns -0.0 into 0.0: equal numbers have equal tensors and hashes.
    return np.asarray(cells.spread(values, np.nan if cells.numbers is None else cells.numbers) + 0.0, np.float64)


def instants_of(column: DateColumn, cells: Cells, wrong: dict[int, str]) -> NDArray[np.int64]:
    """Cells as microseconds since 1970: int64 [N], `NO_INSTANT` where missing or wrong."""
    values = np.full(len(cells.values), NO_INSTANT)
    for code, value in enumerate(cells.values):
        try:
            instant = parse_date(value, column.order, column.unit)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        if instant is not None:
            values[code] = instant
    rest = np.full(len(cells), NO_INSTANT) if cells.instants is None else cells.instants
    return cells.spread(values, rest)


def meaning_digests(cells: Cells) -> Words:
    """Digests of cells whatever their column is: a number if it is one, else its text; lists by their values."""
    texts: list[str | None] = []
    numbers = np.full(len(cells.values), np.nan)
    for code, value in enumerate(cells.values):
        try:
            number = parse_number(value)
        except ValueError:
            texts.append(_any_text(value))
            continue
        texts.append(None)
        numbers[code] = np.nan if number is None else number
    digests = text_digests(texts)
    are_numbers = ~np.isnan(numbers)
    digests[are_numbers] = number_digests(numbers[are_numbers])
    if cells.numbers is not None:
        return cells.spread(digests, number_digests(cells.numbers))
    if cells.instants is not None:
        return cells.spread(digests, instant_digests(cells.instants))
    return cells.spread(digests, 0)


def _any_text(value: object) -> str | None:
    try:
        text = parse_text(value)
    except ValueError:
        return "*" + repr(value)
    # JSON's true is CSV's True.
    return text.casefold() if text is not None and is_boolean_text(text) else text


def _encode_numbers(name: str, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.float32]:
    fix = "Send a number, or leave the column out where the value is missing."
    wrong: dict[int, str] = {}
    numbers = numbers_of(cells, wrong).astype(np.float32)
    done.problems += list_problems(name, cells, wrong, fix)
    if digests:
        done.digests[name] = number_digests(numbers)
    return numbers


def _encode_dates(column: DateColumn, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.float32]:
    fix = "Write it as in 2026-01-31 or 2026-01-31T12:30:00Z, or leave it out."
    wrong: dict[int, str] = {}
    instants = instants_of(column, cells, wrong)
    done.problems += list_problems(column.name, cells, wrong, fix)
    if digests:
        done.digests[column.name] = instant_digests(instants)
    return date_features(instants, column.features)


def _encode_categories(column: CategoryColumn, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.int64]:
    cells = with_values(cells, column.kind)
    texts = _texts(column.name, cells, column.kind, done)
    codes = column.codes
    found = np.array([0 if text is None else codes.get(text, -1) for text in texts], np.int64).reshape(len(texts))
    unknown = found < 0
    found[unknown] = 0
    if column.buckets and unknown.any():
        strange = [texts[code] for code in np.flatnonzero(unknown).tolist()]
        hashed = text_digests(strange)[:, 0]
        found[unknown] = 1 + len(column.categories) + (hashed % np.uint64(column.buckets)).astype(np.int64)
    if digests:
        done.digests[column.name] = cells.spread(text_digests(texts), 0)
    return cells.spread(found, 0)


def with_values(cells: Cells, kind: ValueKind) -> Cells:
    """Cells that have a raw value for every row that isn't missing."""
    if cells.numbers is None and cells.instants is None:
        return cells
    if cells.numbers is not None:
        distinct, codes = np.unique(cells.numbers, return_inverse=True)
        fresh: list[Any] = [number_text(number) if number == number else None for number in distinct.tolist()]
    else:
        distinct, codes = np.unique(cells.instants if cells.instants is not None else [], return_inverse=True)
        fresh = [None if value == NO_INSTANT else str(np.datetime64(value, "us")) for value in distinct.tolist()]
    merged = np.where(cells.codes >= 0, cells.codes, codes + len(cells.values)).astype(np.int32)
    return Cells(merged, [*cells.values, *fresh])


def _texts(name: str, cells: Cells, kind: ValueKind, done: Encoded) -> list[str | None]:
    wrong: dict[int, str] = {}
    texts: list[str | None] = []
    for code, value in enumerate(cells.values):
        try:
            texts.append(parse_text(value, kind))
        except ValueError as error:
            wrong[code] = str(error)
            texts.append(None)
    done.problems += list_problems(name, cells, wrong, "Correct the value or leave it out.")
    return texts


def list_problems(name: str, cells: Cells, wrong: Mapping[int, str], fix: str) -> list[Problem]:
    """One problem per row that holds a wrong value, in the order of the rows; `wrong` says why, by code."""
    if not wrong:
        return []
    rows = np.flatnonzero(np.isin(cells.codes, list(wrong)))
    codes = cells.codes[rows].tolist()
    return [
        Problem(row, name, cells.values[code], wrong[code], fix) for row, code in zip(rows.tolist(), codes, strict=True)
    ]


def columns_of_rows(rows: Sequence[Mapping[str, object]]) -> Callable[[str], Cells]:
    """Gives columns of rows that are mappings; an absent key is a missing value."""
    return lambda name: Cells.of([row.get(name) for row in rows])
