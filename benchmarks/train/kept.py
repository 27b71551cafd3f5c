"""Shoal's side: a step graph with its first values in a folder, and the stepper that trains from it.

As on AWS, the graph is made once, at the start of a run; a worker only loads it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.train.networks import CLASSES, COLUMNS, DEVIATION, MEAN, NETS, NUMBERS, SIDE, STEPS, Batch
from shoal_core.data.config_types import Recipe
from shoal_core.data.shards import decode_shard, encode_shard
from shoal_core.training.sessions import Session
from shoal_core.training.worker import useful_threads

GRAPH, VALUES, BATCH = "step.onnx", "values.safetensors", "batch.npz"
RATE = 1e-3


class KeptStepper:
    """What a Train Shard worker does with its graph and checkpoint.

    Args:
        folder: What `keep` wrote.
        threads: Of the worker.
        recipe: By which a run decides how many of them it uses; all, when None.
    """

    def __init__(self, folder: Path, threads: int, recipe: Recipe | None = None) -> None:
        self._values: Batch = decode_shard((folder / VALUES).read_bytes())
        if recipe is not None:
            largest = max(value.size for name, value in self._values.items() if name.startswith("param."))
            threads = useful_threads(recipe, largest, threads)
        self._session = Session((folder / GRAPH).read_bytes(), threads)
        self._steps = 0

    def step(self, batch: Batch) -> float:
        """Take one step; the batch's loss before it."""
        scalars: Batch = {"learning_rate": np.array(RATE, np.float32), "step": np.array(self._steps, np.float32)}
        outputs = self._session.run(batch | self._values | scalars)
        self._values = {name: outputs[f"new.{name}"] for name in self._values}
        self._steps += 1
        return float(outputs["loss"])

    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(value.size for name, value in self._values.items() if name.startswith("param."))


def keep(name: str, folder: Path, samples: int) -> Path:
    """Write a network's step graph, first values and a batch into a folder; returns it."""
    from shoal_core.graphs.losses import loss_for
    from shoal_core.graphs.optimizers import Adam
    from shoal_core.graphs.recipes import build_forward
    from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature, NumbersInput, SequenceInput
    from shoal_core.graphs.training_step import build_training_step

    net, optimizer = NETS[name], Adam()
    task = Classification(classes=CLASSES)

    def plain(columns: int) -> dict[str, tuple[float | bool, ...]]:
        return {"mean": (0.0,) * columns, "std": (1.0,) * columns, "missing": (False,) * columns}

    seen = {
        "image": {"image": ImageInput(shape=(1, SIDE, SIDE), mean=(MEAN,), std=(DEVIATION,))},
        "sequence": {"sequence": SequenceInput(steps=STEPS, **plain(COLUMNS))},
        "numbers": {"numbers": NumbersInput(**plain(NUMBERS))},
    }
    forward = build_forward(net.recipe, net.config, NetworkSignature(task=task, **seen[net.sees]), seed=0)
    values: Batch = {f"param.{key}": value for key, value in forward.initial.items()}
    values |= {f"buffer.{key}": value for key, value in forward.buffers.items()}
    for slot in optimizer.slots:
        values |= {f"state.{slot}.{key}": np.zeros_like(forward.initial[key]) for key in forward.parameters}
    folder.mkdir(parents=True, exist_ok=True)
    graph = build_training_step(forward, loss_for(task), optimizer)
    (folder / GRAPH).write_bytes(graph.SerializeToString())
    (folder / VALUES).write_bytes(encode_shard(values))
    np.savez(folder / BATCH, **net.batch(samples))
    return folder
