"""Looking at dead letters, and putting their records back: in order, each once, after the cause is mended."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.errors import BadRequest, NotFound
from shoal_core.frozen import Frozen
from shoal_core.serving.streams.dead_letters import DeadLetter, letter_of
from shoal_core.serving.streams.packing import Keyed, requests
from shoal_core.serving.streams.records import Record
from shoal_core.serving.streams.wrapping import Replay, unwrap, wrap
from shoal_core.store import ObjectStore

HOLD_SECONDS = 120
"""How long nobody else sees the letters that one call works on: longer than the API may take."""
GATHER_SECONDS = 15.0
MAX_LETTERS = 2000
MAX_MESSAGE_BYTES = 250 * 1024
_EMPTY_RECEIVES = 2


class DeadLetters(Protocol):
    """The dead-letter queue. Raises `Unavailable`."""

    def receive(self, visibility_seconds: int, wait_seconds: int) -> list[dict[str, Any]]:
        """At most ten messages, as SQS gives them, which nobody else sees for a while."""
        ...

    def show(self, handles: Sequence[str]) -> None:
        """Make received messages visible again."""
        ...

    def delete(self, handles: Sequence[str]) -> None:
        """Delete received messages."""
        ...


class RequestStream(Protocol):
    """The stream that records are put back into. Raises `Unavailable`."""

    name: str

    def put(self, request: Sequence[Keyed]) -> None:
        """Put one request's records, all of them."""
        ...

    def read(self, shard: str, first: str, last: str) -> Iterable[Mapping[str, Any]]:
        """The records of a shard from one sequence number to another, as GetRecords has them."""
        ...


class RequestQueue(Protocol):
    """The queue that messages are put back into. Raises `Unavailable`."""

    name: str

    def send_bodies(self, bodies: Iterable[str]) -> None:
        """Send messages."""
        ...


@dataclass
class Held:
    """A dead letter that is held, with the receipt handles of all messages that tell it."""

    letter: DeadLetter
    handles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Again:
    """One record to put back."""

    key: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode())


class LetterView(Frozen):
    """A dead letter as it is shown: the first of its bytes only."""

    model_config = ConfigDict(extra="ignore")

    id: str
    origin: str
    place: str
    key: str
    record_id: str
    model: str
    error: str
    reason: str
    fix: str
    attempts: int
    arrived_at: str
    died_at: str
    data: str = Field(description="its first 200 bytes, as text")


class LetterPage(BaseModel):
    """Dead letters in order, and whether there are more than these."""

    letters: list[LetterView]
    more: bool


class Replayed(BaseModel):
    """What a replay did.

    Attributes:
        replayed: Records that were put back.
        kept: Dead letters that couldn't be put back, with why; they stay in the queue.
        more: Whether there are letters that this call didn't look at.
    """

    replayed: int
    kept: dict[str, str]
    more: bool


def gather(
    queue: DeadLetters, limit: int = MAX_LETTERS, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Held], bool]:
    """Take hold of dead letters: each once, however often it was told, in the order of their records.

    Args:
        queue: The dead-letter queue.
        limit: At most so many.
        clock: Seconds.

    Returns:
        The letters, and whether there may be more.
    """
    held: dict[str, Held] = {}
    deadline, empty = clock() + GATHER_SECONDS, 0
    while empty < _EMPTY_RECEIVES:
        if len(held) >= limit or clock() > deadline:
            return _in_order(held.values()), True
        # A short poll may miss messages that are there; a second one waits, and asks every server of SQS.
        messages = queue.receive(HOLD_SECONDS, 1 if empty else 0)
        empty = 0 if messages else empty + 1
        for message in messages:
            attributes = {str(name): str(value) for name, value in (message.get("Attributes") or {}).items()}
            letter = letter_of(str(message["Body"]), str(message["MessageId"]), attributes)
            held.setdefault(letter.id, Held(letter)).handles.append(str(message["ReceiptHandle"]))
    return _in_order(held.values()), False


def _in_order(held: Iterable[Held]) -> list[Held]:
    """A shard's letters by sequence number, a queue's by when they arrived."""

    def position(each: Held) -> tuple[str, int, str, str]:
        letter = each.letter
        number = int(letter.sequence) if letter.sequence.isdigit() else 0
        return letter.place, number, letter.arrived_at, letter.sequence

    return sorted(held, key=position)


def handles_of(held: Iterable[Held]) -> list[str]:
    """The receipt handles of letters."""
    return [handle for each in held for handle in each.handles]


def look(queue: DeadLetters, limit: int, model: str | None = None) -> LetterPage:
    """Show dead letters, and let go of them again."""
    held, more = gather(queue, MAX_LETTERS)
    queue.show(handles_of(held))
    wanted = [each.letter for each in held if model in (None, each.letter.model)]
    return LetterPage(letters=[_view(letter) for letter in wanted[:limit]], more=more or len(wanted) > limit)


def _view(letter: DeadLetter) -> LetterView:
    text = base64.b64decode(letter.data)[:200].decode("utf-8", "replace") if letter.data else ""
    fields = letter.model_dump(include=set(LetterView.model_fields) - {"data"})
    return LetterView(**fields, data=text)


