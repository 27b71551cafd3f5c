"""Records as JSON: what was sent, with `prediction` or `error` beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from shoal_core.data.tables.blocks import Block
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.rows import TableRow
from shoal_core.serving.batches.answering import Answer
from shoal_core.serving.batches.framing import Frame
from shoal_core.serving.batches.merging_rows import in_order
from shoal_core.serving.batches.tally import RecordError, Tally, error_fields

_OURS = "shoal_"


class JsonOutput:
    """Writes rows of JSONL or of a JSON array.

    Args:
        name: The table's name.
        form: Its format.
        tally: Counts records.
    """

    def __init__(self, name: str, form: TableFormat, tally: Tally) -> None:
        self._name, self._tally, self._unit = name, tally, form.unit
        self._separator = b",\n" if form.kind == "json" else b"\n"
        whole = Frame(b"[\n", b",\n", b"\n]\n", form.packing)
        self.frame = whole if form.kind == "json" else Frame(packing=form.packing)
        self._ending = b"" if form.kind == "json" else b"\n"

    def block(self, block: Block, outcomes: Sequence[Answer | RecordError]) -> bytes:
        """The bytes of a block's records, in order."""
        lines = [self._line(row, outcome) for row, outcome in in_order(block.rows, outcomes, block.bad, self._unit)]
        return self._separator.join(lines) + self._ending if lines else b""

    def _line(self, row: TableRow, outcome: Answer | RecordError) -> bytes:
        if not isinstance(outcome, RecordError):
            self._tally.good(1)
            return record_line(row.values, outcome)
        values: Mapping[str, Any] = row.values
        raw: object = None if row.code else json.dumps(values, ensure_ascii=False)
        if row.code:
            raw = row.raw.decode("utf-8", "replace").strip()
            values = {"raw": raw}
        self._tally.bad(self._name, f"{self._unit} {row.line}", outcome, raw)
        return record_line(values, outcome)


def record_line(values: Mapping[str, Any], outcome: Answer | RecordError) -> bytes:
    """One record: its values, and `prediction` or `error`; `shoal_prediction` where it has a field of that name."""
    if isinstance(outcome, RecordError):
        name, told = "error", error_fields(outcome)
    else:
        name, told = "prediction", outcome
    record = {**values, f"{_OURS}{name}" if name in values else name: told}
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:  # Python reads NaN and infinities, which other readers of JSON refuse
        record = _finite(record)
        text = json.dumps(record, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON may hold lone surrogates, which UTF-8 can't
        return json.dumps(record).encode()


def _finite(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """The value with null for numbers that JSON doesn't have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
