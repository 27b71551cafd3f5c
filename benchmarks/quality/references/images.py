"""The same convolutional network in PyTorch: the same samples, widths, batches, epochs, learning rate and shifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.quality.references.reading import arrays, asked, tell

SMALLEST_POOLED = 8


def network(config: dict[str, Any], shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Convolutions with ReLU, halving where enough is left, a dense layer, the answer."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for wide in config["channels"]:
        for _ in range(config["convolutions"]):
            layers += [nn.Conv2d(channels, wide, config["kernel"], padding="same"), nn.ReLU()]
            channels = wide
        if min(height, width) >= SMALLEST_POOLED:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, config["hidden"]), nn.ReLU()]
    if config.get("dropout"):
        layers.append(nn.Dropout(config["dropout"]))
    return nn.Sequential(*layers, nn.Linear(config["hidden"], classes))


def shifted(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Each image moved by up to so many pixels either way, its edge continued."""
    count, channels, height, width = images.shape
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    down, right = (torch.randint(0, 2 * reach + 1, (count, 1)) for _ in range(2))
    rows = (torch.arange(height) + down)[:, None, :, None].expand(-1, channels, -1, padded.shape[3])
    columns = (torch.arange(width) + right)[:, None, None, :].expand(-1, channels, height, -1)
    return padded.gather(2, rows).gather(3, columns)


def main() -> None:
    told = asked()
    torch.set_num_threads(told["threads"])
    torch.manual_seed(told["seed"])
    train, test = arrays("train"), arrays("test")
    pixels = torch.from_numpy(train["image"]).float()
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)
    pixels, targets = (pixels - mean) / deviation, torch.from_numpy(train["target"]).long()
    model = network(told["network"], tuple(pixels.shape[1:]), told["classes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=told["learning_rate"])
    size = told["batch_size"]
    steps = math.ceil(len(pixels) / size)
    warm, total = told["warmup"] * steps * told["epochs"], steps * told["epochs"]
    reach = round(told["augment"].get("shift", 0.0) * pixels.shape[2])

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in range(told["epochs"]):
        order = torch.randperm(len(pixels))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = shifted(pixels[rows], reach) if reach else pixels[rows]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        seen = (torch.from_numpy(test["image"]).float() - mean) / deviation
        answers = torch.cat([model(part) for part in seen.split(500)]).argmax(1).numpy()
    tell(np.mean(answers == test["target"]))


if __name__ == "__main__":
    main()
