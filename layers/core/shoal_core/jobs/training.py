"""The rounds of a run in PyTorch, over one or many GPUs: from the same shards to the same checkpoints and records.

All processes take their part of every batch of the run's one stream, and PyTorch's DistributedDataParallel makes their
mean gradient that of the whole batch. So a job is one worker (W = 1), whatever the number of its GPUs.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadConfig, ShoalError
from shoal_core.jobs.losses import counted, loss_sum
from shoal_core.jobs.network import GraphNetwork
from shoal_core.jobs.optimizers import RunOptimizer
from shoal_core.jobs.places import Place
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.augmenting import Augmenter
from shoal_core.training.batches import BatchStream, load_shard
from shoal_core.training.checkpoints import BUFFER, PARAMETER, Checkpoint, Update
from shoal_core.training.merging import commit_round, merge_updates, predictor, served_checkpoint
from shoal_core.training.metrics import metrics_of
from shoal_core.training.rounds import (
    learning_rate_scale,
    read_checkpoint,
    read_manifest,
    read_settings,
    round_settings,
    step_learning_rate,
)
from shoal_core.training.scoring import score_shards
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import last_round, read_round
from shoal_core.training.steps import diverged

_Made = TypeVar("_Made")
# Batches that are ready before they are asked for.
_AHEAD = 2
_STEPS, _PROCESSES = 100_003, 4_096  # apart from each other in a generator's seed
# A loss is looked at as it comes where that costs nothing; a GPU would have to be waited for.
_LOOK_EVERY = 50


def train_run(artifacts: ObjectStore, run_id: str, place: Place) -> None:
    """Train a started run from its newest round to its last one; nothing happens when it is finished.

    Model and evaluation aren't a job's: the run's last record is written, and `follow_job` exports its best checkpoint.

    Args:
        artifacts: The artifacts bucket; shards may come from a job's channels.
        run_id: The run; `start_training` must have started it.
        place: Where this process stands.

    Raises:
        TrainingDiverged: The loss or a parameter became NaN or infinite, or a score isn't finite.
        BadConfig: There are more processes than samples in a batch, or a setting that a job doesn't know.
        BadDataset: A shard isn't what the manifest says.
        NotFound: The run hasn't started.
    """
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    if settings.batch_size < place.world:
        raise BadConfig(
            f"A batch of {settings.batch_size} can't be cut over {place.world} processes.",
            "Raise training.batch_size, or use fewer instances or a smaller instance type.",
        )
    done = place.told(last_round(artifacts, run_id))
    if done and read_round(artifacts, run_id, done).finished:
        return
    checkpoint = read_checkpoint(artifacts, run_id, done)
    trainer = Trainer(artifacts, settings, manifest, checkpoint, place)
    for round_ in range(done + 1, settings.rounds + 1):
        checkpoint = trainer.round(round_, checkpoint)
        if place.told(place.leads and read_round(artifacts, run_id, round_).finished):
            return


class Trainer:
    """One process's part of a run.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the run.
        manifest: Of its data.
        checkpoint: Where to go on.
        place: Where this process stands.
    """

    def __init__(
        self,
        artifacts: ObjectStore,
        settings: TrainingSettings,
        manifest: Manifest,
        checkpoint: Checkpoint,
        place: Place,
    ) -> None:
        self._artifacts, self._settings, self._manifest, self._place = artifacts, settings, manifest, place
        document = artifacts.read(RunKeys(settings.run_id).network)
        total = place.total if place.world > 1 else None
        self._network = GraphNetwork(document, checkpoint.parameters, checkpoint.buffers, total).to(place.device)
        self._scored = GraphNetwork(document, checkpoint.parameters, checkpoint.buffers).to(place.device).eval()
        self._names = list(checkpoint.parameters)
        weights = dict(zip(self._names, self._network.weights, strict=True))
        self._optimizer = RunOptimizer(settings, weights, checkpoint.state, checkpoint.step)
        self._module: nn.Module = self._network
        if place.world > 1:
            ids = [place.device.index] if place.device.type == "cuda" else None
            # Running statistics are those of whole batches in every process already.
            self._module = nn.parallel.DistributedDataParallel(self._network, device_ids=ids, broadcast_buffers=False)
        self._stream = BatchStream(
            manifest.shards("train"), self._load, batch_size=settings.batch_size, seed=settings.seed, worker=0
        )
        self._augmenter = Augmenter(settings, manifest, 0)

    def _load(self, shard: ShardFile) -> Tensors:
        return load_shard(self._artifacts, shard)

    def round(self, round_: int, before: Checkpoint) -> Checkpoint:
        """Take a round's steps; the leading process scores and writes it. Returns the checkpoint after it."""
        settings, record = round_settings(self._artifacts, self._settings, round_)
        update = self._steps(round_, before, learning_rate_scale(settings, record))
        merged = merge_updates(
            before, [update], learning_rate=settings.outer_learning_rate, momentum=settings.outer_momentum
        )
        if settings.outer_learning_rate != 1.0 or settings.outer_momentum:
            self._network.set_arrays(merged.parameters, merged.buffers)
        if self._place.leads:
            served = served_checkpoint(self._artifacts, settings, merged)
            counts = score_shards(
                predictor(_Scored(self._scored, self._place.device), served, settings),
                self._manifest.shards(settings.validation_split),
                self._load,
                settings,
                limit=settings.validation_samples,
            )
            metrics = metrics_of(counts, list(settings.classes))
            commit_round(self._artifacts, settings, merged, served, metrics, [update], export=False)
            # As it was committed: another attempt may have been faster.
            merged = read_checkpoint(self._artifacts, settings.run_id, round_)
        return merged

    def _steps(self, round_: int, before: Checkpoint, scale: float) -> Update:
        settings, place = self._settings, self._place
        self._network.train()
        losses = torch.zeros((), dtype=torch.float64, device=place.device)
        look = 1 if place.device.type == "cpu" else _LOOK_EVERY
        steps = range(before.step, before.step + settings.steps_per_round)
        for step, (batch, count) in zip(steps, self._batches(steps), strict=True):
            target = batch.pop("target")
            self._optimizer.zero_grad()
            torch.manual_seed((settings.seed * _STEPS + step) * _PROCESSES + place.rank)  # what Dropout drops
            own = loss_sum(settings, self._module(batch), target) / count
            # DistributedDataParallel takes the mean over processes; the loss is the mean over the whole batch.
            (own * place.world).backward()
            self._optimizer.step(step_learning_rate(settings, step, scale))
            losses += own.detach()
            if (step + 1) % look == 0 and not math.isfinite(losses.item()):
                raise diverged(settings, round_, 0, f"the loss is {losses.item()} at step {step}")
        total = float(place.total(losses).item()) * settings.batch_size
        parameters, buffers = self._network.named_arrays()
        state = self._optimizer.arrays()
        for name, array in (parameters | state | buffers).items():
            if not np.isfinite(array).all():
                raise diverged(settings, round_, 0, f"{name} isn't finite after step {steps.stop}")
        if not math.isfinite(total):
            raise diverged(settings, round_, 0, f"the loss is {total}")
        return Update(
            run_id=settings.run_id,
            round=round_,
            worker=0,
            parameters=parameters,
            state=state,
            weight=self._stream.samples,
            samples=settings.batch_size * len(steps),
            loss_sum=total,
            steps=len(steps),
            buffers=buffers,
        )

    def _batches(self, steps: range) -> Iterator[tuple[dict[str, Tensor], int]]:
        """This process's rows of each step's batch, made ready a step ahead, and over how many samples its loss is."""
        place = self._place
        rows = slice(place.rank, None, place.world)

        def ready() -> Iterator[tuple[Tensors, int]]:
            for step, batch in zip(steps, self._stream.batches(steps.start, len(steps)), strict=True):
                count = counted(self._settings, batch["target"])
                # The whole batch is varied, as one worker would, then cut.
                prepared = self._augmenter.prepare(batch, step)
                yield {name: array[rows] for name, array in prepared.items()}, count

        for tensors, count in _ahead(ready()):
            yield {name: _on(array, place.device) for name, array in tensors.items()}, count


class _Scored:
    """A network that answers as a session of the forward graph does."""

    def __init__(self, network: GraphNetwork, device: torch.device) -> None:
        self._network, self._device = network, device
        self._values: tuple[Any, ...] = ()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """The network's output of data, `param.*` and `buffer.*`."""
        values = {name: array for name, array in feeds.items() if name.startswith((PARAMETER, BUFFER))}
        if not self._values or any(a is not b for a, b in zip(values.values(), self._values, strict=True)):
            self._network.set_arrays(_group(values, PARAMETER), _group(values, BUFFER))
            self._values = tuple(values.values())
        data = {name: _on(array, self._device) for name, array in feeds.items() if name not in values}
        with torch.no_grad():
            answer = self._network(data)
        return {self._network.output: answer.cpu().numpy()}


def _group(values: Mapping[str, NDArray[Any]], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in values.items() if name.startswith(prefix)}


def _on(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _ahead(made: Iterator[_Made]) -> Iterator[_Made]:
    """What an iterator gives, a little ahead of who takes it, on a thread of its own."""
    ready: queue.Queue[_Made | Exception | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: _Made | Exception | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def make() -> None:
        try:
            for item in made:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except (ShoalError, OSError, ValueError, MemoryError) as error:
            put(error)

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
