"""How much sooner W workers reach the accuracy of one: rounds simulated from times that were measured.

All numbers of workers take as many steps of the same global batch of 64, so a worker's step has 64 / W samples; that
they end equally accurate is measured for W = 4 and 8 (`workers`), and assumed beyond. A round lasts as long as its
slowest worker: start (in the first round), read the checkpoint, steps, write the update; then the merge reads the
checkpoint, then the updates, eight at once over one line, adds them up, writes the checkpoint. What a store takes is
measured on this machine's embedded S3, and beside it taken from AWS's documentation. Step times vary between workers as
they did between the measured repetitions. A run of the product has at most 40 workers; 64 are only simulated.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np

from benchmarks.results import Row, median_row
from benchmarks.train.kept import VALUES, KeptStepper, keep
from benchmarks.train.networks import NETS
from shoal_core.data.shards import decode_shard
from shoal_core.registry.pricing import lambda_cost, transitions_cost
from shoal_core.training.checkpoints import PARAMETER, STATE, Checkpoint, Update
from shoal_core.training.merging import merge_updates
from shoal_core.training.recipes import epochs_for
from shoal_core.training.schemes import READS_AT_ONCE, S3_BANDWIDTH, S3_LATENCY, TASK_SECONDS

WORKERS = (1, 2, 4, 8, 16, 32, 64)
BATCH = 64
SAMPLES, ROUNDS, MANY_ROUNDS = 60_000, 10, 100
EPOCHS = epochs_for("cnn", SAMPLES)
MEMORY_GB = 1769 / 1024
STEPS_TIMED = 12
STEPS = EPOCHS * SAMPLES // BATCH
GRADIENTS = 1 / 3
"""What a synchronous step's update has of the checkpoint: no numbers of Adam's."""
SCHEMES = {
    "a merge each tenth of the run": (ROUNDS, 1.0),
    "a merge each hundredth of the run": (MANY_ROUNDS, 1.0),
    "a merge every 16 steps": (STEPS // 16, 1.0),
    "synchronous steps": (STEPS, GRADIENTS),
}


@dataclass(frozen=True)
class Link:
    """A store as a worker sees it: seconds a request takes before its first byte, and bytes per second after it."""

    name: str
    latency: float
    bandwidth: float

    def seconds(self, size: float) -> float:
        """Of moving an object."""
        return self.latency + size / self.bandwidth


AWS = Link("AWS's S3", S3_LATENCY, S3_BANDWIDTH)


@dataclass(frozen=True)
class Measured:
    """What is fed in.

    Attributes:
        step: Samples of a step -> seconds of it, one for each repetition.
        start: Seconds from a worker's start to its first step.
        merge: Seconds of adding up one update.
        checkpoint: Bytes of the checkpoint.
    """

    step: Mapping[int, Sequence[float]]
    start: float
    merge: float
    checkpoint: int


@dataclass(frozen=True)
class Run:
    """A simulated run.

    Attributes:
        seconds: From its start to its end.
        billed: Seconds of all functions together.
        workers: W.
        rounds: How often the workers' values are merged.
    """

    seconds: float
    billed: float
    workers: int
    rounds: int

    @property
    def dollars(self) -> float:
        """What Lambda and Step Functions take for it; a worker that is done isn't paid while others go on."""
        invocations = self.rounds * (self.workers + 1)
        spent = lambda_cost(self.billed * MEMORY_GB, invocations, "x86_64")
        return spent + transitions_cost(invocations, self.rounds)


