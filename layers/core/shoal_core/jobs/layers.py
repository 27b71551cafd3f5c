"""Operators with weights, windows or statistics: products, convolutions, pools, normalisations, recurrence, softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shoal_core.jobs.calls import Call, Operator, Result
from shoal_core.jobs.elementwise import SMALLEST

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_MEAN_POOLS: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
# Where PyTorch's gates are among ONNX's: i f g o among i o f c, and r z n among z r h.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def _gemm(call: Call) -> Tensor:
    a = call.x.t() if call.integer("transA", 0) else call.x
    b = call.operand(1).t() if call.integer("transB", 0) else call.operand(1)
    alpha, beta, c = call.number("alpha", 1.0), call.number("beta", 1.0), call.optional(2)
    if c is None:
        return alpha * (a @ b)
    return torch.addmm(c, a, b, alpha=alpha, beta=beta)


def _window(call: Call, axes: int) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    return tuple(  # type: ignore[return-value]  # two of them
        [int(size) for size in call.attributes.get(name) or [1] * axes] for name in ("strides", "dilations")
    )


def _pads(call: Call, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[tuple[int, int]]:
    """What is added before and behind each axis of a window."""
    axes = len(kernel)
    auto = str(call.attributes.get("auto_pad", "NOTSET"))
    if auto.startswith("SAME"):
        found = []
        for axis, size in enumerate(call.x.shape[2:]):
            reach = dilations[axis] * (kernel[axis] - 1) + 1
            lacking = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + reach - size)
            small, large = lacking // 2, lacking - lacking // 2
            found.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return found
    given = [int(size) for size in call.attributes.get("pads") or [0] * (2 * axes)]
    return list(zip(given[:axes], given[axes:], strict=True))


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The input, padded where its two sides differ, and the padding that is left to the kernel."""
    if all(before == behind for before, behind in pads):
        return x, [before for before, _ in pads]
    return F.pad(x, [size for pair in reversed(pads) for size in pair], value=value), [0] * len(pads)


def _convolution(call: Call) -> Tensor:
    weight = call.operand(1)
    kernel = list(weight.shape[2:])
    strides, dilations = _window(call, len(kernel))
    x, padding = _padded(call.x, _pads(call, kernel, strides, dilations))
    convolve: Any = _CONVOLUTIONS[len(kernel) - 1]
    found: Tensor = convolve(x, weight, call.optional(2), strides, padding, dilations, call.integer("group", 1))
    return found


def _transposed_convolution(call: Call) -> Tensor:
    weight = call.operand(1)
    kernel = list(weight.shape[2:])
    strides, dilations = _window(call, len(kernel))
    pads = _pads(call, kernel, strides, dilations)
    more = [int(size) for size in call.attributes.get("output_padding") or [0] * len(kernel)]
    if "output_shape" in call.attributes or str(call.attributes.get("auto_pad", "NOTSET")) != "NOTSET":
        raise ValueError("ConvTranspose by its output's shape isn't computed")
    least = [min(pair) for pair in pads]
    convolve: Any = _TRANSPOSED[len(kernel) - 1]
    y: Tensor = convolve(call.x, weight, call.optional(2), strides, least, more, call.integer("group", 1), dilations)
    # What one side is cut more than the other.
    for axis, (before, behind) in enumerate(pads):
        y = y.narrow(2 + axis, before - least[axis], y.shape[2 + axis] - (before + behind - 2 * least[axis]))
    return y


def _max_pool(call: Call) -> Tensor:
    kernel = [int(size) for size in call.attributes["kernel_shape"]]
    strides, dilations = _window(call, len(kernel))
    x, padding = _padded(call.x, _pads(call, kernel, strides, dilations), SMALLEST)
    pool: Any = _MAX_POOLS[len(kernel) - 1]
    found: Tensor = pool(x, kernel, strides, padding, dilations, bool(call.integer("ceil_mode", 0)))
    return found


