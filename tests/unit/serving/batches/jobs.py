"""Batch jobs over small real models, in memory: plan, pieces, commit."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import onnxruntime as ort

from shoal_core.data.config import SourceFile
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import NotFound
from shoal_core.graphs.export import export_model
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.signature import (
    CategoriesInput,
    Classification,
    ImageInput,
    Multilabel,
    NetworkSignature,
    NumbersInput,
    Regression,
    SequenceInput,
    TokenColumn,
    TokensInput,
)
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.keys import BatchKeys, ModelKeys
from shoal_core.serving.batches.committing import BatchManifest, commit_batch
from shoal_core.serving.batches.planning import plan_batch
from shoal_core.serving.batches.predicting import predict_piece
from shoal_core.serving.batches.request import BatchConfig, BatchRequest, UploadedFile
from shoal_core.serving.sessions import ServedModel, session_of
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import image_spec, profile_spec, sequence_spec, table_spec, text_spec

NUMBERS = NumbersInput(mean=(0.0,) * 4, std=(1.0,) * 4, missing=(True,) * 4)
MODELS: dict[str, tuple[PreprocessingSpec, NetworkSignature, str]] = {
    "blobs": (table_spec(), NetworkSignature(numbers=NUMBERS, task=Classification(classes=3)), "mlp"),
    "lines": (table_spec(4, 0), NetworkSignature(numbers=NUMBERS, task=Regression(mean=5.0, std=2.0)), "mlp"),
    "drawings": (
        image_spec(),
        NetworkSignature(image=ImageInput(shape=(1, 8, 8), mean=(60.0,), std=(70.0,)), task=Classification(classes=3)),
        "cnn",
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
    "profiles": (
        profile_spec(),
        NetworkSignature(
            numbers=NumbersInput(mean=(0.0, 0.0), std=(1.0, 1.0), missing=(True, True)),
            categories=CategoriesInput(cardinalities=(5,)),
            tokens=TokensInput(columns=(TokenColumn(length=6, cardinality=10),)),
            task=Multilabel(classes=3),
        ),
        "mlp",
    ),
}
KEYS = BatchKeys("model", "job")


@functools.cache
def graph(name: str) -> bytes:
    spec, signature, recipe = MODELS[name]
    forward = build_forward(recipe, default_config(recipe, signature, 100), signature, seed=1)
    data = forward_with_parameters(forward).SerializeToString()
    return export_model(data, forward.initial, signature.task.kind, spec.target.classes)


@functools.cache
def _session(data: bytes) -> ort.InferenceSession:
    return session_of(data, 1769)


def served(name: str) -> ServedModel:
    return ServedModel(name, 1, MODELS[name][0], _session(graph(name)), 0)


class Uploads(MemoryStore):
    """Uploads with their listing; an object's version is its content."""

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        data = self.read(key)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return SourceFile(key=key, version=version, size=len(data), etag=etag)

    def listing(self, prefix: str, after: str = "") -> Iterator[SourceFile]:
        return (self.describe(key) for key in self.keys(prefix) if key > after)

    versions = listing


class Job:
    """One job: its uploads, its artifacts, and the steps of the state machine.

    Args:
        name: Which of `MODELS` answers.
        uploaded: Name -> bytes. One archive or table starts by itself, anything else is committed by batch.yaml.
        settings: Fields of batch.yaml.
    """

    def __init__(self, name: str, uploaded: Mapping[str, bytes], **settings: Any) -> None:
        folder = "batch/model/job/"
        self.uploads = Uploads({folder + name: data for name, data in uploaded.items()})
        self.artifacts = MemoryStore()
        self.model = name
        model = ModelKeys("model", 1)
        self.artifacts.write(model.onnx, graph(name))
        self.artifacts.write(model.spec, MODELS[name][0].encode())
        only = next(iter(uploaded))
        starts = (".zip", ".tar", ".gz", ".zst", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".uris")
        alone = len(uploaded) == 1 and only.endswith(starts)
        file = UploadedFile(key=folder + only) if alone and "/" not in only else None
        self.request = BatchRequest(model="model", job="job", folder=folder, file=file, config=BatchConfig(**settings))

    def alias(self, model: str, alias: str = "production") -> int:
        if model != "model":
            raise NotFound(f"Model {model!r} doesn't exist.")
        return 1

    def version(self, name: str, version: int) -> ServedModel:
        assert (name, version) == ("model", 1)
        return served(self.model)

    def plan(self) -> int:
        return len(plan_batch(self.uploads, self.artifacts, self, self.request).pieces)

    def predict(self, piece: int) -> None:
        predict_piece(self.uploads, self.artifacts, self, KEYS, piece)

    def commit(self) -> BatchManifest:
        return commit_batch(self.artifacts, KEYS, {})

    def run(self) -> BatchManifest:
        for piece in range(self.plan()):
            self.predict(piece)
        return self.commit()

    def output(self) -> bytes:
        manifest = self.commit()
        assert manifest.predictions is not None
        return self.artifacts.read(KEYS.prefix + manifest.predictions.key)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output().splitlines()]

    def rows(self, delimiter: str = ",") -> list[dict[str, str]]:
        source = io.StringIO(self.output().decode(), newline="")
        return cast("list[dict[str, str]]", list(csv.DictReader(source, delimiter=delimiter)))

    def errors(self) -> list[dict[str, Any]]:
        found = [self.artifacts.read(key) for key in self.artifacts.keys(f"{KEYS.prefix}errors/")]
        return [json.loads(line) for data in found for line in data.splitlines()]
