"""Dead letters of all three kinds: shown once each, put back in order, kept with the reason where that can't be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shoal_core.errors import NotFound
from shoal_core.serving.streams.dead_letters import letter_of
from shoal_core.serving.streams.replaying import MAX_MESSAGE_BYTES, Entrances, look, replay
from shoal_core.serving.streams.wrapping import Replay, unwrap, wrap
from tests.support.stores import MemoryStore
from tests.unit.serving.streams.gear import NOW, PLACE, SHARD, World, ask, message, models, record
from tests.unit.serving.streams.test_committing import run

MODELS = models()


class Letters:
    """A queue of dead letters, as SQS is: no order, a message may come twice, a received one is hidden."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[str, dict[str, str]]] = {}
        self.hidden: set[str] = set()

    def add(self, body: str, **attributes: str) -> None:
        self.bodies[f"m{len(self.bodies)}"] = (body, attributes)

    def receive(self, visibility_seconds: int, wait_seconds: int) -> list[dict[str, Any]]:
        names = sorted((name for name in self.bodies if name not in self.hidden), key=lambda name: name[::-1])[:10]
        self.hidden |= set(names)
        return [
            {"MessageId": name, "ReceiptHandle": name, "Body": self.bodies[name][0], "Attributes": self.bodies[name][1]}
            for name in names
        ]

    def show(self, handles) -> None:
        self.hidden -= set(handles)

    def delete(self, handles) -> None:
        for handle in handles:
            del self.bodies[handle]


class Stream:
    name = "shoal-requests"

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.kept: dict[int, tuple[str, bytes]] = {}

    def put(self, request) -> None:
        self.taken += [(entry.key, entry.data) for entry in request]

    def read(self, shard: str, first: str, last: str):
        assert shard == SHARD
        for number, (key, data) in self.kept.items():
            if int(first) <= number <= int(last):
                yield {"SequenceNumber": str(number), "PartitionKey": key, "Data": data}


class Queue:
    name = "shoal-requests"

    def __init__(self) -> None:
        self.taken: list[str] = []

    def send_bodies(self, bodies) -> None:
        self.taken += list(bodies)


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def entrances() -> Entrances:
    return Entrances(Stream(), Queue(), MemoryStore())


def again(letters, entrances, **wish):
    announced: list[str] = []
    answer = replay(letters, entrances, announce=lambda found: announced.extend(each.id for each in found), **wish)
    return answer, announced


def died(letters: Letters, *records) -> World:
    """Let records die, and their letters come to the queue; the first one's twice."""
    world = World()
    run(world, list(records))
    for letter in [*world.letters, *world.letters[:1]]:
        letters.add(letter.model_dump_json(exclude_none=True))
    return world


def test_letters_are_shown_once_in_order_and_stay(letters):
    died(letters, *(record(number, b"{bro\xffken", "k") for number in range(1, 31)))
    for _ in range(2):
        page = look(letters, 5)
        assert [letter.id for letter in page.letters] == [f"{PLACE}/{number}" for number in range(1, 6)]
        assert page.more and page.letters[0].data == "{bro\ufffdken"
    assert len(letters.bodies) == 31 and not letters.hidden
    assert look(letters, 50, "nobody").letters == []


def test_a_replay_puts_records_back_in_order_once(letters, entrances):
    died(letters, *(record(number, b"{%d" % number, f"k{number % 2}") for number in range(1, 26)))
    answer, announced = again(letters, entrances)
    assert (answer.replayed, answer.kept, answer.more) == (25, {}, False)
    assert announced == [f"{PLACE}/{number}" for number in range(1, 26)]
    found = [unwrap(record(99, data, key)) for key, data in entrances.stream.taken]
    assert [data for data, _ in found] == [b"{%d" % number for number in range(1, 26)]
    assert found[4][1] == Replay(f"{PLACE}/5", f"{PLACE}/5", 2)
    assert letters.bodies == {}
    assert again(letters, entrances)[0].replayed == 0


