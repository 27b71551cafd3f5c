"""Averages of the weights over rounds: smoother than the last checkpoint, often better.

Training goes on from the checkpoint itself; the average is what is scored, compared and exported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shoal_core.data.shards import Tensors
from shoal_core.training.checkpoints import Checkpoint


@dataclass(frozen=True)
class WeightAverage:
    """average = decay average + (1 - decay) checkpoint.

    With one decay for all rounds the weights fall exponentially (B. Polyak and A. Juditsky, 1992); with n / (n + 1)
    after n rounds they are equal (P. Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018).

    Args:
        decay: In [0, 1).
    """

    decay: float

    def after_round(self, before: Checkpoint | None, checkpoint: Checkpoint) -> Checkpoint:
        """The average after a round.

        Args:
            before: The average after the round before; None in the first that is averaged, whose average is its
                checkpoint: the initial weights are random and have no part in it.
            checkpoint: The round's checkpoint.

        Returns:
            The checkpoint with averaged parameters and running statistics, without what only training needs.
        """
        served = replace(checkpoint, state={}, momentum={})
        if before is None:
            return served
        return replace(
            served,
            parameters=self._average(before.parameters, checkpoint.parameters),
            buffers=self._average(before.buffers, checkpoint.buffers),
        )

    def _average(self, before: Tensors, after: Tensors) -> Tensors:
        """In float64, rounded once."""
        return {
            name: (self.decay * before[name].astype(np.float64) + (1 - self.decay) * array.astype(np.float64)).astype(
                np.float32
            )
            for name, array in after.items()
        }
