"""The recipes' networks, written again in PyTorch from their parameters' names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

from shoal_core.graphs.signature import Classification, NetworkSignature

Parameters = Mapping[str, torch.Tensor]


def features(signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters) -> torch.Tensor:
    """What the first layer sees."""
    if signature.image is not None:
        mean, std = (torch.tensor(x).reshape(1, -1, 1, 1) for x in (signature.image.mean, signature.image.std))
        return (torch.from_numpy(tensors["image"]).float() - mean) / torch.where(std > 0, std, 1)
    columns = []
    if signature.numbers is not None:
        raw = torch.from_numpy(tensors["numbers"])
        mean, std = torch.tensor(signature.numbers.mean), torch.tensor(signature.numbers.std)
        columns.append(torch.nan_to_num((raw - mean) / torch.where(std > 0, std, 1), nan=0.0))
        columns.append(raw.isnan().float()[:, torch.tensor(signature.numbers.missing)])
    if signature.categories is not None:
        codes = torch.from_numpy(tensors["categories"])
        for index, size in enumerate(signature.categories.cardinalities):
            code = torch.where((codes[:, index] >= 0) & (codes[:, index] < size), codes[:, index], 0)
            table = parameters.get(f"categories{index}.table")
            columns.append(F.one_hot(code, size).float() if table is None else F.embedding(code, table))
    return torch.cat(columns, 1)


def dense(x: torch.Tensor, parameters: Parameters, name: str) -> torch.Tensor:
    return x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def mlp(x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    x = x.flatten(1)
    index = 0
    while f"dense{index}.weight" in parameters:
        x = torch.relu(dense(x, parameters, f"dense{index}"))
        index += 1
    return dense(x, parameters, "output")


def cnn(x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    block = 0
    while (name := f"block{block}.convolution0") + ".weight" in parameters:
        repeat = 0
        while (name := f"block{block}.convolution{repeat}") + ".weight" in parameters:
            x = torch.relu(F.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], padding="same"))
            repeat += 1
        pool = [2 if size >= 8 else 1 for size in x.shape[2:]]
        x = F.max_pool2d(x, pool)
        block += 1
    x = torch.relu(dense(x.flatten(1), parameters, "dense"))
    return dense(x, parameters, "output")


class Buffers:
    """Running statistics, renewed as PyTorch does."""

    def __init__(self, initial: Mapping[str, np.ndarray]) -> None:
        self.tensors = {name: torch.from_numpy(value.copy()) for name, value in initial.items()}

    def normalised(self, x: torch.Tensor, parameters: Parameters, name: str) -> torch.Tensor:
        """By batch, or without running statistics by 2 groups."""
        scale, bias = parameters[f"{name}.scale"], parameters[f"{name}.bias"]
        if f"{name}.mean" not in self.tensors:
            return F.group_norm(x, 2, scale, bias)
        running = [self.tensors[f"{name}.{kind}"] for kind in ("mean", "variance")]
        return F.batch_norm(x, *running, scale, bias, training=True)


def resnet(x: torch.Tensor, parameters: Parameters, buffers: Buffers) -> torch.Tensor:
    def convolved(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = parameters[f"{name}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        return buffers.normalised(x, parameters, f"{name}.norm")

    x = torch.relu(convolved(x, "stem"))
    for stage in range(8):
        block = 0
        while (name := f"stage{stage}.block{block}") + ".first.weight" in parameters:
            stride = 2 if stage and not block and min(x.shape[2:]) >= 8 else 1
            inner = convolved(torch.relu(convolved(x, f"{name}.first", stride)), f"{name}.second")
            if f"{name}.shortcut.weight" in parameters:
                x = convolved(x, f"{name}.shortcut", stride)
            x = torch.relu(inner + x)
            block += 1
    return dense(x.mean((2, 3)), parameters, "output")


def vgg(x: torch.Tensor, parameters: Parameters, buffers: Buffers) -> torch.Tensor:
    block = 0
    while f"block{block}.convolution0.weight" in parameters:
        repeat = 0
        while (name := f"block{block}.convolution{repeat}") + ".weight" in parameters:
            x = F.conv2d(x, parameters[f"{name}.weight"], padding=1)
            x = torch.relu(buffers.normalised(x, parameters, f"{name}.norm"))
            repeat += 1
        x = F.max_pool2d(x, [2 if size >= 4 else 1 for size in x.shape[2:]])
        block += 1
    x = torch.relu(dense(x.flatten(1), parameters, "dense"))
    return dense(x, parameters, "output")


NORMALISED = {"resnet": resnet, "vgg": vgg}


def loss(
    recipe: str,
    signature: NetworkSignature,
    tensors: Mapping[str, np.ndarray],
    parameters: Parameters,
    buffers: Buffers,
) -> torch.Tensor:
    """The mean loss of a batch."""
    x = features(signature, tensors, parameters)
    if recipe in NORMALISED:
        output = NORMALISED[recipe](x, parameters, buffers)
    else:
        output = {"cnn": cnn, "linear": mlp, "mlp": mlp}[recipe](x, parameters)
    target = torch.from_numpy(tensors["target"])
    if isinstance(signature.task, Classification):
        return F.cross_entropy(output, target)
    return F.mse_loss(output[:, 0], (target - signature.task.mean) / signature.task.std)
