"""The networks that are compared, as settings of Shoal's recipes; nothing is imported that one side lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config_types import Recipe

CLASSES, SIDE, STEPS, COLUMNS, NUMBERS = 10, 28, 32, 16, 20
MEAN, DEVIATION = 33.0, 78.0
"""What pixels are standardised by, in the graph of either side."""
Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Net:
    """One network: its recipe, the recipe's settings, and what it sees."""

    recipe: Recipe
    config: Mapping[str, Any]
    sees: Literal["image", "sequence", "numbers"]

    def batch(self, samples: int, seed: int = 0) -> Batch:
        """Random samples: how long a step takes doesn't depend on them."""
        draw = np.random.default_rng(seed)
        target = draw.integers(0, CLASSES, samples)
        if self.sees == "image":
            return {"image": draw.integers(0, 256, (samples, 1, SIDE, SIDE)).astype(np.uint8), "target": target}
        shape = (samples, STEPS, COLUMNS) if self.sees == "sequence" else (samples, NUMBERS)
        return {self.sees: draw.normal(size=shape).astype(np.float32), "target": target}


NETS: Mapping[str, Net] = {
    "mlp": Net("mlp", {"hidden": [256, 128]}, "numbers"),
    "cnn": Net("cnn", {"channels": [32, 64], "hidden": 128}, "image"),
    "resnet": Net("resnet", {"channels": [16, 32, 64], "blocks": 1}, "image"),
    "vgg": Net("vgg", {"channels": [16, 32, 64], "convolutions": 2, "hidden": 128}, "image"),
    "lstm": Net("rnn", {"cell": "lstm", "units": 64}, "sequence"),
    "gru": Net("rnn", {"cell": "gru", "units": 64}, "sequence"),
    "transformer": Net("transformer", {"width": 64, "heads": 4, "layers": 2, "feedforward": 128}, "sequence"),
}
