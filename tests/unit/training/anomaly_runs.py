"""Whole runs that seek anomalies, from files to a served model, over the core's own stages."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from shoal_core.data.assigning import assign_samples
from shoal_core.data.committing import commit_dataset
from shoal_core.data.config import DatasetRequest, SourceFile, parse_config
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.planning import plan_dataset
from shoal_core.data.writing import write_shard
from shoal_core.keys import DatasetKeys
from shoal_core.serving.sessions import ServedModel, session_of
from shoal_core.training.evaluating import Evaluation, evaluate_shard, merge_evaluation, served_model
from shoal_core.training.merging import merge_round
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.rounds import train_shard
from shoal_core.training.starting import start_training
from tests.support import real_data
from tests.support.stores import MemoryStore

VERSION, RUN = "0123456789ab", "run"


@dataclass(frozen=True)
class Finished:
    """What a run left behind."""

    artifacts: MemoryStore
    manifest: Manifest
    evaluation: Evaluation
    model: ServedModel


def prepared(files: Mapping[str, bytes], settings: str) -> tuple[MemoryStore, Manifest]:
    """The stages of the data."""
    uploads, artifacts = MemoryStore(), MemoryStore()
    for name, data in files.items():
        uploads.write(f"datasets/strange/{name}", data)
    sources = tuple(SourceFile(key=f"datasets/strange/{name}", size=len(data)) for name, data in files.items())
    request = DatasetRequest(dataset="strange", version=VERSION, files=sources, config=parse_config(settings.encode()))
    artifacts.write(DatasetKeys("strange", VERSION).request, request.model_dump_json().encode())
    plan = plan_dataset(uploads, artifacts, "strange", VERSION)
    for item in range(len(plan.items)):
        write_shard(uploads, artifacts, "strange", VERSION, item)
    for shard in range(len(assign_samples(artifacts, "strange", VERSION).shards)):
        pack_shard(artifacts, "strange", VERSION, shard)
    return artifacts, commit_dataset(artifacts, "strange", VERSION)


def finished(files: Mapping[str, bytes], settings: str) -> Finished:
    """All stages."""
    artifacts, manifest = prepared(files, settings)
    state = start_training(artifacts, RUN, "strange", VERSION)
    while not state.finished:
        for worker in state.workers:
            train_shard(artifacts, RUN, state.round, worker.worker)
        state = merge_round(artifacts, RUN, state.round)
    optimize_model(artifacts, RUN)
    for shard in state.evaluation_shards:
        evaluate_shard(artifacts, RUN, shard.shard)
    model = served_model(artifacts, RUN)
    served = ServedModel("strange", 1, manifest.spec, session_of(model, 1769), len(model))
    return Finished(artifacts, manifest, merge_evaluation(artifacts, RUN), served)


def zeros_and_others() -> dict[str, bytes]:
    """All handwritten zeros, and about 90 other digits."""
    with zipfile.ZipFile(real_data.DIGITS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        zeros = [name for name in names if name.split("/")[-2] == "0"]
        others = [name for name in names if name not in zeros][::18]
        return {"/".join(name.split("/")[-2:]): archive.read(name) for name in (*zeros, *others)}
