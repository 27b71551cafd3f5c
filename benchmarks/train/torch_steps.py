"""The networks as one writes them in PyTorch, and one training step after the other: cross-entropy and Adam, eager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.train.networks import CLASSES, COLUMNS, DEVIATION, MEAN, NETS, NUMBERS, SIDE, Batch

RATE = 1e-3


class TorchStepper:
    """Eager mode."""

    def __init__(self, name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._name = name
        self._module: Any = torch_module(name).train()
        self._optimizer = torch.optim.Adam(self._module.parameters(), lr=RATE)

    def step(self, batch: Batch) -> float:
        target = torch.from_numpy(batch["target"])
        self._optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self._module(torch_input(self._name, batch)), target)
        loss.backward()
        self._optimizer.step()
        return float(loss.item())

    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.numel() for parameter in self._module.parameters())


def torch_module(name: str) -> nn.Module:
    """The network in PyTorch: the same layers with the same widths."""
    config = NETS[name].config
    if name == "mlp":
        wide, narrow = config["hidden"]
        return nn.Sequential(
            nn.Linear(NUMBERS, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(), nn.Linear(narrow, CLASSES)
        )
    if name in ("cnn", "vgg"):
        return _convolutions(config, normalised=name == "vgg")
    if name == "resnet":
        return _residual(config)
    return _over_steps(name, config)


def torch_input(name: str, batch: Batch) -> Any:
    """What the module gets of a batch."""
    if "image" in batch:
        return (torch.from_numpy(batch["image"]).float() - MEAN) / DEVIATION
    return torch.from_numpy(next(array for key, array in batch.items() if key != "target"))


def _convolutions(config: Mapping[str, Any], *, normalised: bool) -> Any:
    layers: list[Any] = []
    channels, side = 1, SIDE
    for width in config["channels"]:
        for _ in range(config.get("convolutions", 1)):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not normalised))
            layers += [nn.BatchNorm2d(width)] if normalised else []
            layers.append(nn.ReLU())
            channels = width
        if side >= (4 if normalised else 8):  # where enough is left, as the recipes have it
            layers.append(nn.MaxPool2d(2))
            side //= 2
    hidden = config["hidden"]
    layers += [nn.Flatten(), nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)]
    return nn.Sequential(*layers)


def _residual(config: Mapping[str, Any]) -> Any:
    def convolved(inputs: int, outputs: int, kernel: int, stride: int) -> Any:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Sequential(convolved(inputs, outputs, 3, stride), nn.ReLU())
            self.second = convolved(outputs, outputs, 3, 1)
            same = inputs == outputs and stride == 1
            self.shortcut = nn.Identity() if same else convolved(inputs, outputs, 1, stride)

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.second(self.first(x)) + self.shortcut(x))

    widths = config["channels"]
    layers: list[Any] = [convolved(1, widths[0], 3, 1), nn.ReLU()]
    channels = widths[0]
    for stage, width in enumerate(widths):
        layers.append(Block(channels, width, 2 if stage else 1))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def _over_steps(name: str, config: Mapping[str, Any]) -> Any:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kind = nn.LSTM if name == "lstm" else nn.GRU
            self.cells = kind(COLUMNS, config["units"], batch_first=True)
            self.output = nn.Linear(config["units"], CLASSES)

        def forward(self, x: Any) -> Any:
            states, _ = self.cells(x)
            return self.output(states[:, -1])

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = config["width"]
            layer = nn.TransformerEncoderLayer(
                width, config["heads"], config["feedforward"], dropout=0.0, batch_first=True, norm_first=True
            )
            self.projection = nn.Linear(COLUMNS, width)
            self.layers = nn.TransformerEncoder(
                layer, config["layers"], nn.LayerNorm(width), enable_nested_tensor=False
            )
            self.output = nn.Linear(width, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.output(self.layers(self.projection(x)).mean(1))

    return Encoder() if name == "transformer" else Last()
