"""Schemes: what synchronous steps equal, what DiLoCo remembers, what each survives, and how one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.errors import RoundUnfinished, TrainingDiverged
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import AdamW, Optimizer, Sgd
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.training_step import build_training_step
from shoal_core.keys import DatasetKeys
from shoal_core.training.checkpoints import PARAMETER, STATE, Checkpoint, Update
from shoal_core.training.compression import read_lost, read_update
from shoal_core.training.gradients import PIECE, counted, descend, pieces
from shoal_core.training.merging import merge_round
from shoal_core.training.parts import RESERVE_SECONDS
from shoal_core.training.rounds import (
    carried,
    read_checkpoint,
    read_manifest,
    round_settings,
    step_learning_rate,
    train_shard,
    worker_batches,
)
from shoal_core.training.sessions import session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.signatures import signature_of
from shoal_core.training.states import read_round
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION
from tests.unit.training.scheme_runs import KEYS, RUN, begun, one_round, to_the_end

OPTIMIZERS: dict[str, tuple[dict[str, Any], Optimizer]] = {
    "momentum": (
        {"optimizer": "sgd", "weight_decay": 0.01, "clip_norm": 0.5},
        Sgd(momentum=0.9, weight_decay=0.01, clip_norm=0.5),
    ),
    "adamw": ({"optimizer": "adamw", "weight_decay": 0.1}, AdamW(weight_decay=0.1)),
}


def whole_batch(store: MemoryStore, settings: TrainingSettings, manifest: Manifest, step: int) -> Tensors:
    """What all workers see in a step, together."""
    parts = [
        next(iter(worker_batches(store, settings, manifest, worker).batches(step, 1)))
        for worker in range(settings.workers)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("kind", ["table", "numbers"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch", [64, 4 * PIECE + 24])
def test_a_synchronous_step_is_one_of_a_worker_with_the_whole_batch(name: str, kind: str, batch: int) -> None:
    asked, optimizer = OPTIMIZERS[name]
    store, settings = begun(kind=kind, rounds=None, batch_size=min(batch, 256), epochs=5, **asked)
    settings = settings.model_copy(update={"batch_size": batch, "local_batch_size": batch // 4})
    store.write(KEYS.settings, settings.encode())
    manifest = read_manifest(store, settings)
    signature = signature_of(manifest)
    forward = build_forward("mlp", settings.recipe_config, signature, settings.seed)
    loss = loss_for(signature.task, settings.loss, settings.loss_config)
    session = session_of(build_training_step(forward, loss, optimizer).SerializeToString(), 1)
    alone = read_checkpoint(store, RUN, 0)
    values = {PARAMETER + key: array for key, array in alone.parameters.items()}
    values |= {STATE + key: array for key, array in alone.state.items()}
    for step in range(3):
        assert not one_round(store, step + 1, 4).finished
        feeds = whole_batch(store, settings, manifest, step)
        feeds["learning_rate"] = np.array(step_learning_rate(settings, step), np.float32)
        feeds["step"] = np.array(step, np.float32)
        outputs = session.run(feeds | values)
        values = {key: outputs[f"new.{key}"] for key in values}
        merged, record = read_checkpoint(store, RUN, step + 1), read_round(store, RUN, step + 1)
        for key, array in merged.parameters.items():
            np.testing.assert_allclose(array, values[PARAMETER + key], rtol=0, atol=1e-5)
        for key, array in merged.state.items():
            np.testing.assert_allclose(array, values[STATE + key], rtol=1e-5, atol=1e-5)
        assert record.loss == pytest.approx(float(outputs["loss"]), rel=1e-5)
        assert (record.samples, record.steps, merged.step) == (batch, 1, step + 1)
        assert record.learning_rate == step_learning_rate(settings, step)


def test_batch_normalization_sees_one_workers_samples_and_running_statistics_are_averaged() -> None:
    store, _ = begun(kind="images", workers=2, rounds=2)
    before = read_checkpoint(store, RUN, 0)
    assert before.buffers
    one_round(store, 1, 2)
    updates = [read_update(store.read(KEYS.update(1, worker)), "update", before) for worker in range(2)]
    after = read_checkpoint(store, RUN, 1)
    for name, array in after.buffers.items():
        seen = [update.buffers[name] for update in updates]
        assert not np.array_equal(seen[0], seen[1])
        np.testing.assert_allclose(array, (seen[0] + seen[1]) / 2, rtol=1e-6)


def test_pieces_are_small_and_cut_noise_where_its_samples_are() -> None:
    batch = {"target": np.arange(150), "noise.a": np.arange(300).reshape(2, 150), "noise.b": np.zeros(3)}
    found = list(pieces(batch, {"noise.a": (2, "N"), "noise.b": (3,)}))
    assert [len(piece["target"]) for piece in found] == [50, 50, 50]
    assert np.array_equal(np.concatenate([piece["noise.a"] for piece in found], axis=1), batch["noise.a"])
    assert all(piece["noise.b"].shape == (3,) for piece in found)


class Plain:
    """A descent graph by hand: plain descent, and what it was fed."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        self.feeds = dict(feeds)
        return {"new.param.a": feeds["param.a"] - feeds["learning_rate"] * feeds["gradient.a"]}


