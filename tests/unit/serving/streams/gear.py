"""Small real models, the events of Lambda, and exits in memory that fail and die when they are told to."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import NotFound, Unavailable
from shoal_core.graphs.export import export_model
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.signature import (
    Classification,
    ImageInput,
    NetworkSignature,
    NumbersInput,
    SequenceInput,
    TokenColumn,
    TokensInput,
)
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.keys import ModelKeys
from shoal_core.registry.routing import Aliases
from shoal_core.serving.sessions import ModelCache
from shoal_core.serving.streams.dead_letters import DeadLetter
from shoal_core.serving.streams.exits import Exits
from shoal_core.serving.streams.packing import Keyed
from shoal_core.serving.streams.records import Record, records_of
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import image_spec, sequence_spec, table_spec, text_spec

SHARD = "shardId-000000000001"
PLACE = f"shoal-requests/{SHARD}"
NOW = "2026-11-21T08:15:00.000Z"
MODELS: dict[str, tuple[PreprocessingSpec, NetworkSignature, str]] = {
    "blobs": (
        table_spec(),
        NetworkSignature(
            numbers=NumbersInput(mean=(0.0,) * 4, std=(1.0,) * 4, missing=(True,) * 4), task=Classification(classes=3)
        ),
        "linear",
    ),
    "drawings": (
        image_spec(),
        NetworkSignature(image=ImageInput(shape=(1, 8, 8), mean=(60.0,), std=(70.0,)), task=Classification(classes=3)),
        "linear",
    ),
    "reviews": (
        text_spec(),
        NetworkSignature(
            tokens=TokensInput(columns=(TokenColumn(length=12, cardinality=20),)), task=Classification(classes=3)
        ),
        "fasttext",
    ),
    "waves": (
        sequence_spec(),
        NetworkSignature(
            sequence=SequenceInput(steps=12, mean=(2.0, 3.0), std=(1.0, 2.0), missing=(False, True)),
            task=Classification(classes=3),
        ),
        "rnn",
    ),
}


@functools.cache
def graph(name: str) -> bytes:
    spec, signature, recipe = MODELS[name]
    forward = build_forward(recipe, default_config(recipe, signature, 100), signature, seed=1)
    data = forward_with_parameters(forward).SerializeToString()
    return export_model(data, forward.initial, signature.task.kind, spec.target.classes)


class Catalog:
    """Every model has versions 1 and 2, with 2 in production, those of `extra` too; `down` makes it fail."""

    down = False
    extra: Collection[str] = ()

    def aliases(self, model: str) -> Aliases:
        if self.down:
            raise Unavailable("The table isn't available.")
        if model not in MODELS and model not in self.extra:
            raise NotFound(f"Model {model!r} doesn't exist.", "See GET /models for those that do.")
        return Aliases(2, named={"candidate": 1})


def models(catalog: Catalog | None = None) -> ModelCache:
    artifacts = MemoryStore()
    for name in MODELS:
        for version in (1, 2):
            keys = ModelKeys(name, version)
            artifacts.write(keys.onnx, graph(name))
            artifacts.write(keys.spec, MODELS[name][0].encode())
    return ModelCache(artifacts, catalog or Catalog(), 1769)


def kinesis_entry(number: int, data: bytes, key: str = "key", shard: str = SHARD) -> dict[str, Any]:
    return {
        "eventSource": "aws:kinesis",
        "eventID": f"{shard}:{number}",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/shoal-requests",
        "kinesis": {
            "partitionKey": key,
            "sequenceNumber": str(number),
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": 1795248000.5,
        },
    }


def sqs_entry(message: str, body: str) -> dict[str, Any]:
    return {
        "eventSource": "aws:sqs",
        "messageId": message,
        "body": body,
        "attributes": {"SentTimestamp": "1795248000500"},
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:shoal-requests",
    }


def ask(number: int, model: str = "blobs", **more: Any) -> bytes:
    return json.dumps({"model": model, "id": f"r{number}", "row": {"x0": number}} | more).encode()


def record(number: int, data: bytes, key: str = "key") -> Record:
    (found,) = records_of({"Records": [kinesis_entry(number, data, key)]})
    return found


def message(name: str, body: str) -> Record:
    (found,) = records_of({"Records": [sqs_entry(name, body)]})
    return found


class Died(Exception):
    """The function's process is gone."""


class World:
    """What outlives a function: ledger, stream, queue, bucket. `step` is called before and after each change of it."""

    def __init__(self, *, stream: bool = True, journal: bool = False) -> None:
        self.ledger: dict[str, str] = {}
        self.marked: set[str] = set()
        self.letters: list[DeadLetter] = []
        self.put_records: list[tuple[str, bytes]] = []
        self.artifacts = MemoryStore()
        self.step: Callable[[str], None] = lambda name: None
        self._has_stream, self._journal = stream, journal

    def exits(self) -> Exits:
        store = _Steps(self)
        return Exits(_Ledger(self), _Letters(self), store, _Stream(self) if self._has_stream else None, self._journal)

    def answers(self) -> list[dict[str, Any]]:
        """Everything in the stream, in order, repeated or not."""
        return [json.loads(line) for _, data in self.put_records for line in data.splitlines()]

    def journaled(self) -> list[dict[str, Any]]:
        keys = [key for key in self.artifacts.keys("streams/") if key.endswith(".jsonl")]
        return [json.loads(line) for key in keys for line in self.artifacts.read(key).splitlines()]


class _Ledger:
    def __init__(self, world: World) -> None:
        self._world = world

    def last(self, place: str) -> str | None:
        self._world.step("last")
        return self._world.ledger.get(place)

    def advance(self, place: str, before: str | None, after: str) -> bool:
        self._world.step("advance")
        if self._world.ledger.get(place) != before:
            return False
        self._world.ledger[place] = after
        self._world.step("advanced")
        return True

    def known(self, positions: Collection[str]) -> set[str]:
        self._world.step("known")
        return self._world.marked & set(positions)

    def mark(self, positions: Collection[str]) -> None:
        self._world.step("mark")
        self._world.marked |= set(positions)


class _Letters:
    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._world.step("letter")
            self._world.letters.append(letter)


class _Stream:
    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, request: Sequence[Keyed]) -> None:
        assert len({entry.key for entry in request}) == len(request)
        for entry in request:
            self._world.step("put")
            self._world.put_records.append((entry.key, entry.data))


class _Steps(MemoryStore):
    """The world's bucket, with a step before and after a write."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.objects = world.artifacts.objects
        self._world = world

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self._world.step("write")
        super().write(key, data, content_type)
        self._world.step("written")
