"""A whole run of the product in this process: its own functions in the state machine's order, over a folder."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.data.driving import Place, RunOver, in_this_process
from shoal_core.keys import RunKeys
from shoal_core.training.evaluating import Evaluation, evaluate_shard, merge_evaluation
from shoal_core.training.featuring import commit_features, compute_features, plan_features
from shoal_core.training.merging import merge_round
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.requests import RunRequest
from shoal_core.training.rounds import train_shard
from shoal_core.training.starting import start_training
from shoal_core.training.states import RoundRecord, RoundState, read_round

AfterRound = Callable[[RoundRecord], bool]
"""Sees each round as it is committed; True ends the run."""


def request_run(place: Place, overrides: dict[str, Any]) -> str:
    """Write the request of a run on the place's committed version; returns the run's id."""
    request = RunRequest(dataset=place.dataset, version=place.version, overrides=overrides)
    place.artifacts.write_new(RunKeys(request.run_id).request, request.encode())
    return request.run_id


def train(
    place: Place, run_id: str, run: RunOver = in_this_process, after_round: AfterRound = lambda record: False
) -> RoundState:
    """Rounds until the run is finished; goes on where an interrupted one stopped.

    Args:
        place: With a committed dataset version.
        run_id: The run.
        run: Runs the workers of a round.
        after_round: See `AfterRound`.
    """
    artifacts = place.artifacts
    state = start_training(artifacts, run_id, place.dataset, place.version)
    features = plan_features(artifacts, run_id)
    if features["computes_features"]:
        run(_compute, [(place, run_id, item) for item in json.loads(artifacts.read(features["items_key"]))])
        commit_features(artifacts, run_id)
    while not state.finished:
        round_ = state.round
        run(_work, [(place, run_id, round_, item.worker) for item in state.workers])
        state = merge_round(artifacts, run_id, round_)
        if after_round(read_round(artifacts, run_id, round_)):
            break
    return state


def finish(place: Place, run_id: str) -> Evaluation:
    """What follows the last round: the model that will be served, scored on the test split."""
    artifacts = place.artifacts
    optimize_model(artifacts, run_id)
    state = start_training(artifacts, run_id, place.dataset, place.version)
    for item in state.evaluation_shards:
        evaluate_shard(artifacts, run_id, item.shard)
    return merge_evaluation(artifacts, run_id)


def _work(item: tuple[Place, str, int, int]) -> None:
    place, run_id, round_, worker = item
    train_shard(place.artifacts, run_id, round_, worker)


def _compute(item: tuple[Place, str, dict[str, int]]) -> None:
    place, run_id, shards = item
    compute_features(place.artifacts, run_id, **shards)


@contextlib.contextmanager
def at_once(processes: int) -> Iterator[RunOver]:
    """Runs items over so many processes, which stay warm; one works right here."""
    if processes == 1:
        yield in_this_process
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
            return list(pool.map(function, items))

        yield run
