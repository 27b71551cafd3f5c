"""Each record once, whatever dies and however often it is delivered; in order by key; nothing lost in an outage."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal._streams import _Seen as Reader
from shoal_core.errors import BadRequest, Unavailable
from shoal_core.serving.streams.answering import Outcome
from shoal_core.serving.streams.committing import settle
from shoal_core.serving.streams.dead_letters import MAX_INLINE_BYTES, MAX_TOLD_CHARACTERS, bury
from shoal_core.serving.streams.wrapping import Replay, unwrap, wrap
from tests.unit.serving.streams.gear import NOW, PLACE, Catalog, Died, World, ask, message, models, record

MODELS = models()
POISON = (b"{broken", b'{"model": "nobody", "row": {}}', b'{"model": "blobs", "row": {"wrong": 1}}')


def run(world, records, cache=MODELS):
    return settle(records, cache, world.exits(), lambda: NOW)


def batch(count, poison=(), keys=3, start=1):
    return [
        record(number, POISON[number % 3] if number in poison else ask(number), f"k{number % keys}")
        for number in range(start, start + count)
    ]


def test_answers_and_dead_letters_are_all_that_there_is():
    world = World()
    settled = run(world, batch(30, poison={4, 5, 6}))
    assert (settled.answered, settled.died, settled.response) == (27, 3, {"batchItemFailures": []})
    assert [letter.sequence for letter in world.letters] == ["4", "5", "6"]
    assert len(world.put_records) == 3
    assert Counter(each["id"] for each in world.answers()) == Counter(
        f"r{n}" for n in range(1, 31) if n not in (4, 5, 6)
    )
    assert world.ledger == {PLACE: "30"}


def test_a_repeated_delivery_changes_nothing():
    world = World()
    run(world, batch(20))
    before = list(world.put_records)
    assert run(world, batch(20)).answered == 0
    assert run(world, batch(25)).answered == 5
    assert world.put_records[: len(before)] == before
    assert len(world.answers()) == 25


def test_what_comes_before_a_record_that_waits_is_answered():
    catalog = Catalog()
    cache = models(catalog)
    cache.production("blobs")
    catalog.down = True
    world = World()
    records = [*batch(5), record(6, ask(6, "reviews", row={"text": "a"})), *batch(5, start=7)]
    settled = run(world, records, cache)
    assert settled.response == {"batchItemFailures": [{"itemIdentifier": "6"}]}
    assert (settled.answered, world.ledger) == (5, {PLACE: "5"})
    catalog.down = False
    assert run(world, records[5:], cache).answered == 6


@pytest.mark.parametrize("where", ["last", "known", "letter", "put", "advance", "write"])
def test_a_service_that_fails_loses_nothing(where):
    world = World(journal=True)
    records = [record(1, wrap(Replay("old", "old", 2), ask(0))), *batch(6, poison={4}, start=2)]

    def fail(name):
        if name == where:
            raise Unavailable("It isn't available.")

    world.step = fail
    settled = run(world, records)
    assert settled.failures == ("1",)
    assert world.ledger == {}
    world.step = lambda name: None
    assert run(world, records).failures == ()
    assert len({each["position"] for each in world.answers()}) == 6
    assert {letter.sequence for letter in world.letters} == {"4"}


def test_two_functions_with_one_shard_dont_both_move_its_ledger():
    world = World()

    def race(name):
        if name == "advance":
            world.step = lambda name: None
            run(world, batch(10))

    world.step = race
    assert run(world, batch(10)).failures == ("1",)
    assert world.ledger == {PLACE: "10"}
    assert run(world, batch(10)).answered == 0


def test_a_dead_letter_says_what_why_and_where_and_holds_the_bytes():
    world = World()
    run(world, [record(3, b'{"model": "blobs", "id": "mine", "row": {"wrong": 1}}', "k")])
    (letter,) = world.letters
    assert (letter.id, letter.origin, letter.key, letter.record_id) == (f"{PLACE}/3", f"{PLACE}/3", "k", "mine")
    assert (letter.model, letter.error, letter.attempts, letter.died_at) == ("blobs", "BadTable", 1, NOW)
    assert "wrong" in letter.reason and "x0" in letter.fix
    assert letter.data is not None and letter.data_key is None


def test_a_large_dead_record_lies_in_the_bucket():
    world = World()
    data = b"{" + b"x" * MAX_INLINE_BYTES
    run(world, [record(3, data)])
    (letter,) = world.letters
    assert letter.data is None
    assert world.artifacts.read(letter.data_key) == data
    assert len(letter.model_dump_json()) < 2000


def test_a_replayed_record_is_answered_once_however_often_it_is_put_back():
    world = World()
    again = [record(number, wrap(Replay(f"{PLACE}/3", f"{PLACE}/1", 3), ask(9)), "k") for number in (10, 11)]
    run(world, again[:1])
    run(world, again[1:])
    (answer,) = world.answers()
    assert (answer["id"], answer["position"], answer["origin"]) == ("r9", f"{PLACE}/10", f"{PLACE}/1")
    run(world, [record(number, wrap(Replay("x", "x", 2), ask(8))) for number in (20, 21)])
    assert [each["position"] for each in world.answers()[1:]] == [f"{PLACE}/20"]
    world = World()
    run(world, [record(12, wrap(Replay(f"{PLACE}/4", f"{PLACE}/2", 2), b"{broken"))])
    (letter,) = world.letters
    assert (letter.id, letter.origin, letter.attempts) == (f"{PLACE}/12", f"{PLACE}/2", 2)
    assert unwrap(record(1, wrap(Replay("a", "b", 2), b"\x00"))) == (b"\x00", Replay("a", "b", 2))


def test_a_journal_left_behind_is_taken_over_whatever_texts_it_holds():
    world = World(journal=True)
    records = [record(1, ask(1), "a\u2028b"), record(2, wrap(Replay("old", "old", 2), ask(2))), record(3, b"{")]

    def die(name):
        if name == "put":
            raise Died

    world.step = die
    with pytest.raises(Died):
        run(world, records)
    assert world.answers() == [] and world.ledger == {}
    world.step = lambda name: None
    assert run(world, records).answered == 0
    assert [each["position"] for each in world.answers()] == [f"{PLACE}/1", f"{PLACE}/2"]
    assert (world.ledger, world.marked) == ({PLACE: "3"}, {"old"})


def messages(count):
    return [message(f"m{n}", "nonsense" if n == 3 else ask(n).decode()) for n in range(count)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_queue_is_answered_message_by_message(stream):
    world = World(stream=stream, journal=not stream)
    assert run(world, messages(6)).response == {"batchItemFailures": []}
    assert run(world, messages(8)).answered == 2
    told = world.answers() if stream else [each for each in world.journaled() if "predictions" in each]
    assert Counter(each["id"] for each in told) == Counter(f"r{n}" for n in range(8) if n != 3)
    assert [letter.place for letter in world.letters] == ["shoal-requests"]


def test_messages_wait_one_by_one():
    catalog = Catalog()
    cache = models(catalog)
    cache.production("blobs")
    catalog.down = True
    other = message("slow", json.dumps({"model": "reviews", "text": "a"}))
    settled = run(World(), [*messages(3), other], cache)
    assert (settled.answered, settled.failures) == (3, ("slow",))


def test_a_queue_whose_exit_fails_gets_its_messages_back():
    world = World()

    def fail(name):
        if name == "put":
            raise Unavailable("It isn't available.")

    world.step = fail
    assert run(world, messages(3)).failures == ("m0", "m1", "m2")


@settings(deadline=None, max_examples=120)
@given(
    total=st.integers(1, 40),
    poison=st.sets(st.integers(1, 40)),
    keys=st.integers(1, 5),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    deaths=st.lists(st.none() | st.integers(0, 25), max_size=12),
    stream=st.booleans(),
)
def test_each_record_once_and_in_order_whatever_dies(total, poison, keys, cuts, deaths, stream):
    """Lambda, cutting as it likes, and a function that dies at any of its steps; then what readers see."""
    records = batch(total, poison, keys)
    world = World(stream=stream, journal=True)
    checkpoint, round_ = 0, 0
    while checkpoint < total:
        part = records[checkpoint : checkpoint + cuts[round_ % len(cuts)]]
        left = deaths[round_] if round_ < len(deaths) else None
        round_ += 1

        def step(name, budget=[left]):  # noqa: B006 - one budget of steps for each delivery
            if budget[0] is not None:
                budget[0] -= 1
                if budget[0] < 0:
                    raise Died

        world.step = step
        try:
            settled = run(world, part)
        except Died:
            continue
        first = settled.failures[0] if settled.failures else None
        checkpoint += next((n for n, each in enumerate(part) if each.sequence == first), len(part))
    dead = {number for number in poison if number <= total}
    journal = world.journaled()
    assert [each["position"] for each in journal] == [each.position for each in records]  # exactly once, in order
    assert {letter.sequence for letter in world.letters} == {str(number) for number in dead}
    told = [each for each in journal if "predictions" in each]
    if stream:
        reader = Reader()
        told = [each for each in world.answers() if reader.is_new(each)]
    assert Counter(each["id"] for each in told) == Counter(f"r{n}" for n in range(1, total + 1) if n not in dead)
    order = defaultdict(list)
    for each in told:
        order[each["key"]].append(int(each["position"].rpartition("/")[2]))
    assert all(positions == sorted(positions) for positions in order.values())


def test_what_a_letter_repeats_of_a_record_has_a_bound():
    world = World(journal=True)
    run(world, [record(1, json.dumps({"model": "blobs", "row": {"n" * 120_000: 1}}).encode())])
    (letter,) = world.letters
    assert "unknown columns: 'nnn" in letter.reason
    assert len(letter.model_dump_json()) < 256 * 1024 - 60_000
    half = Outcome(record(2, b""), death=BadRequest("x" * 5000, "\ud83d"))
    buried = bury(half, "now", "key").letter
    assert (len(buried.reason), buried.fix) == (MAX_TOLD_CHARACTERS, "\ufffd")
