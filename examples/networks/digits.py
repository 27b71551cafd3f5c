"""A small convolutional network for the digits, exported as users export theirs: `python examples/networks/digits.py`.

Needs torch and onnxscript (`requirements/torch.txt`). Writes digits.onnx beside itself, which `shoal train digits
--network examples/networks/digits.onnx` trains; in Python `shoal.train("digits", network())` does without the file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def network() -> nn.Module:
    """Images [N, 1, 8, 8], standardised, to ten logits."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def main() -> None:
    """Write the file: in evaluation mode, with a free batch, in one piece and not optimised."""
    program = torch.onnx.export(
        network().eval(),
        (torch.zeros(2, 1, 8, 8),),
        dynamo=True,
        optimize=False,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where on this machine the code lies
    Path(__file__).with_suffix(".onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
