"""Dead letters of streams over HTTP: what there is, and putting it back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access_routes import audited
from shoal_core.aws.config import environment
from shoal_core.aws.streams import DeadLetterQueue, entrances
from shoal_core.registry.openapi import answers
from shoal_core.serving.streams.dead_letters import DeadLetter
from shoal_core.serving.streams.replaying import MAX_LETTERS, LetterPage, Replayed, look, replay

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
MAX_IDS = 1000
READS: Any = answers(400, 503)
WRITES: Any = answers(400, 404, 503)


class ReplayRequest(BaseModel):
    """Which dead letters to put back: those with an id of a list, those of a model, or all."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] | None = Field(default=None, min_length=1, max_length=MAX_IDS)
    model: str | None = None


@cache
def dead_letters() -> DeadLetterQueue:
    """The dead-letter queue."""
    return DeadLetterQueue(environment().dead_letter_queue)


@router.get("/streams/dead-letters", summary="Records that weren't answered, and why", responses=READS)
def get_dead_letters(
    model: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=MAX_LETTERS)] = 100
) -> LetterPage:
    """Show dead letters in the order of their records."""
    return look(dead_letters(), limit, model)


@router.post("/streams/dead-letters/replay", summary="Put records back, in order", responses=WRITES)
def post_replay(body: ReplayRequest) -> Replayed:
    """Put the records of dead letters back where they came from; at most 2,000 of them at a time."""
    return replay(dead_letters(), entrances(), ids=body.ids, model=body.model, announce=_announced)


def _announced(letters: Sequence[DeadLetter]) -> None:
    """Told before it happens: a record that is back without a word about it must not be."""
    details = {"letters": len(letters), "first": letters[0].id, "last": letters[-1].id}
    audited(router, "stream.replayed", letters[0].place.partition("/")[0], details)
