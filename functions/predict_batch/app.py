"""Predict Batch: the records of one piece, with their predictions."""

from __future__ import annotations

from functools import cache
from typing import Any

from shoal_core.aws.config import memory_mb
from shoal_core.aws.handler import BatchEvent, artifacts, batch_stage, batches, catalog, uploads
from shoal_core.keys import BatchKeys
from shoal_core.serving.batches.predicting import predict_piece
from shoal_core.serving.sessions import ModelCache


class PieceEvent(BatchEvent):
    """One item of the Map."""

    piece: int


@cache
def models() -> ModelCache:
    """Versions that this worker has loaded."""
    return ModelCache(artifacts(), catalog(), memory_mb())


@batch_stage("Predict Batch", PieceEvent)
def handler(event: PieceEvent) -> dict[str, Any]:
    """Answer the piece."""
    index = predict_piece(uploads(), artifacts(), models(), BatchKeys(event.model, event.job), event.piece)
    batches().predicted(event.model, event.job, event.piece, index.records, index.errors)
    return {"piece": event.piece, "records": index.records, "errors": index.errors}
