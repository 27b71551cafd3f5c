"""A worker's local steps: against numpy, repeated, resumed, diverging."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadDataset, BadRequest, NotFound, TrainingDiverged
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.training.checkpoints import Update
from shoal_core.training.merging import merge_round
from shoal_core.training.rounds import read_checkpoint, step_learning_rate, train_round, train_shard, worker_batches
from shoal_core.training.sessions import Session
from tests.unit.training.networks import MOMENTUM, softmax_step
from tests.unit.training.runs import CLASSES, FEATURES, RUN, classification_run, train_all


def read_update(store, round_=1, worker=0) -> Update:
    return Update.decode(store.read(RunKeys(RUN).update(round_, worker)), "u")


def test_local_steps_agree_with_numpy():
    store, settings, manifest = classification_run()
    stream = worker_batches(store, settings, manifest, worker=1)
    weight, bias = np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)
    velocity, bias_velocity, losses = np.zeros_like(weight), np.zeros_like(bias), []
    for step, batch in enumerate(stream.batches(0, settings.steps_per_round)):
        x, truth = batch["numbers"].astype(np.float64), np.eye(CLASSES)[batch["target"]]
        exponentials = np.exp(x @ weight + bias)
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        losses.append(-np.log((probabilities * truth).sum(axis=1)).mean())
        error = (probabilities - truth) / len(x)
        velocity, bias_velocity = MOMENTUM * velocity + x.T @ error, MOMENTUM * bias_velocity + error.sum(axis=0)
        rate = step_learning_rate(settings, step)
        weight, bias = weight - rate * velocity, bias - rate * bias_velocity
    train_shard(store, RUN, 1, 1)
    update = read_update(store, worker=1)
    np.testing.assert_allclose(update.parameters["weight"], weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(update.state["velocity.bias"], bias_velocity, rtol=1e-3, atol=1e-5)
    assert update.loss_sum == pytest.approx(settings.local_batch_size * sum(losses), rel=1e-4)
    assert (update.steps, update.samples) == (settings.steps_per_round, settings.steps_per_round * 12)
    assert update.weight == 128


def test_a_repeated_worker_changes_nothing():
    store, _, _ = classification_run()
    first = train_shard(store, RUN, 1, 0)
    objects = dict(store.objects)
    second = train_shard(store, RUN, 1, 0)
    assert (first.repeated, second.repeated) == (False, True)
    assert store.objects == objects
    del store.objects[RunKeys(RUN).update(1, 0)]
    train_shard(store, RUN, 1, 0)
    assert store.objects == objects


def test_a_repeated_worker_needs_nothing_but_its_update():
    store, _, _ = classification_run()
    train_shard(store, RUN, 1, 0)
    store.objects = {RunKeys(RUN).update(1, 0): b""}
    assert train_shard(store, RUN, 1, 0).repeated


def test_workers_differ():
    store, settings, _ = classification_run()
    train_all(store, settings, 1)
    assert read_update(store, worker=0).parameters["weight"].tobytes() != (
        read_update(store, worker=1).parameters["weight"].tobytes()
    )


def test_a_diverging_run_names_run_round_worker_step_and_fix():
    store, settings, manifest = classification_run(workers=1, learning_rate=0.2)
    checkpoint = read_checkpoint(store, RUN, 0)
    checkpoint.parameters["weight"] = np.full((FEATURES, CLASSES), np.inf, np.float32)
    stream = worker_batches(store, settings, manifest, 0)
    where = "'tiny-v1' diverged in round 1, worker 0: the loss is nan at step 0"
    with pytest.raises(TrainingDiverged, match=where) as caught:
        train_round(Session(softmax_step(FEATURES, CLASSES), 1), checkpoint, stream, settings, 0)
    assert "it was 0.2; try 0.02" in caught.value.fix


def test_parameters_that_overflow_after_the_last_loss_are_caught():
    store, settings, manifest = classification_run(workers=1)
    settings = settings.model_copy(update={"steps_per_round": 1, "learning_rate": 3.3e38})
    stream = worker_batches(store, settings, manifest, 0)
    with pytest.raises(TrainingDiverged, match=r"param\.\w+ isn't finite after step 1"):
        train_round(Session(softmax_step(FEATURES, CLASSES), 1), read_checkpoint(store, RUN, 0), stream, settings, 0)


def test_a_corrupt_shard_stops_its_worker_by_name():
    store, _, manifest = classification_run()
    data = bytearray(store.read(manifest.train[0].key))
    # A shard that no other test has loaded: warm workers keep verified ones.
    data[-3] ^= 255
    store.write(manifest.train[0].key, bytes(data))
    broken = manifest.train[0].model_copy(update={"sha256": "0" * 64})
    _replace_manifest(store, manifest.model_copy(update={"train": (broken, *manifest.train[1:])}))
    with pytest.raises(BadDataset, match="shard-00000"):
        train_shard(store, RUN, 1, 0)


def test_a_changed_manifest_is_refused():
    store, _, manifest = classification_run()
    changed = manifest.model_copy(update={"inferred": ("task",)})
    store.write(DatasetKeys("tiny", "v1").manifest, changed.encode())
    with pytest.raises(BadDataset, match="changed since run 'tiny-v1' started"):
        train_shard(store, RUN, 1, 0)


def test_wrong_rounds_and_workers_are_refused():
    store, _, _ = classification_run()
    with pytest.raises(BadRequest, match="no worker 2"):
        train_shard(store, RUN, 1, 2)
    with pytest.raises(BadRequest, match="no round 4"):
        train_shard(store, RUN, 4, 0)
    with pytest.raises(NotFound):
        train_shard(store, RUN, 2, 0)
    with pytest.raises(NotFound):
        train_shard(store, "another", 1, 0)


class RecordingStream:
    samples = 256

    def __init__(self, stream):
        self.stream = stream
        self.asked = []

    def batches(self, first, count):
        self.asked.append((first, count))
        return self.stream.batches(first, count)


def test_batches_go_on_where_the_round_before_ended():
    store, settings, manifest = classification_run(workers=1)
    train_all(store, settings, 1)
    merge_round(store, RUN, 1)
    stream = RecordingStream(worker_batches(store, settings, manifest, 0))
    session = Session(softmax_step(FEATURES, CLASSES), 1)
    update = train_round(session, read_checkpoint(store, RUN, 1), stream, settings, 0)
    assert stream.asked == [(settings.steps_per_round, settings.steps_per_round)]
    train_shard(store, RUN, 2, 0)
    assert read_update(store, round_=2).encode() == update.encode()


def _replace_manifest(store, manifest: Manifest) -> None:
    store.write(DatasetKeys("tiny", "v1").manifest, manifest.encode())
    settings = classification_run()[1].model_copy(update={"manifest_digest": manifest.digest})
    store.write(RunKeys(RUN).settings, settings.encode())