def test_the_mean_is_over_samples_in_any_order_and_what_isnt_trained_stays() -> None:
    _, settings = begun(workers=2)
    one = np.ones(2, np.float32)
    before = Checkpoint(RUN, 2, 2, {"a": 5 * one, "frozen": one}, {"m.frozen": one})
    updates = [
        Update(RUN, 3, worker, {}, {}, 128, 16, 1.0, 1, {"mean": value * one}, {"a": value * one}, count)
        for worker, (value, count) in enumerate([(1.0, 1), (5.0, 3)])
    ]
    graph = Plain()
    after = descend(graph, before, updates, settings, 0.5)
    assert after.encode() == descend(graph, before, updates[::-1], settings, 0.5).encode()
    assert graph.feeds["step"] == 2.0
    assert (after.round, after.step, after.buffers["mean"].tolist()) == (3, 3, [4.0, 4.0])
    assert after.parameters["a"].tolist() == [3.0, 3.0]
    assert after.parameters["frozen"] is one and after.state["m.frozen"] is one
    nothing = [Update(RUN, 3, worker, {}, {}, 1, 1, 0.0, 1, {}, {"a": 0 * one}, 0) for worker in range(2)]
    assert descend(graph, before, nothing, settings, 0.5).parameters["a"].tolist() == [5.0, 5.0]


def test_nothing_is_counted_of_known_anomalies() -> None:
    _, settings = begun()
    target = np.array([0, 1, 0, 1, 1])
    assert counted(settings, target) == 5
    assert counted(settings.model_copy(update={"task": "anomaly"}), target) == 2


@pytest.mark.parametrize("compression", ["none", "bf16", "int8"])
@pytest.mark.parametrize("scheme", ["synchronous", "diloco"])
def test_repeats_kills_and_resumes_end_in_the_same_bytes(scheme: str, compression: str) -> None:
    store, settings = begun(scheme, workers=2, compression=compression)
    whole = to_the_end(store)
    again, _ = begun(scheme, workers=2, compression=compression)
    one_round(again, 1, 2)
    train_shard(again, RUN, 2, 0)
    train_shard(again, RUN, 2, 1)
    for key in (KEYS.update(2, 1), KEYS.lost(2, 1)):  # killed, with what it wrote
        again.objects.pop(key, None)
    merge_round(again, RUN, 1)
    train_shard(again, RUN, 2, 0)
    assert to_the_end(again) == whole
    assert settings.rounds == 4


def test_diloco_remembers_its_velocity_in_the_checkpoint() -> None:
    store, settings = begun("diloco", workers=2, outer_learning_rate=0.5, outer_momentum=0.8)
    assert (settings.outer_learning_rate, settings.outer_momentum) == (0.5, 0.8)
    velocity: Tensors = {}
    for round_ in (1, 2):
        before = read_checkpoint(store, RUN, round_ - 1)
        one_round(store, round_, 2)
        after = read_checkpoint(store, RUN, round_)
        updates = [Update.decode(store.read(KEYS.update(round_, worker)), "update") for worker in range(2)]
        for name, start in before.parameters.items():
            weights = [update.weight for update in updates]
            mean = sum(u.parameters[name].astype(np.float64) * w for u, w in zip(updates, weights, strict=True))
            way = mean / sum(weights) - start
            velocity[name] = 0.8 * velocity.get(name, np.zeros_like(start)) + way
            np.testing.assert_allclose(after.momentum[name], velocity[name], atol=1e-6)
            np.testing.assert_allclose(
                after.parameters[name], start + 0.5 * (way + 0.8 * velocity[name]), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("scheme", ["synchronous", "diloco"])
def test_other_workers_between_rounds_go_on_from_the_same_state(scheme: str) -> None:
    store, settings = begun(scheme, workers=3, compression="int8")
    assert len(one_round(store, 1, 3, wanted=2).workers) == 2
    changed, record = round_settings(store, settings, 2)
    manifest = read_manifest(store, settings)
    assert (changed.scheme, changed.workers) == (scheme, 2)
    lost = [read_lost(store.read(KEYS.lost(1, worker)), "lost") for worker in range(3)]
    # Workers have two, one and one shard: their say in an average of values, not in one of gradients.
    shares = [1 / 3] * 3 if scheme == "synchronous" else [1 / 2, 1 / 4, 1 / 4]
    for name, array in carried(store, changed, manifest, record, 1).items():
        mean = sum(share * part[name].astype(np.float64) for share, part in zip(shares, lost, strict=True))
        np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-9)
    one_round(store, 2, 2)
    assert read_round(store, RUN, 2).workers == 2
    assert bool(read_checkpoint(store, RUN, 2).momentum) == (scheme == "diloco")