def test_a_replay_of_some_leaves_the_others(letters, entrances):
    died(letters, record(1, b'{"model": "nobody", "row": {}}'), record(2, b'{"model": "blobs", "row": {"bad": 1}}'))
    assert again(letters, entrances, model="blobs")[0].replayed == 1
    with pytest.raises(NotFound, match="no dead letter 'there'"):
        again(letters, entrances, ids=["there"])
    assert [letter.model for letter in look(letters, 9).letters] == ["nobody"]
    assert again(letters, entrances, ids=[f"{PLACE}/1"])[0].replayed == 1


def test_messages_go_back_to_the_queue(letters, entrances):
    died(letters, message("a", "nonsense"))
    again(letters, entrances)
    (body,) = entrances.queue.taken
    assert unwrap(message("b", body)) == (b"nonsense", Replay("shoal-requests/a", "shoal-requests/a", 2))


def test_what_cant_be_put_back_stays_with_the_reason(letters, entrances):
    world = died(letters, record(1, b"{" + b"x" * 200_000), message("big", "x" * MAX_MESSAGE_BYTES))
    answer, _ = again(letters, Entrances(None, entrances.queue, world.artifacts))
    assert "has no stream" in answer.kept[f"{PLACE}/1"]
    answer, _ = again(letters, Entrances(entrances.stream, entrances.queue, world.artifacts))
    assert answer.replayed == 1 and unwrap(record(9, entrances.stream.taken[0][1]))[0] == b"{" + b"x" * 200_000
    assert len(look(letters, 9).letters) == 1


GIVEN_UP = {
    "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 21},
    "timestamp": NOW,
    "KinesisBatchInfo": {
        "shardId": SHARD,
        "startSequenceNumber": "5",
        "endSequenceNumber": "7",
        "batchSize": 2,
        "streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/shoal-requests",
    },
}


def test_a_batch_that_lambda_gave_up_is_read_from_the_stream(letters, entrances):
    letters.add(json.dumps(GIVEN_UP))
    (shown,) = look(letters, 9).letters
    assert (shown.id, shown.error, shown.attempts) == (f"{PLACE}/5", "GivenUp", 21)
    assert again(letters, entrances)[0].kept == {f"{PLACE}/5": "The stream doesn't keep its records any more."}
    entrances.stream.kept = {5: ("a", ask(5)), 7: ("b", wrap(Replay("x", "origin", 2), ask(7))), 8: ("c", ask(8))}
    assert again(letters, entrances)[0].replayed == 2
    found = [unwrap(record(9, data, key)) for key, data in entrances.stream.taken]
    assert found == [
        (ask(5), Replay(f"{PLACE}/5", f"{PLACE}/5", 2)),
        (ask(7), Replay(f"{PLACE}/7", "origin", 3)),
    ]


def test_a_message_that_the_queue_gave_up_is_a_letter_too(letters, entrances):
    source = "arn:aws:sqs:us-east-1:123456789012:shoal-requests"
    letters.add(ask(1).decode(), DeadLetterQueueSourceArn=source)
    letters.add(wrap(Replay("x", "origin", 2), ask(2)).decode(), DeadLetterQueueSourceArn=source)
    first, second = look(letters, 9).letters
    assert (first.place, first.error) == ("shoal-requests", "GivenUp")
    assert (second.origin, second.attempts) == ("origin", 2)
    again(letters, entrances)
    assert [unwrap(message("m", body))[0] for body in entrances.queue.taken] == [ask(1), ask(2)]


def test_a_letter_is_read_as_it_was_written():
    world = World()
    run(world, [record(1, b"\x00\x01")])
    (letter,) = world.letters
    assert letter_of(letter.model_dump_json(exclude_none=True), "m", {}) == letter
    assert base64.b64decode(letter.data or "") == b"\x00\x01"
