"""An uploaded pipeline's way to a version that serves: the function itself, over S3 and DynamoDB in the process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from shoal_core.data.config import MAX_CONFIG_BYTES
from shoal_core.data.texts.wordpiece import FIRST, LAST, UNKNOWN_PIECE
from shoal_core.importing import bringing
from shoal_core.keys import ModelKeys
from shoal_core.registry.records import ModelVersion
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ModelCache
from tests.support.aws import REGION, stack
from tests.unit.importing.test_bringing import queries, send, upload, write
from tests.unit.serving.pipelines.models import TENSORS, encoder_model

WORDS = ("[PAD]", UNKNOWN_PIECE, FIRST, LAST, "good", "bad")
VOCABULARY = "\n".join(WORDS).encode() + b"\n"
EMBED = b"""
input: {text: {vocabulary: vocab.txt, length: 6}}
nodes:
  tokens: {pieces: input}
  encoder: {model: encoder, inputs: {input_ids: tokens.input_ids, attention_mask: tokens.attention_mask}}
  sentence: {pool: encoder, mask: tokens.attention_mask, unit: false}
output: sentence
"""
KEY = "models/embed/1/pipeline.yaml"


@pytest.fixture
def cloud() -> Iterator[None]:
    with stack():
        register("encoder")
        yield


def register(name: str) -> None:
    """Put a small encoder under a name, as an import of it would: no trial of it is of interest here."""
    from shoal_core.aws.handler import artifacts
    from shoal_core.aws.imports import Imports

    data, catalog = encoder_model(len(WORDS)), Imports()
    number = catalog.reserve_version(name, "import-1")
    artifacts().write(ModelKeys(name, number).onnx, data)
    artifacts().write(ModelKeys(name, number).spec, TENSORS.encode())
    facts: dict[str, Any] = {"run_id": "import-1", "dataset": "", "dataset_version": "", "task": "tensors"}
    told = {"metrics": {}, "digest": "", "bytes": len(data), "created_at": "2026-11-21T08:00:00Z", "signature": {}}
    version = ModelVersion(version=number, **facts, **told, lineage={})
    catalog.publish_version(name, version, bringing.imported_waits(False), "1")


def reason(outcome: dict[str, Any]) -> str:
    assert outcome["status"] == "refused"
    failure = queries().run(outcome["run_id"]).failure
    assert failure.stage == "Import Model"
    assert failure.fix
    return str(failure.reason)


def test_a_pipeline_is_registered_and_answers(cloud):
    assert upload("models/embed/1/vocab.txt", VOCABULARY)["status"] == "ignored"
    outcome = upload(KEY, EMBED)
    run = queries().run(outcome["run_id"])
    assert (run.status, run.model.name, run.model.version) == ("succeeded", "embed", 1)
    (version,) = queries().model("embed", "http://api").versions
    assert version.lineage["upload"]["key"] == KEY
    assert version.lineage["pipeline"] == {"encoder": {"model": "encoder", "version": 1, "follows": None}}

    from shoal_core.aws.handler import artifacts, catalog

    served = ModelCache(artifacts(), catalog(), 1769).production("embed")
    (found,) = predict(served, b'{"instances": [{"text": "good"}]}', "application/json")["predictions"]
    third = pytest.approx(1 / 3)
    assert found["value"] == [0, 0, third, third, third, 0]


def test_the_same_event_and_the_same_pipeline_change_nothing(cloud):
    upload("models/embed/1/vocab.txt", VOCABULARY)
    event = write(KEY, EMBED)
    assert [send(event)["status"], send(event)["status"]] == ["started", "unchanged"]
    assert upload(KEY, EMBED)["status"] == "started"
    assert [version.version for version in queries().model("embed", "").versions] == [1]


def test_a_pipeline_before_its_vocabulary_is_refused_by_the_files_name_and_comes_again(cloud):
    assert "vocab.txt" in reason(upload(KEY, EMBED))
    upload("models/embed/1/vocab.txt", VOCABULARY)
    assert upload(KEY, EMBED)["status"] == "started"
    assert queries().model("embed", "").aliases == {"production": 1}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b"model: encoder", b"model: nobody", "nobody"),
        (b"model: encoder", b"model: encoder, version: 7", "'encoder' has no version 7"),
        (b"vocabulary: vocab.txt", b"vocabulary: ../2/vocab.txt", "names the file '../2/vocab.txt'"),
        (b"output: sentence", b"output: nowhere", "pipeline.yaml: output 'nowhere' isn't a node"),
        (b"pool: encoder, mask: tokens.attention_mask", b"pool: tokens.input_ids", "Node 'sentence' of the pipeline"),
    ],
)
def test_what_cant_work_is_a_failed_run_with_reason_and_fix(cloud, old, new, named):
    upload("models/embed/1/vocab.txt", VOCABULARY)
    told = reason(upload(KEY, EMBED.replace(old, new)))
    assert named in told


def test_a_pipeline_of_a_pipeline_is_refused(cloud):
    upload("models/embed/1/vocab.txt", VOCABULARY)
    upload(KEY, EMBED)
    upload("models/outer/1/vocab.txt", VOCABULARY)
    told = reason(upload("models/outer/1/pipeline.yaml", EMBED.replace(b"model: encoder", b"model: embed")))
    assert "is a pipeline itself" in told


@pytest.mark.parametrize("name", ["pipeline.yaml", "vocab.txt", "model.yaml", "labels.txt"])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(cloud, monkeypatch, name):
    from shoal_core.aws.s3 import S3Store

    monkeypatch.setattr(bringing, "MAX_NAMED_BYTES", MAX_CONFIG_BYTES)
    files = {"vocab.txt": VOCABULARY, "labels.txt": b"a\nb\n", "model.yaml": b"labels: labels.txt\n"}
    files |= {name: files.get(name, EMBED) + b"#" * MAX_CONFIG_BYTES}
    files.setdefault("pipeline.yaml", EMBED)
    last = "m.onnx" if name in ("model.yaml", "labels.txt") else "pipeline.yaml"
    for key in sorted(files.keys() - {"pipeline.yaml"}):
        write(f"models/m/{key}", files[key])
    read = S3Store.read

    def reads(store: S3Store, key: str, *arguments: Any) -> bytes:
        assert not key.endswith(f"/{name}")
        return read(store, key, *arguments)

    monkeypatch.setattr(S3Store, "read", reads)
    told = reason(upload(f"models/m/{last}", files.get(last, b"onnx")))
    assert f"{name!r} has" in told


def test_a_pipeline_that_is_gone_is_ignored(cloud):
    event = write(KEY, EMBED)
    stored = event["Records"][0]["s3"]["object"]
    boto3.client("s3", region_name=REGION).delete_object(
        Bucket="uploads", Key=stored["key"], VersionId=stored["versionId"]
    )
    assert send(event)["status"] == "ignored"
    assert queries().runs().runs == []