def choose(held: Sequence[Held], ids: Collection[str] | None, model: str | None) -> list[Held]:
    """The letters that a replay is about. Raises `NotFound` for an id that isn't there."""
    chosen = [
        each
        for each in held
        if (ids is None or each.letter.id in ids) and (model is None or each.letter.model == model)
    ]
    missing = sorted(set(ids or ()) - {each.letter.id for each in chosen})
    if missing:
        raise NotFound(
            f"There is no dead letter {missing[0][:300]!r}.", "See `shoal stream dead list` for those there are."
        )
    return chosen


@dataclass(frozen=True)
class Entrances:
    """Where records are put back: the stream (None when the stack has none) and the queue."""

    stream: RequestStream | None
    queue: RequestQueue
    artifacts: ObjectStore


def replay(
    letters: DeadLetters,
    entrances: Entrances,
    *,
    ids: Collection[str] | None = None,
    model: str | None = None,
    announce: Callable[[Sequence[DeadLetter]], None],
) -> Replayed:
    """Put the records of dead letters back.

    Args:
        letters: The dead-letter queue.
        entrances: Where records are put back.
        ids: Only these letters.
        model: Only letters whose record asked this model.
        announce: Called with the letters before anything is put back.

    Raises:
        NotFound: No letter of one of the ids.
        Unavailable: A service doesn't answer; letters whose records weren't put back stay.
    """
    held, more = gather(letters)
    try:
        chosen = choose(held, ids, model)
    except NotFound:
        letters.show(handles_of(held))
        raise
    others = {each.letter.id for each in held} - {each.letter.id for each in chosen}
    letters.show(handles_of(each for each in held if each.letter.id in others))
    if chosen:
        announce([each.letter for each in chosen])
    count, kept = put_back(chosen, letters, entrances)
    return Replayed(replayed=count, kept=kept, more=more)


def put_back(chosen: Sequence[Held], letters: DeadLetters, entrances: Entrances) -> tuple[int, dict[str, str]]:
    """Put the records of dead letters back where they came from, in order, and delete the letters.

    A call that dies in the middle leaves letters whose records are back already: a later replay puts those back again,
    and `predict_stream` passes over what it has settled under the letter's id.

    Returns:
        How many records were put back, and why others weren't, by the letter's id.

    Raises:
        Unavailable: A service doesn't answer; letters whose records weren't put back stay.
    """
    count = 0
    kept: dict[str, str] = {}
    for source in ("kinesis", "sqs"):
        done: list[Held] = []
        again: list[_Again] = []
        for each in chosen:
            if each.letter.source != source:
                continue
            reason, records = _records(each.letter, entrances)
            if reason:
                kept[each.letter.id] = reason
            else:
                again += records
                done.append(each)
        _send(source, again, entrances)
        count += len(again)
        letters.delete(handles_of(done))
    letters.show(handles_of(each for each in chosen if each.letter.id in kept))
    return count, kept


def _send(source: str, again: Sequence[_Again], entrances: Entrances) -> None:
    if source == "sqs":
        entrances.queue.send_bodies(record.data.decode() for record in again)
    elif entrances.stream is not None:
        for request in requests(again):
            entrances.stream.put(request)


def _records(letter: DeadLetter, entrances: Entrances) -> tuple[str, list[_Again]]:
    """(why not, the records to put back) of a letter."""
    name = letter.place.partition("/")[0]
    stream = entrances.stream
    if letter.source == "kinesis" and (stream is None or stream.name != name):
        return f"The stack has no stream {name!r}: deploy it with the parameter Streaming=on.", []
    if letter.last_sequence is not None and stream is not None:
        found = list(_of_batch(letter, letter.last_sequence, stream))
        return ("" if found else "The stream doesn't keep its records any more."), found
    try:
        data = entrances.artifacts.read(letter.data_key) if letter.data_key else base64.b64decode(letter.data or "")
    except NotFound:
        return f"Its bytes aren't at {letter.data_key} any more.", []
    wrapped = wrap(Replay(letter.id, letter.origin, letter.attempts + 1), data)
    if letter.source == "sqs" and len(wrapped) > MAX_MESSAGE_BYTES:
        return "It is too large for a message with its history; send it anew, in smaller parts.", []
    return "", [_Again(letter.key, wrapped)]


def _of_batch(letter: DeadLetter, last: str, stream: RequestStream) -> Iterator[_Again]:
    for record in stream.read(letter.place.partition("/")[2], letter.sequence, last):
        key, sequence = str(record["PartitionKey"]), str(record["SequenceNumber"])
        found = Record("kinesis", letter.place, sequence, key, record["Data"], "")
        try:
            data, earlier = unwrap(found)
        except BadRequest:
            data, earlier = found.data, None
        origin, attempts = (earlier.origin, earlier.attempts) if earlier else (found.position, 1)
        yield _Again(key, wrap(Replay(found.position, origin, attempts + 1), data))
