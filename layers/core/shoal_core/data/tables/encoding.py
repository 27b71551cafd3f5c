"""Encoding the rows of one work item of a table: tensors with content hashes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.pieces import FEATURE_HASH, PLACE, ROW_HASH, hash_array
from shoal_core.data.plan import Plan, TableSlice
from shoal_core.data.report import DropTally
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.splits import content_hash
from shoal_core.data.tables.formats import TableFormat, TableRow, read_rows
from shoal_core.data.values import is_missing, number_text, parse_number, parse_text
from shoal_core.errors import BadInput, BadTable
from shoal_core.store import ObjectStore

_BATCH_ROWS = 2048


def encode_table(uploads: ObjectStore, plan: Plan, item: TableSlice, drops: DropTally) -> Tensors | None:
    """Encode a byte range of a table; None when no sample is left. See `samples.encode_item`."""
    source = plan.one_source
    if plan.table is None:
        raise BadInput(f"The plan of {plan.dataset!r} has no table format.", "Upload the data again.")
    batches: list[Tensors] = []
    with uploads.open(source.key, source.version) as stream:
        rows = read_rows(stream, plan.source_name, plan.table, item.start, item.stop, item.line)
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            encoded = _encode_batch(batch, plan, plan.table, drops)
            if encoded is not None:
                batches.append(encoded)
    if not batches:
        return None
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _encode_batch(batch: Sequence[TableRow], plan: Plan, form: TableFormat, drops: DropTally) -> Tensors | None:
    column = plan.spec.target.column or ""
    good: list[TableRow] = []
    for row in batch:
        place = f"line {row.line}"
        if row.code:
            drops.add(plan.source_name, place, row.code, f"Line {row.line}: {row.reason}.", row.fix)
        elif is_missing(row.values.get(column)):
            reason = f"Line {row.line}: the target {column!r} is missing."
            drops.add(plan.source_name, place, "missing_target", reason, "Fill it in.")
        else:
            good.append(row)
    tensors = _encode_rows(good, plan, drops)
    if tensors is None:
        return None
    kept, encoded = tensors
    encoded[FEATURE_HASH] = hash_array(_feature_hashes(kept, encoded, plan.spec))
    encoded[PLACE] = np.array([f"line {row.line}" for row in kept], object)
    names = sorted(form.columns)
    encoded[ROW_HASH] = hash_array([content_hash(*(_cell(row.values.get(name)) for name in names)) for row in kept])
    return encoded


def _encode_rows(rows: list[TableRow], plan: Plan, drops: DropTally) -> tuple[list[TableRow], Tensors] | None:
    """Encode all rows at once; when one can't be encoded, one by one, so that only the bad ones are dropped."""
    if not rows:
        return None
    try:
        return rows, _tensors(rows, plan.spec)
    except BadTable:
        good: list[TableRow] = []
        for row in rows:
            try:
                _tensors([row], plan.spec)
                good.append(row)
            except BadTable as error:
                reason = error.reason.replace("Row ", "Line ", 1)
                drops.add(plan.source_name, f"line {row.line}", "bad_value", reason, error.fix)
        return (good, _tensors(good, plan.spec)) if good else None


def _tensors(rows: Sequence[TableRow], spec: PreprocessingSpec) -> dict[str, NDArray[Any]]:
    first = rows[0].line
    tensors = spec.encode_rows([row.values for row in rows], first)
    tensors["target"] = spec.encode_target([row.values.get(spec.target.column or "") for row in rows], first)
    return tensors


def _feature_hashes(rows: Sequence[TableRow], encoded: Tensors, spec: PreprocessingSpec) -> list[bytes]:
    """Hash what the model sees: numbers as encoded, categories by text (a growing vocabulary changes no hash)."""
    table = spec.table
    if table is None:
        return []
    order = sorted(range(len(table.numbers)), key=lambda index: table.numbers[index].name)
    names = [f"{table.numbers[index].name}" for index in order]
    # Adding zero turns -0.0 into 0.0: equal numbers have equal hashes.
    numbers = encoded["numbers"][:, order] + np.float32(0) if order else np.empty((len(rows), 0), np.float32)
    categories = sorted(table.categories, key=lambda column: column.name)
    header = content_hash(*(name.encode() for name in (*names, "", *(column.name for column in categories))))
    hashes: list[bytes] = []
    for row, values in zip(rows, np.ascontiguousarray(numbers, "<f4"), strict=True):
        texts = (parse_text(row.values.get(column.name), column.kind) for column in categories)
        cells = (b"\0" if text is None else b"=" + text.encode() for text in texts)
        hashes.append(content_hash(b"row", header, values.tobytes(), *cells))
    return hashes


def _cell(value: object) -> bytes:
    """One cell's meaning as bytes, the same for CSV and JSON."""
    if is_missing(value):
        return b"\0"
    try:
        number = parse_number(value)
    except ValueError:
        number = None
    if number is not None:
        return b"#" + number_text(number).encode()
    try:
        return b"=" + (parse_text(value) or "").encode()
    except ValueError:
        return b"*" + repr(value).encode("utf-8", "replace")
