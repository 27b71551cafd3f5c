"""The records of a piece of a table: rows to answers to bytes, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol

from shoal_core.data.config import SourceFile
from shoal_core.data.plan import RowGroupSlice, TableParts, TableSlice
from shoal_core.data.requests import open_source
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.tables.blocks import Block, read_blocks
from shoal_core.data.tables.columns import encode_columns
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.frames import Frame
from shoal_core.data.tables.parquet import MAGIC, read_footer, spool_groups
from shoal_core.data.tables.partitions import partition_of
from shoal_core.data.tables.reading import TableReader, with_partition
from shoal_core.data.tables.rows import TableRow
from shoal_core.data.tables.scanning import plain_form
from shoal_core.data.tables.targets import describe_problem
from shoal_core.errors import BadInput
from shoal_core.serving.batches import framing
from shoal_core.serving.batches.answering import Answer, Answering
from shoal_core.serving.batches.columns import AnswerColumns
from shoal_core.serving.batches.csv_output import CsvOutput
from shoal_core.serving.batches.json_output import JsonOutput
from shoal_core.serving.batches.parquet_output import AnswerFile, chunks_of, tail_of, write_part
from shoal_core.serving.batches.plan import BatchPlan, Piece
from shoal_core.serving.batches.tally import RecordError, Tally
from shoal_core.store import ObjectStore

Outcome = Answer | RecordError


class RowOutput(Protocol):
    """How rows are written."""

    frame: framing.Frame

    def block(self, block: Block, outcomes: Sequence[Outcome]) -> bytes:
        """The bytes of a block's records, in order."""
        ...


def write_rows(
    uploads: ObjectStore,
    artifacts: ObjectStore,
    plan: BatchPlan,
    piece: Piece,
    answering: Answering,
    tally: Tally,
    store: Callable[[Iterator[bytes]], None],
) -> tuple[int, int]:
    """Answer the rows of a piece, and give their bytes to `store`.

    Returns:
        The bytes before and after the records.
    """
    source, form = plan.sources[plan.file_of(piece)], plan.formats[plan.file_of(piece)]
    spec, name = answering.model.spec, source.name or source.key
    columns = AnswerColumns(spec.target, plan.probabilities == "all", form.columns, answering.gives_vectors)
    if isinstance(piece, RowGroupSlice):
        return _write_groups(uploads, source, piece, answering, columns, tally, store)
    if not isinstance(piece, TableSlice | TableParts):
        raise BadInput(f"A piece of job {plan.job!r} holds no rows.", "Upload the data again.")
    output: RowOutput
    output = CsvOutput(name, form, columns, tally) if form.kind == "csv" else JsonOutput(name, form, tally)
    answer = _windows if spec.kind == "sequence" else _rows
    read = form if form.divisible else plain_form(form)

    def runs() -> Iterator[bytes]:
        with TableReader() as reader:
            for part in _parts(piece):
                with _open(uploads, artifacts, plan, source, part) as stream:
                    first = part.start == 0 and part.line == 0
                    for block in read_blocks(stream, name, read, part.start, part.stop, part.line, first=first):
                        yield output.block(block, answer(reader, block, read, name, answering))

    store(output.frame.around(runs()))
    return len(output.frame.pack(output.frame.head)), len(output.frame.pack(output.frame.tail))


def _parts(piece: TableSlice | TableParts) -> list[TableSlice]:
    parts = piece.parts if isinstance(piece, TableParts) else (piece,)
    return [part for part in parts if isinstance(part, TableSlice)]


def _open(
    uploads: ObjectStore, artifacts: ObjectStore, plan: BatchPlan, source: SourceFile, part: TableSlice
) -> BinaryIO:
    return open_source(uploads, source) if part.block is None else artifacts.open(plan.keys.block(part.block))


def _rows(reader: TableReader, block: Block, form: TableFormat, name: str, answering: Answering) -> list[Outcome]:
    frame = with_partition(reader.frame(block, form), partition_of(name))
    return answer_frame(frame, answering, form.unit)


def answer_frame(frame: Frame, answering: Answering, unit: str) -> list[Outcome]:
    """What comes of the good rows of a frame: an answer, or which value its column can't hold."""
    spec, rows = answering.model.spec, len(frame.lines)
    table = spec.table
    if table is None:
        raise BadInput("The model takes no rows.", "Upload what it was trained on.")
    encoded = encode_columns(table, frame.cells, rows)
    found: list[Outcome] = list(answering.answer(encoded.tensors, rows))
    # The first problem of a row is the one that is told.
    for problem in reversed(encoded.problems):
        place = f"{unit.capitalize()} {int(frame.lines[problem.row])}"
        found[problem.row] = RecordError("bad_value", describe_problem(problem, place), problem.fix)
    return found


def _windows(reader: TableReader, block: Block, form: TableFormat, name: str, answering: Answering) -> list[Outcome]:
    """Windows of rows; where one is bad, each is looked at alone."""
    del reader, name
    spec = answering.model.spec
    values = [row.values for row in block.rows]
    try:
        return list(answering.answer(spec.encode_windows(values), len(values))) if values else []
    except BadInput:
        return _each_window(spec, block.rows, form, answering)


def _each_window(
    spec: PreprocessingSpec, rows: Sequence[TableRow], form: TableFormat, answering: Answering
) -> list[Outcome]:
    found: list[Outcome] = []
    for row in rows:
        try:
            found += answering.answer(spec.encode_windows([row.values]), 1)
        except BadInput as error:
            place = f"{form.unit.capitalize()} {row.line}"
            found.append(RecordError("bad_window", error.reason.replace("Instance 1", place, 1), error.fix))
    return found


def _write_groups(
    uploads: ObjectStore,
    source: SourceFile,
    piece: RowGroupSlice,
    answering: Answering,
    columns: AnswerColumns,
    tally: Tally,
    store: Callable[[Iterator[bytes]], None],
) -> tuple[int, int]:
    """Row groups of Parquet: answers go to a file, and DuckDB puts both side by side."""
    name = source.name or source.key
    with TableReader() as reader, open_source(uploads, source) as stream:
        folder = reader.engine.folder
        footer = read_footer(stream, name, source.size)
        answers = AnswerFile(folder / "answers.csv", columns)
        for frame in reader.parquet_frames(stream, footer, piece.first, piece.last, piece.row):
            outcomes = answer_frame(with_partition(frame, partition_of(name)), answering, "row")
            answers.add(outcomes)
            for line, outcome in zip(frame.lines.tolist(), outcomes, strict=True):
                if isinstance(outcome, RecordError):
                    tally.bad(name, f"row {line}", outcome)
                else:
                    tally.good(1)
        answers.close()
        groups, part = folder / "piece.parquet", folder / "part.parquet"
        spool_groups(stream, footer, piece.first, piece.last, groups)
        write_part(reader.engine, groups, answers, part)
        store(chunks_of(part))
        return len(MAGIC), tail_of(part)
