"""Pipelines answer batches, as they answer single requests."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from shoal_core.errors import BadRequest
from shoal_core.importing.piping import prepare_pipeline, write_pipeline
from shoal_core.keys import ModelKeys
from shoal_core.serving.batches.plan import read_plan
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ServedModel
from tests.unit.serving.batches.jobs import KEYS, Job
from tests.unit.serving.pipelines.models import TENSORS, Shelf, encoder_model, halves_model, halves_spec

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film")
EMBED = b"""
input: {text: {vocabulary: vocab.txt, length: 6}}
nodes:
  tokens: {pieces: input}
  encoder: {model: encoder, inputs: {input_ids: tokens.input_ids, attention_mask: tokens.attention_mask}}
  sentence: {pool: encoder, mask: tokens.attention_mask, unit: false}
output: sentence
"""
SIDES = b"""
input: {image: {size: 8, color: grey, fit: stretch}}
nodes:
  small: {resize: input, size: 4}
  side: {model: halves, inputs: small}
output: side
"""


class PipelineJob(Job):
    """A job that a pipeline answers."""

    def __init__(self, pipeline: bytes, uploaded: dict[str, bytes]) -> None:
        super().__init__("blobs", uploaded)
        shelf = Shelf()
        shelf.put("encoder", encoder_model(len(WORDS)))
        shelf.put("halves", halves_model(), halves_spec())
        piped = prepare_pipeline(pipeline, lambda name: "\n".join(WORDS).encode(), shelf.models)
        write_pipeline(shelf.store, ModelKeys("model", 1), piped)
        del self.artifacts.objects[ModelKeys("model", 1).onnx]
        self.artifacts.objects |= shelf.store.objects
        self.shelf = shelf

    def version(self, name: str, version: int) -> ServedModel:
        return self.shelf.models.version(name, version)

    def alone(self, body: bytes, content_type: str) -> object:
        """What the predict function answers."""
        return predict(self.version("model", 1), body, content_type)["predictions"][0]


def photo(left: int, right: int) -> bytes:
    pixels = np.full((8, 8), left, np.uint8)
    pixels[:, 4:] = right
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_images_through_a_pipeline() -> None:
    photos = {"a.png": photo(255, 0), "b.png": photo(0, 255), "c.png": b"no image"}
    job = PipelineJob(SIDES, photos)
    manifest = job.run()
    assert (manifest.records, manifest.errors, manifest.codes) == (3, 1, {"bad_image": 1})
    found = {line["file"]: line for line in job.lines()}
    assert [found[name]["prediction"]["label"] for name in ("a.png", "b.png")] == ["left", "right"]
    expected = job.alone(photos["a.png"], "image/png")
    assert isinstance(expected, dict)
    assert found["a.png"]["prediction"]["probability"] == expected["probability"]


def test_rows_of_texts_get_their_vectors_in_every_format() -> None:
    texts = ["good film", "bad", "good good film bad"]
    source = "id,text\n" + "".join(f"r{place},{text}\n" for place, text in enumerate(texts))
    job = PipelineJob(EMBED, {"data.csv": source.encode()})
    assert job.run().errors == 0
    plan = read_plan(job.artifacts, KEYS)
    assert (plan.kind, plan.run_rows) == ("rows", 1)
    rows = job.rows()
    assert [row["id"] for row in rows] == ["r0", "r1", "r2"]
    for row, text in zip(rows, texts, strict=True):
        expected = job.alone(json.dumps({"instances": [{"text": text}]}).encode(), "application/json")
        assert {"value": json.loads(row["value"])} == expected

    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    other = PipelineJob(EMBED, {"data.jsonl": lines.encode()})
    other.run()
    assert [line["prediction"]["value"] for line in other.lines()] == [json.loads(row["value"]) for row in rows]


def test_vectors_of_parquet_are_texts(tmp_path: Path) -> None:
    source, target = tmp_path / "data.parquet", tmp_path / "found.parquet"
    duckdb.connect().execute(f"COPY (SELECT 'good' AS text, 1 AS \"Value\") TO '{source}' (FORMAT parquet)")
    job = PipelineJob(EMBED, {"data.parquet": source.read_bytes()})
    job.run()
    target.write_bytes(job.output())
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(target)])
    assert [column[0] for column in found.description or []][:3] == ["text", "Value", "predicted_value"]
    assert len(json.loads(found.fetchall()[0][2])) == len(WORDS)


def test_a_model_that_takes_tensors_is_refused_when_the_job_is_planned() -> None:
    job = PipelineJob(EMBED, {"data.csv": b"a\n1\n"})
    job.artifacts.write(ModelKeys("model", 1).spec, TENSORS.encode())
    with pytest.raises(BadRequest, match="takes tensors"):
        job.plan()