def test_what_a_plateau_took_off_the_learning_rate_is_off_the_merges_step_too() -> None:
    store, _ = begun(workers=2, schedule="plateau", optimizer="sgd")
    one_round(store, 1, 2)
    lowered = read_round(store, RUN, 1).model_copy(update={"learning_rate_scale": 0.25})
    store.write(KEYS.round(1), lowered.encode())
    one_round(store, 2, 2)
    before, after, record = read_checkpoint(store, RUN, 1), read_checkpoint(store, RUN, 2), read_round(store, RUN, 2)
    assert record.learning_rate == pytest.approx(0.05 / 4)
    for name, array in after.parameters.items():
        way = record.learning_rate * after.state[f"momentum.{name}"]
        np.testing.assert_allclose(array, before.parameters[name] - way, rtol=1e-5, atol=1e-6)


def test_what_is_computed_twice_to_save_memory_is_in_the_gradient_too() -> None:
    found = []
    for recompute in ("never", "always"):
        store, _ = begun(kind="images", workers=2, recompute=recompute)
        train_shard(store, RUN, 1, 0)
        update = Update.decode(store.read(KEYS.update(1, 0)), "update")
        found.append((len(onnx.load_model_from_string(store.read(KEYS.step_graph)).graph.node), update.gradients))
    (plain, kept), (longer, again) = found
    assert longer > plain
    for name, array in kept.items():
        np.testing.assert_allclose(again[name], array, rtol=1e-5, atol=1e-6)


def test_a_synchronous_round_goes_on_without_a_lost_worker_by_the_gradients_it_has() -> None:
    store, _ = begun(lost_workers="go_on", optimizer="sgd")
    before = read_checkpoint(store, RUN, 0)
    for worker in range(4):
        train_shard(store, RUN, 1, worker)
    merge_round(store, RUN, 1, {3: "Runtime.OutOfMemory"})
    assert read_round(store, RUN, 1).lost == (3,)
    updates = [Update.decode(store.read(KEYS.update(1, worker)), "update") for worker in range(3)]
    assert all(not update.parameters and update.counted for update in updates)
    after, rate = read_checkpoint(store, RUN, 1), read_round(store, RUN, 1).learning_rate
    for name, start in before.parameters.items():
        mean = sum(update.gradients[name].astype(np.float64) for update in updates) / 3
        np.testing.assert_allclose(after.parameters[name], start - rate * mean, atol=1e-6)


def test_a_step_that_outlasts_its_worker_goes_on_piece_by_piece() -> None:
    runs = []
    for left in (None, lambda: RESERVE_SECONDS - 1):
        store, settings = begun(workers=2, rounds=1, epochs=1)
        assert settings.local_batch_size == 2 * PIECE
        attempts = 0
        for worker in range(2):
            while not store.exists(KEYS.update(1, worker)):
                attempts += 1
                try:
                    train_shard(store, RUN, 1, worker, left)
                except RoundUnfinished as error:
                    assert "has taken 1 of 2 pieces of the batch of round 1" in error.reason
        assert attempts == (2 if left is None else 4)
        runs.append([store.read(KEYS.update(1, worker)) for worker in range(2)])
    assert runs[0] == runs[1]


def test_a_gradient_or_a_step_that_is_no_number_ends_the_run() -> None:
    store, settings = begun(workers=2)
    bad = read_checkpoint(store, RUN, 0)
    bad.parameters["output.bias"] = np.full_like(bad.parameters["output.bias"], np.inf)
    store.write(KEYS.checkpoint(0), bad.encode())
    with pytest.raises(TrainingDiverged, match="round 1, worker 0: the loss is nan at step 0"):
        train_shard(store, RUN, 1, 0)
    store, settings = begun(workers=2, optimizer="sgd")
    for worker in range(2):
        train_shard(store, RUN, 1, worker)
        update = Update.decode(store.read(KEYS.update(1, worker)), "update")
        for name, array in update.gradients.items():
            update.gradients[name] = np.full_like(array, 3e38)
        store.write(KEYS.update(1, worker), update.encode())
    store.write(KEYS.settings, settings.model_copy(update={"learning_rate": 10.0, "warmup_rounds": 0.0}).encode())
    with pytest.raises(TrainingDiverged, match=r"diverged in round 1: .* isn't finite after step 0"):
        merge_round(store, RUN, 1)


def test_the_graphs_and_checkpoint_of_a_run_are_there_for_its_scheme() -> None:
    store, _ = begun("local", workers=2)
    assert not store.exists(KEYS.descent_of(KEYS.step_graph))
    assert KEYS.descent_of(KEYS.step_graph) == f"runs/{RUN}/graphs/step-descent.onnx"
    assert isinstance(read_checkpoint(store, RUN, 0), Checkpoint)
    assert store.exists(DatasetKeys(DATASET, VERSION).manifest)
