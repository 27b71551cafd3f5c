"""From records to answers: every kind of record, one run per model, a bad record alone."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from shoal_core.errors import Unavailable
from shoal_core.keys import ModelKeys
from shoal_core.serving import prediction
from shoal_core.serving.prediction import predict
from shoal_core.serving.streams.answering import Outcome, answer_records
from shoal_core.serving.streams.records import records_of
from tests.unit.serving.pipelines.models import picky_model
from tests.unit.serving.streams.gear import NOW, PLACE, Catalog, ask, kinesis_entry, message, models, record, sqs_entry
from tests.unit.training.datasets import table_spec


def outcomes(*found) -> list[Outcome]:
    return answer_records(list(found), models(), lambda: NOW)


def answer(outcome: Outcome) -> dict:
    assert outcome.answer is not None, outcome.death or outcome.waits
    return json.loads(outcome.answer)


def drawing(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


WINDOW = [{"t": index, "a": index, "b": 1.0} for index in range(12)]


def test_an_answer_says_whose_it_is_who_answered_and_when():
    (found,) = outcomes(record(7, ask(7), "camera-1"))
    document = answer(found)
    predicted = document.pop("predictions")
    assert document == {
        "id": "r7",
        "model": "blobs",
        "version": 2,
        "task": "classification",
        "key": "camera-1",
        "position": f"{PLACE}/7",
        "arrived_at": "2026-11-21T08:00:00.500Z",
        "answered_at": NOW,
    }
    expected = predict(models().production("blobs"), b'{"x0": 7}', "application/json")["predictions"]
    assert predicted == expected


@pytest.mark.parametrize(
    ("payload", "body", "content_type"),
    [
        ({"model": "blobs", "instances": [{"x0": 1}, {"x1": 2}]}, b'[{"x0": 1}, {"x1": 2}]', ""),
        ({"model": "drawings", "image": base64.b64encode(drawing(9)).decode()}, drawing(9), "image/png"),
        ({"model": "reviews", "text": "word1 word2"}, b"word1 word2", "text/plain"),
        ({"model": "reviews", "row": {"text": "word3"}}, b"word3", "text/plain"),
    ],
    ids=["instances", "image", "text", "row"],
)
def test_each_way_to_ask_is_answered_as_over_http(payload, body, content_type):
    (found,) = outcomes(record(1, json.dumps(payload).encode()))
    expected = predict(models().production(payload["model"]), body, content_type)["predictions"]
    assert answer(found)["predictions"] == expected


def test_a_window_of_rows_is_answered():
    names = models().production("waves").spec.sequence.number_names
    rows = [{"t": index} | {name: float(index) for name in names} for index in range(12)]
    (found,) = outcomes(record(1, json.dumps({"model": "waves", "rows": rows}).encode()))
    assert len(answer(found)["predictions"]) == 1


def test_bytes_are_for_the_model_that_the_key_names():
    picture, text = outcomes(record(1, drawing(5), "drawings/camera-7"), record(2, b"word1", "reviews/forum"))
    assert answer(picture)["model"] == "drawings"
    assert answer(picture)["id"] == f"{PLACE}/1"
    assert answer(text)["predictions"] == predict(models().production("reviews"), b"word1", "text/plain")["predictions"]


@pytest.mark.parametrize(("asked", "version"), [(None, 2), (1, 1), ("1", 1), ("candidate", 1), ("production", 2)])
def test_a_record_may_ask_for_a_version_or_an_alias(asked, version):
    more = {} if asked is None else {"version": asked}
    (found,) = outcomes(record(1, ask(1, **more)))
    assert answer(found)["version"] == version


POISON = [
    (b"{broken", "isn't valid JSON"),
    (b"\xff\xfe", "neither a JSON object nor"),
    (b"", "neither a JSON object nor"),
    (b'{"row": {"x0": 1}}', "names no model"),
    (b'{"model": "blobs"}', "nothing to predict"),
    (b'{"model": "blobs", "row": {}, "text": "a"}', "row and text"),
    (b'{"model": "blobs", "rwo": {}}', "unknown fields: 'rwo'"),
    (b'{"model": "nobody", "row": {}}', "doesn't exist"),
    (b'{"model": "blobs", "version": 9, "row": {}}', "no version 9"),
    (b'{"model": "blobs", "version": true, "row": {}}', "version is 'True'"),
    (b'{"model": "blobs", "id": "\\ud800", "row": {}}', "isn't valid JSON"),
    (b'{"model": "blobs", "id": "\xed\xa0\xbd\xed\xb8\x80", "row": {}}', "isn't UTF-8: byte 26"),
    (b'{"model": "blobs", "id": [1], "row": {}}', "id isn't a text"),
    (b'{"model": "blobs", "row": [1]}', "row isn't an object"),
    (b'{"model": "blobs", "row": {"y0": 1}}', "unknown columns: 'y0'"),
    (b'{"model": "blobs", "row": {"x0": "far"}}', "column 'x0'"),
    (b'{"model": "blobs", "instances": []}', "aren't a list"),
    (b'{"model": "blobs", "instances": [{"x0": 1}, {"z": 1}]}', "unknown columns: 'z'"),
    (b'{"model": "blobs", "image": "AAAA"}', "unknown columns"),
    (b'{"model": "drawings", "image": "AAAA"}', "image"),
    (b'{"model": "drawings", "image": "?"}', "isn't valid base64"),
    (b'{"model": "reviews", "text": 3}', "text isn't a text"),
    (b'{"model": "waves", "rows": [{"t": 1}]}', "rows"),
    (b'{"shoal_replay": {"id": "x"}, "data": ""}', "isn't whole"),
    (b'{"shoal_replay": {"id": "x", "origin": "\\ud800", "attempts": 1}, "data": ""}', "isn't whole"),
    (b'{"shoal_replay": {"id": "x", "origin": "x", "attempts": Infinity}, "data": ""}', "isn't whole"),
    (b'{"model": "blobs", "row": ' + b"[" * 100_000, "isn't valid JSON"),
]


@pytest.mark.parametrize(("data", "reason"), POISON, ids=range(len(POISON)))
def test_poison_dies_alone_with_a_reason(data, reason):
    before, dead, after = outcomes(record(1, ask(1)), record(2, data), record(3, ask(3)))
    assert answer(before)["id"] == "r1"
    assert answer(after)["id"] == "r3"
    assert dead.answer is None and dead.waits is None
    assert reason in dead.death.reason
    assert dead.death.fix


def test_a_batch_is_one_run_of_each_model(monkeypatch):
    runs = []
    run = prediction.outputs
    monkeypatch.setattr(prediction, "outputs", lambda model, tensors: runs.append(model.name) or run(model, tensors))
    found = outcomes(
        *(
            record(number, ask(number) if number % 2 else ask(number, "reviews", row={"text": "a"}))
            for number in range(90)
        ),
        record(100, b'{"model": "blobs", "row": {"bad": 1}}'),
    )
    assert sorted(runs) == ["blobs", "reviews"]
    assert [answer(each)["id"] for each in found[:90]] == [f"r{number}" for number in range(90)]


def test_what_only_the_model_refuses_dies_alone():
    cache = models()
    cache.artifacts.write(ModelKeys("lines", 2).onnx, picky_model())
    cache.artifacts.write(ModelKeys("lines", 2).spec, table_spec(4, 0).encode())
    cache.catalog.extra = {"lines"}
    asked = [b'{"model": "lines", "row": {"x0": %d}}' % (9 if number == 5 else number % 4) for number in range(12)]
    found = answer_records([record(number, data) for number, data in enumerate(asked)], cache, lambda: NOW)
    assert [number for number, each in enumerate(found) if each.death is not None] == [5]
    assert "Model 'lines' can't answer" in found[5].death.reason
    assert [answer(each)["predictions"][0]["value"] for each in found[6:8]] == [12, 13]


def test_records_wait_while_a_pipelines_model_cant_be_read(monkeypatch):
    def away(*_: object) -> None:
        raise Unavailable("S3 isn't available.")

    monkeypatch.setattr("shoal_core.serving.streams.answering.predict_each", away)
    found = outcomes(record(1, ask(1)), record(2, ask(2)))
    assert all(each.waits is not None and each.death is None for each in found)


def test_records_wait_while_a_service_is_down():
    catalog = Catalog()
    catalog.down = True
    found = answer_records([record(1, ask(1)), record(2, b"{broken")], models(catalog), lambda: NOW)
    assert found[0].waits is not None and not found[0].settled
    assert found[1].death is not None and found[1].settled


def test_an_answer_that_no_stream_takes_is_a_dead_letter(monkeypatch):
    monkeypatch.setattr("shoal_core.serving.streams.answering.MAX_ANSWER_BYTES", 100)
    (found,) = outcomes(record(1, ask(1)))
    assert "more than 100 bytes" in found.death.reason


def test_events_of_both_sources_are_read():
    found = records_of({"Records": [kinesis_entry(5, b"\x00\x01", "k"), sqs_entry("m-1", "text")]})
    assert [(each.source, each.position, each.key, each.data) for each in found] == [
        ("kinesis", f"{PLACE}/5", "k", b"\x00\x01"),
        ("sqs", "shoal-requests/m-1", "m-1", b"text"),
    ]
    assert {each.arrived_at for each in found} == {"2026-11-21T08:00:00.500Z"}
    assert message("m-2", "x").sequence == "m-2"
