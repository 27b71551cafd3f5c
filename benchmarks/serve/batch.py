"""A batch job beside the loop that one would write by hand: the same file, model and cores, without a cloud.

The hand-written loop (`by_hand`) reads the file with the standard library, makes tensors, runs the model on a few
hundred records at a time and writes them with label and probability, in one process. Ours is what the state machine
does: plan, pieces by as many processes as workers, commit. Both start with their libraries loaded and end with their
output on the disk. `python -m benchmarks.serve.batch JOB SOURCE OUT WORKERS` is one contender.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import os
import statistics
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from benchmarks.data import inputs
from benchmarks.data.contender import Job, Task, main
from benchmarks.data.folder_store import FolderStore
from benchmarks.data.measure import Contender, Measurement, interleaved
from benchmarks.results import Row, median_row
from shoal_core.data.config import SourceFile
from shoal_core.data.spec import (
    CategoryColumn,
    ImageInput,
    NumberColumn,
    PreprocessingSpec,
    TableInput,
    TargetSpec,
)
from shoal_core.graphs import signature as signatures
from shoal_core.graphs.export import export_model
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.keys import BatchKeys, ModelKeys
from shoal_core.serving.batches.committing import commit_batch
from shoal_core.serving.batches.planning import plan_batch
from shoal_core.serving.batches.predicting import predict_piece
from shoal_core.serving.batches.request import BatchConfig, BatchRequest, UploadedFile
from shoal_core.serving.sessions import ServedModel, session_of

MODULE = "benchmarks.serve.batch"
OURS, BY_HAND = "shoal", "loop by hand"
KEYS = BatchKeys("model", "job")
MODEL = ModelKeys("model", 1)
MEMORY_MB = 1769
RUN = 256
GOAL = ">= 0.8"
NUMBERS = ("month", "day", "sched_dep_time", "dep_delay", "sched_arr_time", "air_time", "distance", "hour", "minute")
CATEGORIES = {
    "carrier": ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"),
    "origin": ("EWR", "JFK", "LGA"),
}
CLASSES = {"images": tuple("0123456789"), "rows": ("early", "on time", "late")}


def spec_of(kind: str) -> PreprocessingSpec:
    """What the model takes: MNIST's images, or nine numbers and two categories of a flight."""
    target = TargetSpec(task="classification", classes=CLASSES[kind])
    if kind == "images":
        return PreprocessingSpec(kind="image", image=ImageInput(height=28, width=28, channels=1), target=target)
    columns = tuple(CategoryColumn(name=name, categories=values) for name, values in CATEGORIES.items())
    table = TableInput(numbers=tuple(NumberColumn(name=name) for name in NUMBERS), categories=columns)
    return PreprocessingSpec(kind="table", table=table, target=target)


def graph_of(kind: str) -> bytes:
    """The default network for that, with weights as they are drawn: what they are costs no time."""
    task = signatures.Classification(classes=len(CLASSES[kind]))
    if kind == "images":
        image = signatures.ImageInput(shape=(1, 28, 28), mean=(33.0,), std=(79.0,))
        signature, recipe = signatures.NetworkSignature(image=image, task=task), "cnn"
    else:
        count = len(NUMBERS)
        numbers = signatures.NumbersInput(mean=(0.0,) * count, std=(100.0,) * count, missing=(True,) * count)
        sizes = tuple(len(values) + 1 for values in CATEGORIES.values())
        categories = signatures.CategoriesInput(cardinalities=sizes)
        signature, recipe = signatures.NetworkSignature(numbers=numbers, categories=categories, task=task), "mlp"
    forward = build_forward(recipe, default_config(recipe, signature, 100_000), signature, seed=0)
    graph = forward_with_parameters(forward).SerializeToString()
    return export_model(graph, forward.initial, signature.task.kind, CLASSES[kind])


class Uploads(FolderStore):
    """Uploads as planning sees them."""

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """See `shoal_core.serving.batches.inputs.BatchUploads`."""
        return SourceFile(key=key, size=(self.root / key).stat().st_size)

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """See `shoal_core.serving.batches.inputs.BatchUploads`."""
        return map(self.describe, self.keys(prefix))

    def listing(self, prefix: str, after: str = "") -> Iterator[SourceFile]:
        """See `shoal_core.serving.batches.inputs.BatchUploads`."""
        return self.versions(prefix)


def ours(task: Task, kind: str) -> None:
    """Plan, pieces, commit."""
    uploads, artifacts = Uploads(task.out / "uploads"), FolderStore(task.out / "artifacts")
    key = f"batch/model/job/{task.source.name}"
    (uploads.root / key).parent.mkdir(parents=True)
    (uploads.root / key).symlink_to(task.source.resolve())
    artifacts.write(MODEL.onnx, graph_of(kind))
    artifacts.write(MODEL.spec, spec_of(kind).encode())
    # Each worker has work until the end, however short the file is.
    config = BatchConfig(piece_records=8192 if kind == "images" else 40_000)
    file = UploadedFile(key=key)
    request = BatchRequest(model="model", job="job", folder="batch/model/job/", file=file, config=config)
    _served(task.out)
    with task.processes() as run:
        run(_warm, [task.out] * task.workers)
        with task.clock():
            pieces = len(plan_batch(uploads, artifacts, Production(), request).pieces)
            run(_predict, [(task.out, piece) for piece in range(pieces)])
            manifest = commit_batch(artifacts, KEYS, {})
    task.measured.update(samples=manifest.records, errors=manifest.errors, pieces=pieces)


