"""What a SageMaker job computes in PyTorch, beside what Lambda's workers compute: networks, steps, whole runs."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shoal_core.aws.training_job import ended
from shoal_core.data.compute_config import ComputeConfig
from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadConfig, BadNetwork, TrainingDiverged, UnsupportedOperator
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.documents import PYTORCH_OPERATORS, network_document
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam, AdamW, Lion, Sgd
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.training_step import build_training_step, forward_with_parameters
from shoal_core.jobs.channels import ChannelStore
from shoal_core.jobs.losses import counted, loss_sum
from shoal_core.jobs.network import OPERATORS, GraphNetwork
from shoal_core.jobs.optimizers import RunOptimizer
from shoal_core.jobs.places import Hosts, Place, join, leave
from shoal_core.jobs.training import Trainer, train_run
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.following import JobDescription, follow_job
from shoal_core.training.job_settings import JobOptions
from shoal_core.training.merging import merge_round
from shoal_core.training.optimizing import optimize_model
from shoal_core.training.rounds import read_checkpoint, read_manifest, read_settings, train_shard
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.starting import start_training
from shoal_core.training.states import last_round, read_round
from tests.support.stores import MemoryStore
from tests.unit.graphs.networks import NETWORK_IDS, NETWORKS, SMALL, batch, load, prefixed, run
from tests.unit.training.datasets import DATASET, VERSION, commit
from tests.unit.training.test_starting import MAKERS, SPECS

pytestmark = pytest.mark.torch

RATE, ROWS = 0.001, 6
OPTIMIZERS = {optimizer.name: optimizer for optimizer in (Sgd(clip_norm=1.0), Adam(), AdamW(weight_decay=0.1), Lion())}
# Their loss is flat along some parameters, where rounding alone decides the sign that Adam and Lion go by.
FLAT = ("crnn", "rnn", "transformer")
ALONE = Place(0, 1, torch.device("cpu"))
JOBS = JobOptions(stack="shoal", region="us-east-1", instance="ml.m5.large")


def settings_of(signature: Any, optimizer: Any, **loss: object) -> TrainingSettings:
    """Settings of a run on a network of the tests."""
    task = signature.task
    return TrainingSettings.model_construct(
        run_id="run",
        task=task.kind,
        loss=loss.pop("name", None),
        loss_config=loss,
        target_mean=getattr(task, "mean", 0.0),
        target_std=getattr(task, "std", 1.0) or 1.0,
        optimizer=optimizer.name,
        optimizer_config=optimizer.model_dump(),
    )


def test_the_operators_that_start_training_lets_through_are_those_that_are_computed():
    assert set(OPERATORS) == PYTORCH_OPERATORS


@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_the_first_step_of_every_recipe_equals_ours(recipe, signature):
    # Every optimizer on one network of each kind of parameter; on the others those that all are made of.
    names = OPTIMIZERS if recipe in ("mlp", "resnet") else ("sgd", "adam")
    for name in names:
        ours = OPTIMIZERS[name]
        forward = build_forward(recipe, SMALL.get(recipe, {}), signature, seed=0)
        session = load(build_training_step(forward, loss_for(signature.task), ours))
        zeros = {f"{slot}.{key}": np.zeros_like(x) for slot in ours.slots for key, x in forward.initial.items()}
        network = GraphNetwork(network_document(forward_with_parameters(forward)), forward.initial, forward.buffers)
        settings = settings_of(signature, ours)
        optimizer = RunOptimizer(settings, dict(zip(forward.initial, network.weights, strict=True)), zeros, 0)

        tensors = batch(signature, ROWS)
        feeds = prefixed(forward) | {f"state.{key}": value for key, value in zeros.items()}
        outputs = run(session, {**tensors, **feeds, "learning_rate": np.float32(RATE), "step": np.float32(0)})
        data = {key: torch.from_numpy(value.copy()) for key, value in tensors.items()}
        target = data.pop("target")
        optimizer.zero_grad()
        loss = loss_sum(settings, network(data), target) / counted(settings, tensors["target"])
        loss.backward()
        slopes = {key: weight.grad.numpy() for key, weight in zip(forward.initial, network.weights, strict=True)}
        optimizer.step(RATE)

        assert loss.item() == pytest.approx(float(outputs["loss"]), rel=1e-5, abs=1e-5)
        parameters, buffers = network.named_arrays()
        found = {f"param.{key}": value for key, value in parameters.items()}
        found |= {f"buffer.{key}": value for key, value in buffers.items()}
        found |= {f"state.{key}": value for key, value in optimizer.arrays().items()}
        for key, value in found.items():
            wanted = outputs[f"new.{key}"]
            if recipe in FLAT and name != "sgd" and key.startswith("param."):
                told = np.abs(slopes[key.removeprefix("param.")]) > 1e-6
                value, wanted = value[told], wanted[told]
            np.testing.assert_allclose(value, wanted, atol=1e-5, err_msg=f"{name}: {key}")


@pytest.mark.parametrize(
    ("id_", "config"),
    [
        ("mlp-table", {"name": "focal", "gamma": 2.0, "class_weights": [1.0, 2.0, 0.5]}),
        ("mlp-table", {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}),
        ("mlp-mixed", {"class_weights": [1.0, 2.0, 0.5, 3.0]}),
        ("mlp-regression", {"name": "absolute"}),
        ("mlp-regression", {"name": "huber", "delta": 0.7}),
    ],
)
def test_other_losses_equal_ours(id_, config):
    recipe, signature = dict(zip(NETWORK_IDS, NETWORKS, strict=True))[id_]
    forward = build_forward(recipe, SMALL[recipe], signature, seed=0)
    given = {key: value for key, value in config.items() if key != "name"}
    loss = loss_for(signature.task, config.get("name"), given)
    session = load(build_training_step(forward, loss, Sgd()))
    tensors = batch(signature, ROWS)
    feeds = prefixed(forward) | {f"state.momentum.{key}": np.zeros_like(x) for key, x in forward.initial.items()}
    outputs = run(session, {**tensors, **feeds, "learning_rate": np.float32(RATE), "step": np.float32(0)})
    network = GraphNetwork(network_document(forward_with_parameters(forward)), forward.initial, forward.buffers)
    data = {key: torch.from_numpy(value.copy()) for key, value in tensors.items()}
    target = data.pop("target")
    found = loss_sum(settings_of(signature, Sgd(), **config), network(data), target) / ROWS
    assert found.item() == pytest.approx(float(outputs["loss"]), rel=1e-5)


def test_operators_without_a_form_in_pytorch_are_refused_before_a_job_starts():
    graph = GraphBuilder(namespace="net")
    x = graph.input("x", 1, ("N", 3))
    graph.output(graph.emit("Hardmax", x))
    with pytest.raises(UnsupportedOperator, match=r"Hardmax.*compute: lambda"):
        network_document(graph.build("forward"))


# ── Whole runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def started(kind: str, service: str = "sagemaker", rounds: int = 3, **training: Any) -> tuple[MemoryStore, str]:
    """A run on one worker, and its id."""
    store, make = MemoryStore(), MAKERS[kind]
    splits = {"train": make(96), "validation": make(30, seed=1), "test": make(30, seed=2)}
    given = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01} | training
    config = DatasetConfig(
        workers=1,
        rounds=rounds,
        training=TrainingConfig(**given),
        compute=ComputeConfig(service=service),
        network={"channels": [4, 6], "hidden": 8} if kind == "image" else {},
    )
    commit(store, SPECS[kind], splits, config=config)
    start_training(store, f"run-{kind}", DATASET, VERSION, jobs=JOBS)
    return store, f"run-{kind}"


def on_lambda(store: MemoryStore, run_id: str) -> None:
    for round_ in range(1, read_settings(store, run_id).rounds + 1):
        train_shard(store, run_id, round_, 0)
        if merge_round(store, run_id, round_).finished:
            return


@pytest.mark.parametrize("kind", ["image", "classes", "numbers", "text", "sequence"])
def test_a_jobs_run_is_the_workers_run(kind):
    """The same batches, steps, schedule and decisions: checkpoints differ by rounding, records by that alone."""
    given = {"optimizer": "sgd", "learning_rate": 0.02}
    job, run_id = started(kind, **given)
    ours, _ = started(kind, "lambda", **given)
    first = read_checkpoint(job, run_id, 0)
    assert first.encode() == read_checkpoint(ours, run_id, 0).encode()
    train_run(job, run_id, ALONE)
    on_lambda(ours, run_id)
    for round_ in range(1, last_round(ours, run_id) + 1):
        mine, theirs = read_checkpoint(job, run_id, round_), read_checkpoint(ours, run_id, round_)
        assert (mine.step, mine.round) == (theirs.step, theirs.round)
        for name, array in theirs.parameters.items():
            np.testing.assert_allclose(mine.parameters[name], array, atol=1e-3, err_msg=f"round {round_}: {name}")
        a, b = read_round(job, run_id, round_), read_round(ours, run_id, round_)
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
        same = {"learning_rate", "samples", "steps", "best_round", "finished", "reason", "lost", "workers"}
        assert a.model_dump(include=same) == b.model_dump(include=same)
        assert a.validation.keys() == b.validation.keys()


def test_the_first_step_of_a_run_equals_ours():
    job, run_id = started("image", rounds=36, optimizer="sgd")
    ours, _ = started("image", "lambda", rounds=36, optimizer="sgd")
    settings = read_settings(job, run_id)
    assert settings.steps_per_round == 1
    before = read_checkpoint(job, run_id, 0)
    Trainer(job, settings, read_manifest(job, settings), before, ALONE).round(1, before)
    train_shard(ours, run_id, 1, 0)
    merge_round(ours, run_id, 1)
    mine, theirs = read_checkpoint(job, run_id, 1), read_checkpoint(ours, run_id, 1)
    for group in ("parameters", "state", "buffers"):
        for name, array in getattr(theirs, group).items():
            np.testing.assert_allclose(getattr(mine, group)[name], array, atol=1e-5, err_msg=name)


def described(status: str = "Completed", **fields: Any) -> JobDescription:
    return JobDescription(TrainingJobName="shoal-run-0123456789-1", TrainingJobStatus=status, **fields)


def test_what_follows_doesnt_know_the_difference():
    store, run_id = started("image", epochs=8)
    train_run(store, run_id, ALONE)
    assert not store.exists(RunKeys(run_id).model)
    following = follow_job(store, run_id, described(), looks=3)
    assert following.finished
    assert following.state is not None
    assert following.state.evaluation_shards
    assert optimize_model(store, run_id).candidates
    assert follow_job(store, run_id, described(), looks=3) == following


def test_a_job_goes_on_after_the_newest_round_to_the_same_bytes():
    store, run_id = started("classes")
    train_run(store, run_id, ALONE)
    keys = RunKeys(run_id)
    last = last_round(store, run_id)
    whole = {key: store.objects[key] for key in (keys.checkpoint(last), keys.round(last))}
    for round_ in range(2, last + 1):  # as a machine that was taken away in the second round leaves it
        del store.objects[keys.round(round_)], store.objects[keys.checkpoint(round_)]
    train_run(store, run_id, ALONE)
    assert {key: store.objects[key] for key in whole} == whole
    train_run(store, run_id, ALONE)  # finished: nothing happens


def test_averages_of_weights_are_kept_and_scored():
    store, run_id = started("classes", ema=0.5)
    train_run(store, run_id, ALONE)
    best = read_round(store, run_id, last_round(store, run_id)).best_round
    average = Checkpoint.decode(store.read(RunKeys(run_id).average(best)), "average")
    assert any(
        not np.array_equal(average.parameters[name], array)
        for name, array in read_checkpoint(store, run_id, best).parameters.items()
    )


def test_a_diverging_run_says_so():
    store, run_id = started("numbers", learning_rate=10.0, optimizer="sgd", epochs=60, schedule="constant")
    with pytest.raises(TrainingDiverged, match=r"Lower training\.learning_rate"):
        train_run(store, run_id, ALONE)


def test_a_batch_that_cant_be_cut_over_all_processes_is_refused():
    store, run_id = started("classes")
    with pytest.raises(BadConfig, match="16 processes"):
        train_run(store, run_id, Place(0, 16, torch.device("cpu")))


def test_a_checkpoint_of_another_network_is_refused():
    store, run_id = started("classes")
    document = store.read(RunKeys(run_id).network)
    with pytest.raises(BadNetwork, match="needs"):
        GraphNetwork(document, {}, {})


def test_shards_come_from_channels(tmp_path):
    store, run_id = started("classes")
    prefix = DatasetKeys(DATASET, VERSION).prefix
    folder = tmp_path / "train"
    for key in list(store.keys(f"{prefix}train/")):
        path = folder / key.removeprefix(f"{prefix}train/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.objects.pop(key))
    channels = ChannelStore.of(store, prefix, {"SM_CHANNEL_TRAIN": str(folder)})
    train_run(channels, run_id, ALONE)
    assert last_round(store, run_id) == 3
    (shard, *_) = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
    key = f"{prefix}train/{shard.name}"
    assert channels.exists(key)
    assert channels.read_range(key, 0, 4) == channels.open(key).read(4) == shard.read_bytes()[:4]
    assert decode_shard(channels.read(key))


class FileStore(MemoryStore):
    """Objects that several processes share, as files named by their keys' sha256."""

    def __init__(self, folder: Path, objects: dict[str, bytes] | None = None) -> None:
        super().__init__()
        self.folder = folder
        for key, data in (objects or {}).items():
            self.write(key, data)

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        if not self._path(key).exists():
            return super().read(key)
        return self._path(key).read_bytes()

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def keys(self, prefix: str) -> Any:
        names = (path.read_text() for path in self.folder.glob("*.key"))
        return iter(sorted(key for key in names if key.startswith(prefix)))

    def write(self, key: str, data: bytes, content_type: str = "") -> None:
        part = self._path(key).with_suffix(".part")
        part.write_bytes(bytes(data))
        part.replace(self._path(key))
        self._path(key).with_suffix(".key").write_text(key)

    def write_new(self, key: str, data: bytes, content_type: str = "") -> bool:
        if self.exists(key):
            return False
        self.write(key, data)
        return True


