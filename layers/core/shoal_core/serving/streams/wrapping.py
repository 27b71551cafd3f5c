"""How a dead record is put back: the original inside, with what is known of it.

`{"shoal_replay": {"id": …, "origin": …, "attempts": 2}, "data": base64}`
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from shoal_core.errors import BadRequest
from shoal_core.serving.streams.records import Record

REPLAY = "shoal_replay"
_MAX_POSITION = 500


@dataclass(frozen=True)
class Replay:
    """That a record is there again.

    Attributes:
        letter: Id of the dead letter that was replayed.
        origin: Position of the record that died first.
        attempts: How often it was tried, this time included.
    """

    letter: str
    origin: str
    attempts: int


def wrap(replay: Replay, data: bytes) -> bytes:
    """The record that puts a dead one back; `unwrap` undoes it."""
    about = {"id": replay.letter, "origin": replay.origin, "attempts": replay.attempts}
    return json.dumps({REPLAY: about, "data": base64.b64encode(data).decode()}, separators=(",", ":")).encode()


def unwrap(record: Record) -> tuple[bytes, Replay | None]:
    """A record's own bytes, and what is known when it is a replayed one.

    Raises:
        BadRequest: It says that it is replayed, and isn't whole.
    """
    if not record.data.startswith(b'{"' + REPLAY.encode()):
        return record.data, None
    try:
        document = json.loads(record.data)
        about = document[REPLAY]
        replay = Replay(_position(about["id"]), _position(about["origin"]), int(about["attempts"]))
        return base64.b64decode(document["data"], validate=True), replay
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadRequest("The record says that it is replayed, but isn't whole.", "Send it as it was.") from error


def _position(value: object) -> str:
    """A record's position. Raises `ValueError` for what is none: it goes into keys and messages."""
    text = str(value)
    if len(text) > _MAX_POSITION or not text.isascii():
        raise ValueError("not a record's position")
    return text
