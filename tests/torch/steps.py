"""Networks over time, written again with PyTorch's own modules: packed sequences and scaled attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Parameters = Mapping[str, torch.Tensor]
Config = Mapping[str, Any]
# Where PyTorch's gates are among ONNX's.
ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2)}


def over_steps(
    recipe: str, config: Config, name: str, x: torch.Tensor, mask: torch.Tensor | None, parameters: Parameters
) -> torch.Tensor:
    """What is left of the steps x [N, T, W]."""
    if recipe == "text-cnn":
        parts = [f"{name}.convolution{index}" for index in range(len(config["kernels"]))]
        return torch.cat([convolved(x, mask, parameters, part).amax(1) for part in parts], 1)
    if recipe == "transformer":
        return transformer(config, name, x, mask, parameters)
    index = 0
    while (part := f"{name}.convolution{index}") + ".weight" in parameters:
        x = convolved(x, mask, parameters, part)
        if x.shape[1] >= (8 if mask is None else 2):
            x = F.max_pool1d(x.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)
            mask = None if mask is None else F.max_pool1d(mask[:, None], 2, ceil_mode=True)[:, 0]
        index += 1
    return recurrent(config, name, x, mask, parameters)


def line(config: Config, x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """An image [N, C, H, W] as steps from left to right."""
    index = 0
    while (name := f"image.convolution{index}") + ".weight" in parameters:
        x = torch.relu(F.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], padding="same"))
        x = F.max_pool2d(x, [2 if size >= 8 else 1 for size in x.shape[2:]])
        index += 1
    return recurrent(config, "image", x.permute(0, 3, 1, 2).flatten(2), None, parameters)


def convolved(x: torch.Tensor, mask: torch.Tensor | None, parameters: Parameters, name: str) -> torch.Tensor:
    weight = parameters[f"{name}.weight"]
    around = (weight.shape[2] // 2, (weight.shape[2] - 1) // 2)
    y = torch.relu(F.conv1d(F.pad(x.transpose(1, 2), around), weight, parameters[f"{name}.bias"])).transpose(1, 2)
    return y if mask is None else y * mask[..., None]


def recurrent(
    config: Config, name: str, x: torch.Tensor, mask: torch.Tensor | None, parameters: Parameters
) -> torch.Tensor:
    cell = config["cell"]
    lengths = None if mask is None else mask.sum(1).clamp(min=1).long()
    layer = 0
    last = x
    while f"{name}.layer{layer}.forward.input" in parameters:
        weights = {}
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            part = f"{name}.layer{layer}.{direction}"
            if f"{part}.input" in parameters:
                bias = parameters[f"{part}.bias"][0].chunk(2)
                found = (parameters[f"{part}.input"][0], parameters[f"{part}.state"][0], *bias)
                for kind, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), found, strict=True):
                    gates = value.chunk(len(ORDER[cell]))
                    weights[f"{kind}_l0{suffix}"] = torch.cat([gates[place] for place in ORDER[cell]])
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        module = kind(x.shape[2], config["units"], batch_first=True, bidirectional=len(weights) == 8)
        if lengths is None:
            x, last = functional_call(module, weights, (x,))
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states, last = functional_call(module, weights, (packed,))
            x = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0]
        last = last[0] if cell == "lstm" else last
        layer += 1
    if config["pooling"] == "last":
        return torch.cat(list(last), 1)
    there = torch.ones(x.shape[:2]) if mask is None else mask
    if config["pooling"] == "mean":
        return (x * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
    return torch.where(there[..., None] > 0, x, -1).amax(1)


def transformer(
    config: Config, name: str, x: torch.Tensor, mask: torch.Tensor | None, parameters: Parameters
) -> torch.Tensor:
    width, heads = config["width"], config["heads"]

    def dense(x: torch.Tensor, part: str) -> torch.Tensor:
        return x @ parameters[f"{part}.weight"] + parameters[f"{part}.bias"]

    def norm(x: torch.Tensor, part: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), parameters[f"{part}.scale"], parameters[f"{part}.bias"])

    x = dense(x, f"{name}.projection") if mask is None else x * math.sqrt(width)
    waves = torch.arange(x.shape[1])[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    positions = torch.stack([waves.sin(), waves.cos()], 2).flatten(1)
    x = x + parameters.get(f"{name}.positions", positions)
    hidden = None if mask is None else (mask[:, None, None, :] - 1) * 1e9
    layer = 0
    while (part := f"{name}.layer{layer}") + ".norm0.scale" in parameters:
        normal = norm(x, f"{part}.norm0")
        parts = (dense(normal, f"{part}.{kind}") for kind in ("query", "key", "value"))
        query, key, value = (y.unflatten(2, (heads, width // heads)).transpose(1, 2) for y in parts)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
        x = x + dense(seen.transpose(1, 2).flatten(2), f"{part}.attended")
        x = x + dense(torch.relu(dense(norm(x, f"{part}.norm1"), f"{part}.dense0")), f"{part}.dense1")
        layer += 1
    there = torch.ones(x.shape[:2]) if mask is None else mask
    normal = norm(x, f"{name}.norm") * there[..., None]
    return normal.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