class Production:
    """The one version there is."""

    def alias(self, model: str, alias: str = "production") -> int:
        """See `shoal_core.serving.batches.planning.ModelAliases`."""
        return 1


class Served:
    """The version in memory."""

    def __init__(self, root: Path) -> None:
        artifacts = FolderStore(root / "artifacts")
        spec = PreprocessingSpec.decode(artifacts.read(MODEL.spec))
        graph = artifacts.read(MODEL.onnx)
        self._model = ServedModel("model", 1, spec, session_of(graph, MEMORY_MB), len(graph))

    def version(self, name: str, version: int) -> ServedModel:
        """See `shoal_core.serving.batches.predicting.Versions`."""
        return self._model


@functools.cache
def _served(root: Path) -> Served:
    return Served(root)


def _warm(root: Path) -> None:
    Image.init()
    _served(root)


def _predict(item: tuple[Path, int]) -> None:
    root, piece = item
    predict_piece(Uploads(root / "uploads"), FolderStore(root / "artifacts"), _served(root), KEYS, piece)


def _raw_session(kind: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph_of(kind), options, providers=["CPUExecutionProvider"])


def images_by_hand(task: Task) -> None:
    """zipfile, Pillow, numpy, `session.run`, json."""
    Image.init()
    session, classes, done = _raw_session("images"), CLASSES["images"], 0
    with task.clock(), zipfile.ZipFile(task.source) as archive, (task.out / "out.jsonl").open("w") as out:
        names = archive.namelist()
        for start in range(0, len(names), RUN):
            part = names[start : start + RUN]
            images = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in part]
            result = session.run(None, {"image": np.stack(images)[:, np.newaxis]})[0]
            for name, row in zip(part, result, strict=True):
                best = int(row.argmax())
                answer = {"label": classes[best], "probability": float(row[best])}
                out.write(json.dumps({"file": name, "prediction": answer}) + "\n")
            done += len(part)
    task.measured.update(samples=done)


def rows_by_hand(task: Task) -> None:
    """csv, numpy, `session.run`, csv."""
    session, classes, done = _raw_session("rows"), CLASSES["rows"], 0
    codes = [{value: code for code, value in enumerate(values, 1)} for values in CATEGORIES.values()]
    with (
        task.clock(),
        task.source.open(newline="") as file,
        (task.out / "out.csv").open("w", newline="") as out,
    ):
        reader, writer = csv.reader(file), csv.writer(out)
        header = next(reader)
        writer.writerow([*header, "label", "probability"])
        numbers, categories = ([header.index(name) for name in names] for names in (NUMBERS, CATEGORIES))
        while rows := list(itertools.islice(reader, 16 * RUN)):
            values = [[float(row[place]) if row[place] else np.nan for place in numbers] for row in rows]
            known = [[code.get(row[place], 0) for code, place in zip(codes, categories, strict=True)] for row in rows]
            tensors = {"numbers": np.array(values, np.float32), "categories": np.array(known, np.int64)}
            result = session.run(None, tensors)[0]
            best = result.argmax(axis=1)
            for row, index, probability in zip(rows, best.tolist(), result.max(axis=1).tolist(), strict=True):
                writer.writerow([*row, classes[index], probability])
            done += len(rows)
    task.measured.update(samples=done)


def measure(scratch: Path, repeats: int, workers: Sequence[int] = (1, 2, 4)) -> list[Row]:
    """Images/s and rows/s of a batch job with 1 to 4 workers, and per core over the loop by hand.

    More workers than this machine has cores share them: "per core" counts the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows: list[Row] = []
    for kind, source in (("images", inputs.images()), ("rows", inputs.flights())):
        hand = Contender(BY_HAND, MODULE, f"{kind}-by-hand", ours=True, source=source)
        mine = Contender(OURS, MODULE, kind, ours=True, source=source)
        for count in workers:
            # The loop has one core whatever the workers: it is one process with one thread.
            turns = [
                interleaved([hand], 1, 1, scratch) | interleaved([mine], count, 1, scratch) for _ in range(repeats)
            ]
            rates = {name: [_rate(turn[name][0]) for turn in turns] for name in (OURS, BY_HAND)}
            title = f"batch job, {kind}, {count} worker{'s' * (count > 1)}"
            rows.append(median_row(title, f"{kind}/s", rates[OURS], rates[BY_HAND]))
            per_core = statistics.median(rates[OURS]) / min(count, cores) / statistics.median(rates[BY_HAND])
            rows.append(Row(f"{title}: per core over the loop by hand", "", per_core, goal=GOAL))
            peak = max(turn[OURS][0].peak_mb for turn in turns)
            rows.append(Row(f"{title}: peak memory", "MB", peak))
    return rows


def _rate(measurement: Measurement) -> float:
    return float(measurement.told["samples"]) / measurement.seconds


JOBS: dict[str, Job] = {
    "images": functools.partial(ours, kind="images"),
    "rows": functools.partial(ours, kind="rows"),
    "images-by-hand": images_by_hand,
    "rows-by-hand": rows_by_hand,
}

if __name__ == "__main__":
    main(JOBS)
