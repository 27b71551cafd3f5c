"""What happens to the outcomes of one delivery, in an order in which dying anywhere loses nothing and repeats little.

Lambda delivers at least once. A shard's ledger says up to which sequence number its records are settled, so a repeated
record is passed over. Outcomes go out first, the ledger follows by a conditional write:

1. dead letters to the queue,
2. the journal in S3, where it is asked for: one object a delivery, named after the sequence number that it follows
   (`If-None-Match: *`): the first writer wins, and whoever comes later takes over what is written, so that no record is
   in two objects,
3. answers to the stream, those of a key in order,
4. the ledger.

A function that dies between 1 and 4 tells the same outcomes once more. They carry the same `id` and `position`, and
readers drop them by these (`shoal.stream().answers()` does). A queue has no sequence: each message's id is marked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from shoal_core.errors import Unavailable
from shoal_core.keys import StreamKeys
from shoal_core.serving.sessions import ModelCache
from shoal_core.serving.streams.answering import Outcome, answer_records
from shoal_core.serving.streams.dead_letters import DeadLetter, bury, told
from shoal_core.serving.streams.exits import AnswerStream, Exits, Ledger
from shoal_core.serving.streams.packing import pack, requests
from shoal_core.serving.streams.records import Record
from shoal_core.store import ObjectStore

Clock = Callable[[], str]


@dataclass(frozen=True)
class Settled:
    """What one delivery came to: records that were answered or died, and the ids that must be delivered again."""

    answered: int
    died: int
    failures: tuple[str, ...] = ()

    @property
    def response(self) -> dict[str, list[dict[str, str]]]:
        """Lambda's partial batch response.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
        """
        return {"batchItemFailures": [{"itemIdentifier": each} for each in self.failures]}


def settle(records: Sequence[Record], models: ModelCache, exits: Exits, clock: Clock) -> Settled:
    """Answer the records of one delivery, or bury them, each once.

    Args:
        records: Of one event: of one shard in order, or of a queue.
        models: The models of this process.
        exits: Where outcomes go.
        clock: The time, ISO 8601 in UTC.

    Returns:
        What it came to. When a service fails, the ids of what Lambda has to deliver again: of a shard, the first one.
    """
    if not records:
        return Settled(0, 0)
    if records[0].source == "kinesis":
        return _settle_shard(records, models, exits, clock)
    return _settle_queue(records, models, exits, clock)


def _settle_shard(records: Sequence[Record], models: ModelCache, exits: Exits, clock: Clock) -> Settled:
    place = records[0].place
    try:
        before = _take_over(place, exits)
        fresh = [record for record in records if before is None or int(record.sequence) > int(before)]
        if not fresh:
            return Settled(0, 0)
    except Unavailable:
        return Settled(0, 0, (records[0].sequence,))
    outcomes = answer_records(fresh, models, clock)
    waiting = next((number for number, outcome in enumerate(outcomes) if not outcome.settled), len(outcomes))
    failures = (outcomes[waiting].record.sequence,) if waiting < len(outcomes) else ()
    done = outcomes[:waiting]
    if not done:
        return Settled(0, 0, failures)
    try:
        told = _tell(done, exits, clock, StreamKeys(place).after(before), first_wins=True)
        if told is None or not exits.ledger.advance(place, before, done[-1].record.sequence):
            # Another delivery of the same records was faster: they are looked at again, with its ledger.
            return Settled(0, 0, (records[0].sequence,))
    except Unavailable:
        return Settled(0, 0, (fresh[0].sequence,))
    return Settled(told.answered, told.died, failures)


def _take_over(place: str, exits: Exits) -> str | None:
    """The last settled sequence number of a shard, with journal objects that a dead function left behind."""
    before = exits.ledger.last(place)
    while exits.journal and exits.artifacts.exists(key := StreamKeys(place).after(before)):
        lines = exits.artifacts.read(key).splitlines()  # of bytes: texts may hold line breaks of Unicode's
        entries = [json.loads(line) for line in lines]
        if exits.stream is not None:
            told = zip(entries, lines, strict=True)
            _put(exits.stream, [(str(each["key"]), line.decode()) for each, line in told if "predictions" in each])
        after = str(entries[-1]["position"]).rpartition("/")[2]
        exits.ledger.mark([str(entry["replayed"]) for entry in entries if "replayed" in entry])
        if not exits.ledger.advance(place, before, after):
            raise Unavailable(f"Shard {place} is worked on by another function.", "Nothing to do: it is retried.")
        before = after
    return before


def _settle_queue(records: Sequence[Record], models: ModelCache, exits: Exits, clock: Clock) -> Settled:
    everything = tuple(record.sequence for record in records)
    try:
        known = exits.ledger.known([record.position for record in records])
    except Unavailable:
        return Settled(0, 0, everything)
    fresh = [record for record in records if record.position not in known]
    outcomes = answer_records(fresh, models, clock)
    done = [outcome for outcome in outcomes if outcome.settled]
    failures = tuple(outcome.record.sequence for outcome in outcomes if not outcome.settled)
    if not done:
        return Settled(0, 0, failures)
    try:
        digest = hashlib.sha256("\n".join(sorted(outcome.record.sequence for outcome in done)).encode()).hexdigest()
        told = _tell(done, exits, clock, StreamKeys(records[0].place).of(digest))
        exits.ledger.mark([outcome.record.position for outcome in done])
    except Unavailable:
        return Settled(0, 0, tuple(record.sequence for record in fresh))
    return Settled(told.answered, told.died, failures) if told else Settled(0, 0, failures)


def _tell(done: Sequence[Outcome], exits: Exits, clock: Clock, key: str, *, first_wins: bool = False) -> Settled | None:
    """Send outcomes out, all of them settled.

    Args:
        done: The outcomes.
        exits: Where they go.
        clock: The time.
        key: The journal's object.
        first_wins: Whether an object of that name may hold other records: then nothing more is sent, and None comes
            back. Otherwise it holds these, written by a delivery that died, perhaps before their answers were sent.
    """
    repeats = _repeats(done, exits.ledger)
    fresh = [outcome for outcome in done if outcome.record.position not in repeats]
    dead = [outcome for outcome in fresh if outcome.death is not None]
    answered = [outcome for outcome in fresh if outcome.answer is not None]
    if dead:
        moment = clock()
        exits.letters.send([_buried(outcome, exits.artifacts, moment) for outcome in dead])
    if exits.journal:
        written = exits.artifacts.write_new(key, _journal(done, repeats), "application/jsonl")
        if first_wins and not written:
            return None
    if exits.stream is not None:
        _put(exits.stream, [(outcome.record.key, str(outcome.answer)) for outcome in answered])
    if replayed := {outcome.replay.letter for outcome in fresh if outcome.replay}:
        exits.ledger.mark(replayed)
    return Settled(len(answered), len(dead))


def _repeats(done: Sequence[Outcome], ledger: Ledger) -> set[str]:
    """Positions of replayed records whose dead letter is settled already, or comes earlier in the same batch."""
    letters = {outcome.replay.letter for outcome in done if outcome.replay}
    settled = ledger.known(letters) if letters else set()
    found: set[str] = set()
    for outcome in done:
        if outcome.replay is not None:
            if outcome.replay.letter in settled:
                found.add(outcome.record.position)
            settled.add(outcome.replay.letter)
    return found


def _put(stream: AnswerStream, answers: Sequence[tuple[str, str]]) -> None:
    for request in requests(pack(answers)):
        stream.put(request)


def _buried(outcome: Outcome, artifacts: ObjectStore, now: str) -> DeadLetter:
    burial = bury(outcome, now, StreamKeys(outcome.record.place).dead(outcome.record.sequence))
    if burial.data is not None and burial.letter.data_key is not None:
        artifacts.write(burial.letter.data_key, burial.data)
    return burial.letter


def _journal(outcomes: Sequence[Outcome], repeats: Collection[str]) -> bytes:
    """JSON Lines: the answer, or the error, of each record in order; the last line tells how far it goes."""
    return "".join(f"{_entry(outcome, outcome.record.position in repeats)}\n" for outcome in outcomes).encode()


def _entry(outcome: Outcome, repeated: bool) -> str:
    record, replay, error = outcome.record, outcome.replay, outcome.death
    entry: dict[str, object] = {"key": record.key, "position": record.position, "origin": outcome.origin}
    if repeated:
        entry["repeated"] = True
    elif error is not None:
        entry |= {"error": type(error).__name__, "reason": told(error.reason), "fix": told(error.fix)}
    elif replay is None:
        return str(outcome.answer)
    else:
        entry = {**json.loads(str(outcome.answer)), "replayed": replay.letter}
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