def simulate(measured: Measured, link: Link, workers: int, rounds: int, share: float = 1.0, seed: int = 0) -> Run:
    """A whole run.

    Args:
        measured: Times.
        link: The store.
        workers: W; divides the batch.
        rounds: How often the workers' values are merged.
        share: What an update has of the checkpoint.
        seed: Of which worker is slow when.
    """
    draw = np.random.default_rng(seed)
    # A worker is as fast or slow throughout a round as one of the repetitions was.
    taken = draw.choice(np.asarray(measured.step[BATCH // workers]), (rounds, workers)) * (STEPS / rounds)
    checkpoint, update = link.seconds(measured.checkpoint), link.seconds(share * measured.checkpoint)
    waits = math.ceil(workers / READS_AT_ONCE) * link.latency
    merge = 2 * checkpoint + waits + workers * share * (measured.checkpoint / link.bandwidth + measured.merge)
    around = checkpoint + update
    seconds = measured.start + taken.max(axis=1).sum() + rounds * (around + merge + 2 * TASK_SECONDS)
    billed = workers * measured.start + taken.sum() + rounds * (workers * around + merge)
    return Run(float(seconds), float(billed), workers, rounds)


def simulation_rows(measured: Measured, links: Sequence[Link]) -> list[Row]:
    """Speed-ups over one worker by scheme and store, and what a run costs."""
    rows: list[Row] = []
    for link in links:
        for scheme, (rounds, share) in SCHEMES.items():
            alone = simulate(measured, link, 1, ROUNDS)
            for workers in WORKERS[1:]:
                run = simulate(measured, link, workers, rounds, share)
                title = f"simulated, {link.name}, {scheme}, W = {workers}"
                rows.append(Row(f"{title}: times as fast as one", "", alone.seconds / run.seconds))
                if rounds in (ROUNDS, MANY_ROUNDS):
                    rows.append(Row(f"{title}: dollars", "$", run.dollars, alone.dollars))
    return rows


def measured_rows(name: str, keep_at: Path, threads: int, start: float, repeats: int) -> tuple[list[Row], Measured]:
    """Step times of a network by the samples of a step, and the merge's share of one update.

    Args:
        name: The network.
        keep_at: Where its step graph goes.
        threads: Of a worker.
        start: Seconds of a worker's start, as measured.
        repeats: Repetitions of each.
    """
    steps: dict[int, list[float]] = {}
    stepper = KeptStepper(keep(name, keep_at, BATCH), threads)
    for workers in WORKERS:
        batch = NETS[name].batch(BATCH // workers)
        stepper.step(batch)
        steps[BATCH // workers] = [_seconds(lambda batch=batch: stepper.step(batch)) for _ in range(repeats)]
    values = decode_shard((keep_at / VALUES).read_bytes())
    parameters = {key.removeprefix(PARAMETER): value for key, value in values.items() if key.startswith(PARAMETER)}
    state = {key.removeprefix(STATE): value for key, value in values.items() if key.startswith(STATE)}
    before = Checkpoint(run_id="run", round=0, step=0, parameters=parameters, state=state)
    updates = [
        Update("run", 1, worker, parameters, state, weight=1, samples=1, loss_sum=0.0, steps=1) for worker in range(8)
    ]
    merge = _seconds(lambda: merge_updates(before, updates, learning_rate=1.0, momentum=0.0), 3) / len(updates)
    rows = [
        median_row(f"step of {size} samples, {name}", "ms cpu", [1000 * x for x in seen])
        for size, seen in steps.items()
    ]
    rows.append(Row(f"merging one update, {name}", "ms cpu", 1000 * merge))
    return rows, Measured(steps, start, merge, len(before.encode()))


def _seconds(run: Callable[[], object], count: int = STEPS_TIMED) -> float:
    """Seconds of processor time of a call, on average."""
    began = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - began) / count


def embedded_link(size: int) -> Link:
    """The S3 of the embedded cloud, whose services are moto's, through the product's own store."""
    from moto.server import ThreadedMotoServer

    from shoal_core.aws.s3 import S3Store

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ.update(environment)
        boto3.client("s3").create_bucket(Bucket="bench")
        store = S3Store("bench")
        return timed_link("the embedded cloud's S3", store.write, store.read, size)
    finally:
        server.stop()


def timed_link(name: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes], size: int) -> Link:
    """A store's latency, of an object of a byte, and its bandwidth, of one of a checkpoint's size: each way's mean."""
    times = {}
    for length in (1, size):
        data, taken = bytes(length), []
        for number in range(5):
            began = time.perf_counter()
            put(f"{name}-{length}-{number}", data)
            get(f"{name}-{length}-{number}")
            taken.append((time.perf_counter() - began) / 2)
        times[length] = float(np.median(taken))
    return Link(name, times[1], size / max(1e-9, times[size] - times[1]))
