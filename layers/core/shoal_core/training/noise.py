"""The random numbers that a step with Dropout takes: a function of (seed, worker, step) and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from shoal_core.data.shards import Tensors
from shoal_core.errors import BadNetwork

NOISE = "noise."
BATCH = "N"
# Tells these draws from those of the order of samples and of their variations.
_DRAW = 0x64726F70


def draw_noise(shapes: Mapping[str, tuple[int | str, ...]], batch: int, seed: int, worker: int, step: int) -> Tensors:
    """Numbers for each `noise.` input of a step graph, float32, uniform in [0, 1).

    Args:
        shapes: Input -> its shape, `N` for the batch.
        batch: Samples in the batch.
        seed: The run's.
        worker: The worker, from 0.
        step: Local step, from 0.

    Raises:
        BadNetwork: A shape isn't fixed beside the batch.
    """
    if not shapes:
        return {}
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, worker, step, _DRAW))))
    drawn: Tensors = {}
    for name in sorted(shapes):
        sizes = [batch if size == BATCH else size for size in shapes[name]]
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) != len(sizes):
            raise BadNetwork(
                f"Dropout {name!r} works on a tensor of unknown shape {shapes[name]}.", "Export it for inference."
            )
        drawn[name] = random.random(known, np.float32)
    return drawn


def with_noise(
    prepare: Callable[[Tensors, int], Tensors], shapes: Mapping[str, tuple[int | str, ...]], seed: int, worker: int
) -> Callable[[Tensors, int], Tensors]:
    """What makes a step's batch ready, with the noise that its graph takes; arguments as of `draw_noise`."""

    def prepared(batch: Tensors, step: int) -> Tensors:
        ready = prepare(batch, step)
        return ready | draw_noise(shapes, len(ready["target"]), seed, worker, step)

    return prepared if shapes else prepare
