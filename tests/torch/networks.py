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


def loss(
    recipe: str, signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters
) -> torch.Tensor:
    """The mean loss of a batch."""
    network = {"cnn": cnn, "mlp": mlp}[recipe]
    output = network(features(signature, tensors, parameters), parameters)
    target = torch.from_numpy(tensors["target"])
    if isinstance(signature.task, Classification):
        return F.cross_entropy(output, target)
    return F.mse_loss(output[:, 0], (target - signature.task.mean) / signature.task.std)
