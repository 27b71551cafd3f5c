"""The records of a piece of files: images or texts to answers to lines of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.spec import ImageInput, TextColumn
from shoal_core.data.texts.decoding import decode_text
from shoal_core.errors import BadInput
from shoal_core.serving.batches.answering import Answering
from shoal_core.serving.batches.gathering import FileRecord
from shoal_core.serving.batches.json_output import record_line
from shoal_core.serving.batches.tally import RecordError, Tally

_RUNS = 4
_MAX_TEXT_BYTES = 4 * 1024**2


class _Batch(Protocol):
    """Files that go through the model together."""

    @property
    def full(self) -> bool:
        """Whether it has to be taken."""
        ...

    def add(self, record: FileRecord) -> None:
        """Take one file in. Raises `BadInput` when the model can't take it."""
        ...

    def take(self) -> tuple[dict[str, NDArray[Any]], int]:
        """The tensors of the files, and their number; the batch is empty after that."""
        ...


class _Images:
    def __init__(self, form: ImageInput, size: int) -> None:
        # Pillow is loaded only where images are.
        from shoal_core.data.images.decoding import decode_image
        from shoal_core.data.images.png import Scratch

        self._decode, self._form, self._count = decode_image, form, 0
        self._scratch: Scratch = {}
        self._images = np.empty((size, form.channels, form.height, form.width), np.uint8)

    @property
    def full(self) -> bool:
        return self._count == len(self._images)

    def add(self, record: FileRecord) -> None:
        self._images[self._count] = self._decode(record.data, self._form, repr(record.name), self._scratch)
        self._count += 1

    def take(self) -> tuple[dict[str, NDArray[Any]], int]:
        count, self._count = self._count, 0
        return {"image": self._images[:count]}, count


class _Texts:
    def __init__(self, answering: Answering, column: TextColumn, size: int) -> None:
        self._spec, self._column, self._size = answering.model.spec, column, size
        self._texts: list[str] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self._texts) >= self._size or self._bytes >= _MAX_TEXT_BYTES

    def add(self, record: FileRecord) -> None:
        self._texts.append(decode_text(record.data, repr(record.name)))
        self._bytes += len(record.data)

    def take(self) -> tuple[dict[str, NDArray[Any]], int]:
        texts, self._texts, self._bytes = self._texts, [], 0
        return self._spec.encode_rows([{self._column.name: text} for text in texts]) if texts else {}, len(texts)


def file_runs(records: Iterable[FileRecord], answering: Answering, tally: Tally) -> Iterator[bytes]:
    """Lines of JSON, one per file, in the order of the files: `file`, and `prediction` or `error`.

    Memory is bounded by a few runs of the model.
    """
    batch = _batch(answering)
    waiting: list[tuple[str, RecordError | None]] = []
    for record in records:
        error = RecordError(record.code, f"{record.name!r}: {record.reason}.", record.fix) if record.code else None
        if error is None:
            try:
                batch.add(record)
            except BadInput as problem:
                code = "bad_image" if isinstance(batch, _Images) else "bad_text"
                error = RecordError(code, problem.reason, problem.fix)
        waiting.append((record.name, error))
        if batch.full or len(waiting) >= 16 * answering.run_rows + 1024:
            yield _lines(waiting, batch, answering, tally)
            waiting.clear()
    yield _lines(waiting, batch, answering, tally)


def _batch(answering: Answering) -> _Batch:
    spec, size = answering.model.spec, _RUNS * answering.run_rows
    if spec.image is not None:
        return _Images(spec.image, size)
    if spec.table is None or len(spec.table.texts) != 1:
        raise BadInput("The model takes neither images nor texts.", "Upload what it was trained on.")
    return _Texts(answering, spec.table.texts[0], size)


def _lines(waiting: list[tuple[str, RecordError | None]], batch: _Batch, answering: Answering, tally: Tally) -> bytes:
    found = iter(answering.answer(*batch.take()))
    lines: list[bytes] = []
    for name, error in waiting:
        outcome = next(found) if error is None else error
        if isinstance(outcome, RecordError):
            tally.bad(name, "", outcome)
        else:
            tally.good(1)
        lines.append(record_line({"file": name}, outcome))
    return b"".join(line + b"\n" for line in lines)
