"""One cell: a run of the product on real data, or its reference on the same samples."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data.driving import Place, RunOver, make_shards, upload
from benchmarks.data.inputs import CACHE
from benchmarks.quality.backbone import bring
from benchmarks.quality.handing import hand_over, score_of
from benchmarks.quality.sets import RealSet, shortened
from benchmarks.quality.training import finish, request_run, train
from shoal_core.training.evaluating import Evaluation
from shoal_core.training.rounds import read_settings
from shoal_core.training.settings import TrainingSettings

_QUICK = "training: {epochs: 1}\n"
REFERENCE_THREADS = 2


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        quick: A part of the data and one epoch: that it runs, not how good it gets.
        run: Runs the workers of a round.
        again: Measure also what was measured before.
    """

    quick: bool
    run: RunOver
    again: bool = False


def source_of(data: RealSet, effort: Effort) -> Path:
    """The upload."""
    return shortened(data.source()) if effort.quick else data.source()


@contextlib.contextmanager
def committed(data: RealSet, seed: int, effort: Effort, more: str = "") -> Iterator[Place]:
    """A place with the data set's committed version.

    It stays in the cache when what is done with it doesn't end well, so that an interrupted run goes on.
    """
    settings = f"{data.settings}seed: {seed}\n{more}{_QUICK if effort.quick else ''}"
    name = f"{data.name}-{seed}{'-quick' if effort.quick else ''}{'-workers' if more else ''}"
    place = Place(CACHE / "quality" / name, data.name)
    request = place.root / "dataset.yaml"
    if not request.exists() or request.read_text() != settings:
        shutil.rmtree(place.root, ignore_errors=True)
        upload(place, source_of(data, effort), settings)
        if data.backbone:
            bring(place)
        request.write_text(settings)
    if not place.artifacts.exists(place.keys.manifest):
        make_shards(place)
    yield place
    shutil.rmtree(place.root)


def trained(data: RealSet, place: Place, effort: Effort, overrides: dict[str, Any]) -> dict[str, Any]:
    """What became of a run: its score on the test split, and what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    run_id = request_run(place, overrides)
    state = train(place, run_id, effort.run)
    evaluation = finish(place, run_id)
    settings = read_settings(place.artifacts, run_id)
    return {
        "score": score(data, evaluation),
        "metrics": {name: value for name, value in evaluation.record().items() if isinstance(value, float)},
        "samples": place.manifest().samples,
        "rounds": state.round,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - processor,
        "settings": _shown(settings),
    }


def referred(data: RealSet, place: Place, effort: Effort, seed: int) -> dict[str, Any]:
    """What became of the reference on the same samples, by the settings that the product resolves for them."""
    settings = resolved(place)
    asked = {
        **_shown(settings),
        "task": settings.task,
        "seed": seed,
        "classes": len(settings.classes),
        "warmup": settings.warmup_steps / settings.total_steps,
        "threads": REFERENCE_THREADS,
    }
    with tempfile.TemporaryDirectory(prefix="shoal-bench-quality-") as folder:
        hand_over(place, source_of(data, effort), Path(folder), asked, features=data.backbone)
        began = time.perf_counter()
        return {**score_of(data.reference, Path(folder)), "seconds": time.perf_counter() - began}


def resolved(place: Place) -> TrainingSettings:
    """The settings of a run that asks for nothing; it is started, but no round is trained."""
    from shoal_core.training.starting import start_training

    run_id = request_run(place, {})
    start_training(place.artifacts, run_id, place.dataset, place.version)
    return read_settings(place.artifacts, run_id)


def score(data: RealSet, evaluation: Evaluation) -> float:
    """The metric that the data set is judged by."""
    return float(getattr(evaluation.metrics, data.metric))


def _shown(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "recipe": settings.recipe,
        "network": settings.recipe_config,
        "epochs": settings.epochs,
        "workers": settings.workers,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "augment": settings.augment,
    }