def _mean_pool(call: Call) -> Tensor:
    kernel = [int(size) for size in call.attributes["kernel_shape"]]
    strides, dilations = _window(call, len(kernel))
    pads = _pads(call, kernel, strides, dilations)
    counted = bool(call.integer("count_include_pad", 0))
    x, padding = _padded(call.x, pads)
    if any(size != 1 for size in dilations) or (x is not call.x and not counted):
        raise ValueError("AveragePool with dilations or one-sided padding isn't computed")
    pool: Any = _MEAN_POOLS[len(kernel) - 1]
    found: Tensor = pool(x, kernel, strides, padding, bool(call.integer("ceil_mode", 0)), counted)
    return found


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def _batch_normalization(call: Call) -> Tensor:
    scale, bias, mean, variance = (call.operand(place) for place in range(1, 5))
    epsilon, kept = call.number("epsilon", 1e-5), call.number("momentum", 0.9)
    if not call.trained:
        return F.batch_norm(call.x, mean, variance, scale, bias, False, 0.0, epsilon)
    x = call.x
    count = x.numel() // x.shape[1]
    if call.total is None and count > 1:
        return F.batch_norm(x, mean, variance, scale, bias, True, 1 - kept, epsilon)
    axes = [0, *_spatial(x)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    total = call.total or (lambda value: value)
    # Two passes, as a square of the mean would cost the digits that a variance is made of.
    whole = total(torch.tensor(float(count), device=x.device))
    average = total(x.sum(axes)) / whole
    centred = x - average.reshape(shape)
    spread = total((centred * centred).sum(axes)) / whole
    with torch.no_grad():
        unbiased = spread * whole / (whole - 1).clamp(min=1)
        for running, seen in ((mean, average), (variance, unbiased)):
            running.mul_(kept).add_(seen.detach(), alpha=1 - kept)
    normal = centred * torch.rsqrt(spread + epsilon).reshape(shape)
    return normal * scale.reshape(shape) + bias.reshape(shape)


def _layer_normalization(call: Call) -> Tensor:
    axis = call.integer("axis", -1) % call.x.ndim
    epsilon = call.number("epsilon", 1e-5)
    return F.layer_norm(call.x, list(call.x.shape[axis:]), call.operand(1), call.optional(2), epsilon)


def _group_normalization(call: Call) -> Tensor:
    groups = call.integer("num_groups", 1)
    return F.group_norm(call.x, groups, call.operand(1), call.operand(2), call.number("epsilon", 1e-5))


def _instance_normalization(call: Call) -> Tensor:
    return F.instance_norm(
        call.x, weight=call.operand(1), bias=call.operand(2), eps=call.number("epsilon", 1e-5), use_input_stats=True
    )


def _recurrence(kind: str) -> Operator:
    """LSTM and GRU with their default activations; X [T, N, I] to [T, D, N, H], and the last states [D, N, H]."""
    runs: Callable[..., tuple[Tensor, ...]] = torch.lstm if kind == "LSTM" else torch.gru

    def run(call: Call) -> Result:
        _require_plain(kind, call)
        x, w, r = (call.operand(place) for place in range(3))
        units = r.shape[2]
        direction = str(call.attributes.get("direction", "forward"))
        if direction == "reverse":
            x = x.flip(0)
        bias = call.optional(3)
        halves = torch.zeros(w.shape[0], 2 * w.shape[1], device=x.device) if bias is None else bias
        weights = [
            _turned(kind, part) for each in range(w.shape[0]) for part in (w[each], r[each], *halves[each].chunk(2))
        ]
        zero = torch.zeros(w.shape[0], x.shape[1], units, device=x.device, dtype=x.dtype)
        first = call.optional(5)
        before = zero if first is None else first
        given = call.optional(6) if kind == "LSTM" else None
        state: Any = (before, zero if given is None else given) if kind == "LSTM" else before
        y, *last = runs(x, state, weights, True, 1, 0.0, True, direction == "bidirectional", False)
        y = y.reshape(*y.shape[:2], w.shape[0], units).transpose(1, 2)
        return (y.flip(0) if direction == "reverse" else y, *last)

    return run


def _require_plain(kind: str, call: Call) -> None:
    """Raise `ValueError` for what PyTorch's kernels don't compute."""
    named = call.attributes.get("activations")
    usual = _ACTIVATIONS[kind]
    other = named is not None and list(named) != usual * (len(named) // len(usual))
    before = kind == "GRU" and not call.integer("linear_before_reset", 0)
    rare = any(name in call.attributes for name in ("clip", "input_forget")) or call.integer("layout", 0)
    if other or before or rare or call.optional(4) is not None or call.optional(7) is not None:
        raise ValueError(
            f"{kind} with other activations, sequence lengths, clipping, peepholes or GRU's reset before the product "
            "isn't computed"
        )


def _turned(kind: str, weight: Tensor) -> Tensor:
    """A weight with its gates in PyTorch's order."""
    gates = weight.chunk(len(_GATES[kind]))
    return torch.cat([gates[place] for place in _GATES[kind]])


def _softmax(function: Callable[..., Tensor]) -> Operator:
    return lambda call: function(call.x, dim=call.integer("axis", -1))


OPERATORS: dict[str, Operator] = {
    "AveragePool": _mean_pool,
    "BatchNormalization": _batch_normalization,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Einsum": lambda call: torch.einsum(str(call.attributes["equation"]), *call.all()),
    "GRU": _recurrence("GRU"),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda call: call.x.mean(_spatial(call.x), keepdim=True),
    "GlobalMaxPool": lambda call: call.x.amax(_spatial(call.x), keepdim=True),
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LSTM": _recurrence("LSTM"),
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": lambda call: torch.matmul(call.x, call.operand(1)),
    "MaxPool": _max_pool,
    "Softmax": _softmax(torch.softmax),
}
