"""What a step of each recipe takes the product's worker on real data, beside what plans and quotes count with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.data.driving import Place
from benchmarks.quality.measuring import Effort, committed
from benchmarks.quality.sets import SETS
from benchmarks.quality.training import request_run
from benchmarks.results import Row
from shoal_core.training.recipes import sample_seconds
from shoal_core.training.rounds import read_settings, train_shard
from shoal_core.training.starting import start_training

BATCH = 64
RECIPES = {
    "cuts": ("linear", "mlp"),
    "mnist": ("cnn", "resnet", "vgg", "crnn"),
    "reviews": ("fasttext", "text-cnn", "rnn", "transformer", "crnn"),
}
# So that a round has some dozens of steps.
_ROUNDS = 20


def recipe_rows(effort: Effort, repeats: int) -> list[Row]:
    """Milliseconds of processor time for 64 samples in a round: checkpoint, shards, varied batches, steps, update."""
    rows: list[Row] = []
    for name in RECIPES:
        with committed(SETS[name], 0, effort, "") as place:
            rows += _rows_on(place, name, repeats)
    return rows


def _rows_on(place: Place, name: str, repeats: int) -> Iterator[Row]:
    spec = place.manifest().spec
    for recipe in RECIPES[name]:
        # The first loads the graph, which the others share.
        _, *took = [_milliseconds(place, recipe, seed) for seed in range(repeats + 1)]
        told = 1000 * BATCH * sample_seconds(recipe, spec)
        title = f"step of recipe {recipe} on {SETS[name].title}, 64 samples"
        yield Row(title, "ms cpu", statistics.median(took), None, "", tuple(took))
        yield Row(f"{title}: counted with, over measured", "", told / statistics.median(took))


def _milliseconds(place: Place, recipe: str, seed: int) -> float:
    training = {"epochs": 1, "batch_size": BATCH, "patience": 0}
    asked = {"recipe": recipe, "workers": 1, "rounds": _ROUNDS, "seed": seed, "training": training}
    run_id = request_run(place, asked)
    start_training(place.artifacts, run_id, place.dataset, place.version)
    began = time.process_time()
    train_shard(place.artifacts, run_id, 1, 0)
    return 1000 * (time.process_time() - began) / read_settings(place.artifacts, run_id).steps_per_round