def one_of_two(folder: Path, run_id: str, host: str, port: int) -> None:
    """A process of a job on two machines."""
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place = join(Hosts.of({"SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": host}), 0)
    train_run(FileStore(folder), run_id, place)
    leave(place)


def test_two_machines_come_to_what_one_does(tmp_path):
    """Batches of 7 can't be cut evenly; batch normalisation works by the whole batch's statistics."""
    store, make = MemoryStore(), MAKERS["image"]
    splits = {"train": make(42), "validation": make(12, seed=1), "test": make(12, seed=2)}
    training = TrainingConfig(epochs=2, batch_size=7, learning_rate=0.01, optimizer="sgd")
    config = DatasetConfig(
        recipe="resnet",
        rounds=2,
        training=training,
        compute=ComputeConfig(service="sagemaker"),
        network={"channels": [4, 6]},
    )
    commit(store, SPECS["image"], splits, config=config)
    start_training(store, "two", DATASET, VERSION, jobs=JOBS)
    folder = tmp_path / "objects"
    folder.mkdir()
    FileStore(folder, store.objects)
    train_run(store, "two", ALONE)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=one_of_two, args=(folder, "two", f"algo-{n}", port)) for n in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    shared = FileStore(folder)
    for round_ in (1, 2):
        one, two = read_checkpoint(store, "two", round_), read_checkpoint(shared, "two", round_)
        for group in ("parameters", "buffers"):
            for name, array in getattr(one, group).items():
                np.testing.assert_allclose(getattr(two, group)[name], array, atol=1e-4, err_msg=name)
        assert read_round(shared, "two", round_).loss == pytest.approx(read_round(store, "two", round_).loss, rel=1e-4)


def test_a_process_that_fails_ends_those_that_wait_for_it():
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=sys.exit, args=(3,)), spawn.Process(target=time.sleep, args=(600,))]
    for process in processes:
        process.start()
    assert ended(processes) == signal.SIGTERM
    assert [process.exitcode for process in processes] == [3, -signal.SIGTERM]


def test_machines_are_told_by_sagemakers_variables():
    hosts = Hosts.of({"SM_HOSTS": '["algo-2", "algo-1"]', "SM_CURRENT_HOST": "algo-2", "SM_NUM_GPUS": "0"})
    assert (hosts.names, hosts.first_rank, hosts.world) == (("algo-1", "algo-2"), 1, 2)
    four = Hosts(("algo-1", "algo-2"), "algo-2", gpus=4)
    assert (four.processes, four.first_rank, four.world) == (4, 4, 8)
