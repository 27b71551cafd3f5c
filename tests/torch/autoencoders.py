"""The networks of recipe `autoencoder`, written again in PyTorch from their parameters' names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from shoal_core.graphs.signature import NetworkSignature
from tests.torch.steps import ORDER

Parameters = Mapping[str, torch.Tensor]
WIDEST = 10.0


def scores(
    config: Mapping[str, Any],
    signature: NetworkSignature,
    tensors: Mapping[str, np.ndarray],
    seen: torch.Tensor,
    parameters: Parameters,
) -> torch.Tensor:
    """How far each sample was missed, [N]; `seen` is what other recipes' first layer sees."""
    if signature.image is not None:
        return ((images(seen, parameters) - seen) ** 2).mean((1, 2, 3))
    columns = signature.sequence if signature.sequence is not None else signature.numbers
    count = len(columns.mean) if columns is not None else 0
    numbers = seen[..., :count].clamp(-WIDEST, WIDEST)
    x = torch.cat([numbers, seen[..., count:]], -1)
    rebuilt = sequences(config, x, parameters) if signature.sequence is not None else tables(x, parameters)
    cardinalities: Sequence[int] = ()
    if signature.sequence is not None:
        cardinalities = signature.sequence.cardinalities
    elif signature.categories is not None:
        cardinalities = signature.categories.cardinalities
    parts, start = [(rebuilt[..., :count] - numbers) ** 2], count
    for index, size in enumerate(cardinalities):
        codes = torch.from_numpy(tensors["categories"])[..., index]
        known = torch.where((codes >= 0) & (codes < size), codes, 0)
        logits = rebuilt[..., start : start + size]
        missed = F.cross_entropy(logits.movedim(-1, 1), known, reduction="none") / math.log(size)
        parts.append(missed[..., None])
        start += size
    return torch.cat(parts, -1).flatten(1).mean(1)


def dense(x: torch.Tensor, parameters: Parameters, name: str) -> torch.Tensor:
    return x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def layers(parameters: Parameters, name: str) -> int:
    return sum(f"{name}{index}.weight" in parameters for index in range(20))


def tables(x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    for index in range(layers(parameters, "encoder")):
        x = torch.relu(dense(x, parameters, f"encoder{index}"))
    x = dense(x, parameters, "code")
    for index in reversed(range(layers(parameters, "decoder"))):
        x = torch.relu(dense(x, parameters, f"decoder{index}"))
    return dense(x, parameters, "rebuilt")


def images(x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    sizes = []
    for index in range(layers(parameters, "encoder")):
        sizes.append(x.shape[2:])
        weight, bias = parameters[f"encoder{index}.weight"], parameters[f"encoder{index}.bias"]
        x = torch.relu(F.conv2d(x, weight, bias, stride=2, padding=1))
    inner = x.shape
    x = torch.relu(dense(dense(x.flatten(1), parameters, "code"), parameters, "decoder")).reshape(inner)
    for index in reversed(range(len(sizes))):
        weight, bias = parameters[f"decoder{index}.weight"], parameters[f"decoder{index}.bias"]
        whole = F.conv_transpose2d(x, weight, bias, stride=2)
        height, width = sizes[index]
        top, left = ((size - wanted) // 2 for size, wanted in zip(whole.shape[2:], (height, width), strict=True))
        x = torch.relu(whole[:, :, top : top + height, left : left + width])
    return F.conv2d(x, parameters["rebuilt.weight"], parameters["rebuilt.bias"], padding=1)


def recurrence(cell: str, x: torch.Tensor, name: str, parameters: Parameters) -> torch.Tensor:
    """Hidden states of x [T, N, I]: [T, N, units]."""
    bias = parameters[f"{name}.bias"][0].chunk(2)
    found = (parameters[f"{name}.input"][0], parameters[f"{name}.state"][0], *bias)
    weights = {}
    for kind, value in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), found, strict=True):
        gates = value.chunk(len(ORDER[cell]))
        weights[kind] = torch.cat([gates[place] for place in ORDER[cell]])
    module = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](x.shape[2], found[1].shape[1])
    return functional_call(module, weights, (x,))[0]


def sequences(config: Mapping[str, Any], x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    states = recurrence(config["cell"], x.transpose(0, 1), "encoder", parameters)
    code = dense(states[-1], parameters, "code")
    states = recurrence(config["cell"], code.expand(x.shape[1], *code.shape), "decoder", parameters)
    return dense(states.transpose(0, 1), parameters, "rebuilt")
