"""`predict_piece`: the records of one piece with their predictions. Running it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from shoal_core.errors import NotFound
from shoal_core.keys import BatchKeys
from shoal_core.serving.batches.answering import Answering
from shoal_core.serving.batches.files import file_runs
from shoal_core.serving.batches.framing import Frame
from shoal_core.serving.batches.gathering import read_files
from shoal_core.serving.batches.inputs import read_inputs
from shoal_core.serving.batches.plan import BatchPlan, read_plan
from shoal_core.serving.batches.rows import write_rows
from shoal_core.serving.batches.tally import SHOWN_ERRORS, Counted, PieceIndex, Tally
from shoal_core.serving.sessions import ServedModel
from shoal_core.store import ObjectStore, StreamStore


class Versions(Protocol):
    """What predicting needs of the models in memory."""

    def version(self, name: str, version: int) -> ServedModel:
        """See `shoal_core.serving.sessions.ModelCache.version`."""
        ...


def predict_piece(
    uploads: ObjectStore, artifacts: StreamStore, models: Versions, keys: BatchKeys, piece: int
) -> PieceIndex:
    """Answer the records of one piece of a planned job.

    Memory is bounded by a block of the piece. What is written depends on the upload and the plan alone, so a killed or
    repeated call ends in the same objects.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where the plan is and the output goes.
        models: Versions of models.
        keys: The job's.
        piece: Number of the piece, from 0.

    Raises:
        NotFound: No such plan or piece.
        BadInput: The file as a whole can't be read any further.
    """
    if artifacts.exists(keys.piece_index(piece)):
        return PieceIndex.decode(artifacts.read(keys.piece_index(piece)))
    plan = read_plan(artifacts, keys)
    if not 0 <= piece < len(plan.pieces):
        raise NotFound(f"Job {keys.job!r} of model {keys.model!r} has no piece {piece}.")
    answering = Answering(models.version(plan.model, plan.version), plan.run_rows, plan.probabilities == "all")
    tally = Tally()
    key = keys.part(piece, plan.suffix_of(plan.pieces[piece]))
    counted = Counted(())

    def store(chunks: Iterable[bytes]) -> None:
        nonlocal counted
        counted = Counted(chunks)
        artifacts.write_stream(key, counted, "application/octet-stream")

    head, tail = 0, 0
    if plan.kind in ("rows", "windows"):
        head, tail = write_rows(uploads, artifacts, plan, plan.pieces[piece], answering, tally, store)
    else:
        store(_files(uploads, artifacts, plan, piece, answering, tally))
    if tally.entries:
        artifacts.write(keys.errors(piece), tally.lines(), "application/x-ndjson")
    index = PieceIndex(
        piece=piece,
        key=key,
        records=tally.records,
        errors=tally.codes.total(),
        codes=dict(sorted(tally.codes.items())),
        size=counted.size,
        head=head,
        tail=tail,
        sha256=counted.sha256,
        shown=tuple(tally.entries[:SHOWN_ERRORS]),
    )
    artifacts.write(keys.piece_index(piece), index.encode(), "application/json")
    return index


def _files(
    uploads: ObjectStore, artifacts: ObjectStore, plan: BatchPlan, piece: int, answering: Answering, tally: Tally
) -> Iterator[bytes]:
    files = read_inputs(artifacts, plan.keys)
    records = read_files(uploads, artifacts, plan, plan.pieces[piece], files)
    return Frame().around(file_runs(records, answering, tally))
