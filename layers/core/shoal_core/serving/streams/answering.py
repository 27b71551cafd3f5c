"""From records to outcomes: grouped by model, one run of the model for each group; a bad record stands alone.

The outcome of a record is an answer, a dead letter (its own fault: it can never be answered as it is), or that it waits
(a service failed: the same record may be answered later).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadInput, NotFound, ShoalError, TooLarge, Unavailable
from shoal_core.serving.inference import served
from shoal_core.serving.prediction import MAX_INSTANCES, predict_each
from shoal_core.serving.sessions import ModelCache, ServedModel
from shoal_core.serving.streams.envelopes import Question, question_of
from shoal_core.serving.streams.records import Record
from shoal_core.serving.streams.wrapping import Replay, unwrap

# Of one run of a model: bytes of input tensors, so that a batch of photos doesn't fill the function's memory.
MAX_RUN_BYTES = 64 * 1024**2
MAX_ANSWER_BYTES = 512 * 1024
"""An answer has to fit into one record of the answers' stream (1 MiB), with room for its key."""


@dataclass
class Outcome:
    """What became of one record: exactly one of `answer`, `death` and `waits` is set in the end.

    Attributes:
        record: The record.
        replay: What is known when it is a replayed one.
        question: What it asks; None when it can't be read.
        answer: The answer's JSON text, one line.
        death: Why it can never be answered.
        waits: Why it can't be answered now.
    """

    record: Record
    replay: Replay | None = None
    question: Question | None = None
    answer: str | None = None
    death: ShoalError | None = None
    waits: ShoalError | None = None

    @property
    def origin(self) -> str:
        """The position under which the record is known to people: that of its first time."""
        return self.replay.origin if self.replay else self.record.position

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do with the record but to tell the outcome."""
        return self.waits is None


@dataclass
class _Group:
    """The records of one batch that ask one version of one model."""

    model: ServedModel
    outcomes: list[Outcome] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome, instances: Sequence[dict[str, Any]]) -> None:
        self.outcomes.append(outcome)
        self.instances += instances
        self.ends.append(len(self.instances))

    def halves(self) -> tuple[_Group, _Group]:
        """The first and the second half of the records."""
        middle = len(self.outcomes) // 2
        cut = self.ends[middle - 1]
        second = [end - cut for end in self.ends[middle:]]
        return (
            _Group(self.model, self.outcomes[:middle], self.instances[:cut], self.ends[:middle]),
            _Group(self.model, self.outcomes[middle:], self.instances[cut:], second),
        )


def answer_records(records: Sequence[Record], models: ModelCache, clock: Callable[[], str]) -> list[Outcome]:
    """The outcome of every record, in their order.

    Args:
        records: Of one delivery.
        models: The models of this process.
        clock: The time that answers carry, ISO 8601 in UTC.
    """
    outcomes = [_read(record) for record in records]
    for group in _groups(outcomes, models):
        _answer(group, clock)
    return outcomes


def _answer(group: _Group, clock: Callable[[], str]) -> None:
    """Settle a group's records; where its model refuses them together, half by half, so that poison dies alone."""
    try:
        predictions = [
            prediction
            for part in _parts(group.model.spec, group.instances)
            for prediction in predict_each(group.model, part)
        ]
    except Unavailable as error:  # a pipeline's model can't be read now
        for outcome in group.outcomes:
            outcome.waits = error
        return
    except (BadInput, NotFound) as error:
        if len(group.outcomes) == 1:
            group.outcomes[0].death = error
        else:
            for half in group.halves():
                _answer(half, clock)
        return
    start, now = 0, clock()
    for outcome, stop in zip(group.outcomes, group.ends, strict=True):
        _settle(outcome, group.model, predictions[start:stop], now)
        start = stop


def _read(record: Record) -> Outcome:
    outcome = Outcome(record)
    try:
        data, outcome.replay = unwrap(record)
        outcome.question = question_of(data, record.key, outcome.origin)
    except BadInput as error:
        outcome.death = error
    return outcome


def _groups(outcomes: Sequence[Outcome], models: ModelCache) -> list[_Group]:
    """The readable records by the version that serves them; the others get their outcome here."""
    found: dict[tuple[str, str], ServedModel | ShoalError] = {}
    groups: dict[tuple[str, int], _Group] = {}
    for outcome in outcomes:
        if (question := outcome.question) is None:
            continue
        model = _served(models, question, outcome.record.key, found)
        if isinstance(model, Unavailable):
            outcome.waits = model
        elif isinstance(model, ShoalError):
            outcome.death = model
        else:
            group = groups.setdefault((model.name, model.version), _Group(model))
            try:
                group.add(outcome, question.instances(model.spec))
            except BadInput as error:
                outcome.death = error
    return list(groups.values())


def _served(
    models: ModelCache, question: Question, key: str, found: dict[tuple[str, str], ServedModel | ShoalError]
) -> ServedModel | ShoalError:
    """The version that answers a question, or why none does; `found` keeps what was found for others of the batch."""
    try:
        version = question.version or str(models.choose(question.model, key).version)
        asked = (question.model, version)
        if asked not in found:
            found[asked] = served(models, *asked)
        return found[asked]
    except (BadInput, NotFound, Unavailable) as error:
        if question.version:
            found[question.model, question.version] = error
        return error


def _parts(spec: PreprocessingSpec, instances: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Instances in runs of bounded size."""
    bytes_of_one = 4 * sum(math.prod(shape) for shape in spec.tensor_shapes().values())
    size = max(1, min(MAX_INSTANCES, MAX_RUN_BYTES // max(1, bytes_of_one)))
    for start in range(0, len(instances), size):
        yield instances[start : start + size]


def _settle(outcome: Outcome, model: ServedModel, predictions: Sequence[dict[str, Any] | BadInput], now: str) -> None:
    wrong = next((each for each in predictions if isinstance(each, BadInput)), None)
    if wrong is not None:
        outcome.death = wrong
        return
    record, question = outcome.record, outcome.question
    document: dict[str, Any] = {
        "id": question.id if question else outcome.origin,
        "model": model.name,
        "version": model.version,
        "task": model.spec.target.task,
        "predictions": list(predictions),
        "key": record.key,
        "position": record.position,
        "arrived_at": record.arrived_at,
        "answered_at": now,
    }
    if outcome.replay:
        document["origin"] = outcome.origin
    line = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    if len(line.encode()) > MAX_ANSWER_BYTES:
        outcome.death = TooLarge(
            f"The record's answer has more than {MAX_ANSWER_BYTES:,} bytes.", "Send fewer instances in one record."
        )
        return
    outcome.answer = line
