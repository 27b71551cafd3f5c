"""The recipes' networks, written again in PyTorch from their parameters' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from shoal_core.graphs.signature import Classification, Multilabel, NetworkSignature, NumbersInput, SequenceInput
from tests.torch.autoencoders import scores
from tests.torch.steps import line, over_steps

Parameters = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Text:
    """One column of texts: ids that the tables have, int64 [N, L], and 1 where a token is, float32 [N, L]."""

    name: str
    ids: torch.Tensor
    mask: torch.Tensor


def texts(signature: NetworkSignature, tensors: Mapping[str, np.ndarray]) -> list[Text]:
    found, start = [], 0
    for index, column in enumerate(signature.tokens.columns):
        ids = torch.from_numpy(tensors["tokens"][:, start : start + column.length].astype(np.int64))
        ids = torch.where((ids >= 0) & (ids < column.cardinality), ids, 1)
        found.append(Text(f"text{index}", ids, (ids > 0).float()))
        start += column.length
    return found


def numbers(raw: torch.Tensor, columns: NumbersInput | SequenceInput) -> torch.Tensor:
    """Filled, clipped, standardised, and the indicators of missing ones behind."""
    mean, std = torch.tensor(columns.mean), torch.tensor(columns.std)
    fills = [m if fill is None else fill for m, fill in zip(columns.mean, columns.fill or columns.mean, strict=True)]
    limits = [pair or (-torch.inf, torch.inf) for pair in columns.bounds or (None,) * len(columns.mean)]
    low, high = (torch.tensor(limit, dtype=torch.float32) for limit in zip(*limits, strict=True))
    filled = torch.where(raw.isnan(), torch.tensor(fills, dtype=torch.float32), raw)
    scaled = (torch.minimum(torch.maximum(filled, low), high) - mean) / torch.where(std > 0, std, 1)
    return torch.cat([scaled, raw.isnan().float()[..., torch.tensor(columns.missing)]], -1)


def bag(ids: torch.Tensor, mask: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    total = (F.embedding(ids, table) * mask[..., None]).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def features(signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters) -> torch.Tensor:
    """What the first layer sees."""
    if signature.image is not None:
        mean, std = (torch.tensor(x).reshape(1, -1, 1, 1) for x in (signature.image.mean, signature.image.std))
        return (torch.from_numpy(tensors["image"]).float() - mean) / torch.where(std > 0, std, 1)
    if signature.sequence is not None:
        return torch.cat(seen_by_step(signature, tensors, parameters), -1)
    columns = []
    if signature.tokens is not None:
        columns += [bag(x.ids, x.mask, parameters[f"{x.name}.tokens.table"]) for x in texts(signature, tensors)]
    return torch.cat([*columns, *beside(signature, tensors, parameters)], 1)


def beside(
    signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters
) -> list[torch.Tensor]:
    """Numbers and categories."""
    columns = []
    if signature.numbers is not None:
        columns.append(numbers(torch.from_numpy(tensors["numbers"]), signature.numbers))
    if signature.categories is not None:
        columns += categories(tensors, signature.categories.cardinalities, parameters)
    return columns


def seen_by_step(
    signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters
) -> list[torch.Tensor]:
    """Numbers and categories of each step of a window."""
    columns = []
    if signature.sequence.mean:
        columns.append(numbers(torch.from_numpy(tensors["sequence"]), signature.sequence))
    if signature.sequence.cardinalities:
        columns += categories(tensors, signature.sequence.cardinalities, parameters)
    return columns


def categories(
    tensors: Mapping[str, np.ndarray], cardinalities: Sequence[int], parameters: Parameters
) -> list[torch.Tensor]:
    """One-hot, or embeddings where there is a table; codes on the last axis."""
    codes = torch.from_numpy(tensors["categories"])
    columns = []
    for index, size in enumerate(cardinalities):
        code = torch.where((codes[..., index] >= 0) & (codes[..., index] < size), codes[..., index], 0)
        table = parameters.get(f"categories{index}.table")
        columns.append(F.one_hot(code, size).float() if table is None else F.embedding(code, table))
    return columns


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


def fasttext(signature: NetworkSignature, tensors: Mapping[str, np.ndarray], parameters: Parameters) -> torch.Tensor:
    found = []
    for text in texts(signature, tensors):
        found.append(bag(text.ids, text.mask, parameters[f"{text.name}.tokens.table"]))
        table = parameters.get(f"{text.name}.pairs.table")
        if table is not None:
            pairs = (text.ids[:, :-1] * 1_000_003 + text.ids[:, 1:]) % len(table)
            found.append(bag(pairs, text.mask[:, 1:], table))
    return torch.cat([*found, *beside(signature, tensors, parameters)], 1)


NORMALISED = {"resnet": resnet, "vgg": vgg}


def loss(
    recipe: str,
    config: Mapping[str, Any],
    signature: NetworkSignature,
    tensors: Mapping[str, np.ndarray],
    parameters: Parameters,
    buffers: Buffers,
) -> torch.Tensor:
    """The mean loss of a batch."""
    over_time = recipe in ("crnn", "rnn", "text-cnn", "transformer") and signature.image is None
    x = torch.zeros(0) if over_time or recipe == "fasttext" else features(signature, tensors, parameters)
    if over_time:
        found = []
        if signature.sequence is not None:
            steps = features(signature, tensors, parameters)
            found.append(over_steps(recipe, config, "sequence", steps, None, parameters))
        else:
            for text in texts(signature, tensors):
                embedded = F.embedding(text.ids, parameters[f"{text.name}.tokens.table"]) * text.mask[..., None]
                found.append(over_steps(recipe, config, text.name, embedded, text.mask, parameters))
        output = mlp(torch.cat([*found, *beside(signature, tensors, parameters)], 1), parameters)
    elif recipe == "autoencoder":
        output = scores(config, signature, tensors, x, parameters)
    elif recipe == "fasttext":
        output = mlp(fasttext(signature, tensors, parameters), parameters)
    elif recipe == "crnn":
        output = mlp(line(config, x, parameters), parameters)
    elif recipe in NORMALISED:
        output = NORMALISED[recipe](x, parameters, buffers)
    else:
        output = {"cnn": cnn, "linear": mlp, "mlp": mlp}[recipe](x, parameters)
    target = torch.from_numpy(tensors["target"])
    if recipe == "autoencoder":
        return output[target == 0].mean()
    if isinstance(signature.task, Multilabel):
        return F.binary_cross_entropy_with_logits(output, target)
    if isinstance(signature.task, Classification):
        return F.cross_entropy(output, target)
    return F.mse_loss(output[:, 0], (target - signature.task.mean) / signature.task.std)
