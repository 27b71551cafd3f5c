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

from shoal_core.data.tables.cells import NO_INSTANT, Cells, TypedValues
from shoal_core.data.tables.dates import date_features, parse_dates
from shoal_core.data.tables.hashing import ColumnDigests, Words, instant_digests, number_digests, text_digests
from shoal_core.data.tables.parsing import parse_numbers
from shoal_core.data.values import ValueKind, is_boolean_text, parse_text

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
    digests: dict[str, ColumnDigests]
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
    if width := len(table.number_names):
        numbers = done.tensors["numbers"] = np.empty((rows, width), np.float32)
        for place, number in enumerate(table.numbers):
            numbers[:, place] = _encode_numbers(number.name, column_of(number.name), done, digests)
        place = len(table.numbers)
        for date in table.dates:
            found = _encode_dates(date, column_of(date.name), done, digests)
            numbers[:, place : place + found.shape[1]] = found
            place += found.shape[1]
    if table.categories:
        codes = np.zeros((rows, len(table.categories)), np.int64)
        for index, category in enumerate(table.categories):
            codes[:, index] = encode_categories(category, column_of(category.name), done, digests)
        done.tensors["categories"] = codes
    if table.texts:
        # Texts are normalised with tables of Unicode that only models of texts need.
        from shoal_core.data.texts.near import near_columns
        from shoal_core.data.texts.tokens import encode_token_texts, token_texts

        tokens: list[NDArray[np.int32]] = []
        read: list[tuple[Cells, list[str | None]]] = []
        for text in table.texts:
            cells = column_of(text.name)
            texts = token_texts(_texts(text.name, cells, "text", done), text)
            tokens.append(cells.spread(encode_token_texts(texts, text), 0))
            if digests:
                # Of the tokens, not of the ids: a vocabulary that grows changes no hash.
                done.digests[text.name] = ColumnDigests(text_digests(texts), cells.codes)
            read.append((cells, texts))
        if near:
            done.near = near_columns(read, table.texts[0].unit)
        done.tensors["tokens"] = np.concatenate(tokens, axis=1)
    return done


def numbers_of(cells: Cells, wrong: dict[int, str]) -> NDArray[np.float64]:
    """Cells as numbers: float64 [N], NaN where missing or wrong; `wrong` takes why, by code."""
    values, problems = _numbers(cells)
    wrong.update(problems)
    return cells.spread(values, np.nan)


def instants_of(column: DateColumn, cells: Cells, wrong: dict[int, str]) -> NDArray[np.int64]:
    """Cells as microseconds since 1970: int64 [N], `NO_INSTANT` where missing or wrong."""
    values, problems = parse_dates(cells.values, column.order, column.unit)
    wrong.update(problems)
    return cells.spread(values, NO_INSTANT)


def meaning_digests(cells: Cells) -> ColumnDigests:
    """Digests of cells whatever their column is: a number if it is one, else its text; lists by their values."""
    values = cells.values
    if isinstance(values, TypedValues) and values.array.dtype.kind == "M":
        return ColumnDigests(instant_digests(values.instants), cells.codes)
    numbers, wrong = _numbers(cells)
    digests = number_digests(numbers)
    if wrong:
        digests[list(wrong)] = text_digests([_any_text(values[code]) for code in wrong])
    return ColumnDigests(digests, cells.codes)


def _numbers(cells: Cells) -> tuple[NDArray[np.float64], dict[int, str]]:
    """The values as numbers, found once: tensors and hashes are made of them."""
    if cells.numbers is None:
        cells.numbers = parse_numbers(cells.values)
    return cells.numbers


def _any_text(value: object) -> str | None:
    try:
        text = parse_text(value)
    except ValueError:
        return "*" + repr(value)
    # JSON's true is CSV's True.
    return text.casefold() if text is not None and is_boolean_text(text) else text


def _encode_numbers(name: str, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.float32]:
    found, wrong = _numbers(cells)
    numbers = found.astype(np.float32)
    done.problems += list_problems(
        name, cells, wrong, "Send a number, or leave the column out where the value is missing."
    )
    if digests:
        done.digests[name] = ColumnDigests(number_digests(numbers), cells.codes)
    return cells.spread(numbers, np.nan)


def _encode_dates(column: DateColumn, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.float32]:
    instants, wrong = parse_dates(cells.values, column.order, column.unit)
    done.problems += list_problems(
        column.name, cells, wrong, "Write it as in 2026-01-31 or 2026-01-31T12:30:00Z, or leave it out."
    )
    if digests:
        done.digests[column.name] = ColumnDigests(instant_digests(instants), cells.codes)
    return cells.spread(date_features(instants, column.features), np.nan)


def encode_categories(column: CategoryColumn, cells: Cells, done: Encoded, digests: bool) -> NDArray[np.int64]:
    """The codes of a column's cells: int64 [N]; `done` takes problems and, if asked for, digests."""
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
        done.digests[column.name] = ColumnDigests(text_digests(texts), cells.codes)
    return cells.spread(found, 0)


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
