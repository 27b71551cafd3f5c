"""Operators that work on each element, and on elements of two tensors: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shoal_core.jobs.calls import DTYPES, Call, Operator


def _one(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda call: function(call.x)


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda call: function(call.x, call.operand(1))


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda call: reduce(function, call.all())


def _divided(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _rest(call: Call) -> Tensor:
    if call.integer("fmod", 0):
        return torch.fmod(call.x, call.operand(1))
    return torch.remainder(call.x, call.operand(1))


def _clipped(call: Call) -> Tensor:
    low, high = call.optional(1), call.optional(2)
    x = call.x if low is None else torch.maximum(call.x, low)
    return x if high is None else torch.minimum(x, high)


def _where(call: Call) -> Tensor:
    return torch.where(call.x, call.operand(1), call.operand(2))


def _cast(call: Call) -> Tensor:
    return call.x.to(DTYPES[call.integer("to", 1)])


def _dropped(call: Call) -> Tensor:
    """What a Dropout with a ratio leaves while it trains; graphs are kept for answering, where it does nothing."""
    ratio = call.optional(1)
    return F.dropout(call.x, float(ratio), training=True) if call.trained and ratio is not None else call.x


def _gelu(call: Call) -> Tensor:
    return F.gelu(call.x, approximate=str(call.attributes.get("approximate", "none")))


def _hard_sigmoid(call: Call) -> Tensor:
    return (call.number("alpha", 0.2) * call.x + call.number("beta", 0.5)).clamp(0, 1)


def _prelu(call: Call) -> Tensor:
    return torch.where(call.x < 0, call.operand(1) * call.x, call.x)


def _selu(call: Call) -> Tensor:
    alpha, gamma = call.number("alpha", 1.67326319217681884765625), call.number("gamma", 1.05070102214813232421875)
    x = call.x
    return gamma * torch.where(x > 0, x, alpha * (torch.exp(torch.clamp(x, max=0)) - 1))


def _mean(call: Call) -> Tensor:
    found = call.all()
    return reduce(torch.add, found) / len(found)


OPERATORS: dict[str, Operator] = {
    "Abs": _one(torch.abs),
    "Acos": _one(torch.acos),
    "Add": _two(torch.add),
    "And": _two(torch.logical_and),
    "Asin": _one(torch.asin),
    "Atan": _one(torch.atan),
    "Cast": _cast,
    "CastLike": lambda call: call.x.to(call.operand(1).dtype),
    "Ceil": _one(torch.ceil),
    "Celu": lambda call: F.celu(call.x, call.number("alpha", 1.0)),
    "Clip": _clipped,
    "Cos": _one(torch.cos),
    "Div": _two(_divided),
    "Dropout": _dropped,
    "Elu": lambda call: F.elu(call.x, call.number("alpha", 1.0)),
    "Equal": _two(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Floor": _one(torch.floor),
    "Gelu": _gelu,
    "Greater": _two(torch.gt),
    "GreaterOrEqual": _two(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _one(F.hardswish),
    "Identity": _one(lambda x: x),
    "IsNaN": _one(torch.isnan),
    "LeakyRelu": lambda call: F.leaky_relu(call.x, call.number("alpha", 0.01)),
    "Less": _two(torch.lt),
    "LessOrEqual": _two(torch.le),
    "Log": _one(torch.log),
    "Max": _many(torch.maximum),
    "Mean": _mean,
    "Min": _many(torch.minimum),
    "Mish": _one(F.mish),
    "Mod": _rest,
    "Mul": _two(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _two(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _two(torch.pow),
    "Reciprocal": _one(torch.reciprocal),
    "Relu": _one(torch.relu),
    "Round": _one(torch.round),
    "Selu": _selu,
    "Sigmoid": _one(torch.sigmoid),
    "Sign": _one(torch.sign),
    "Sin": _one(torch.sin),
    "Softplus": _one(F.softplus),
    "Softsign": _one(F.softsign),
    "Sqrt": _one(torch.sqrt),
    "Sub": _two(torch.sub),
    "Sum": _many(torch.add),
    "Tan": _one(torch.tan),
    "Tanh": _one(torch.tanh),
    "Where": _where,
}


def reduced(function: Callable[..., Tensor]) -> Operator:
    """An operator that folds axes; `function` takes a tensor, its axes and `keepdim`."""

    def fold(call: Call) -> Tensor:
        axes = call.ints(1, "axes")
        if not axes:
            if call.integer("noop_with_empty_axes", 0):
                return call.x
            axes = list(range(call.x.ndim))
        return function(call.x, axes, keepdim=bool(call.integer("keepdims", 1)))

    return fold


def _product(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _extreme(function: Callable[..., Tensor]) -> Operator:
    """ArgMax and ArgMin: the first one of equals."""

    def find(call: Call) -> Tensor:
        axis = call.integer("axis", 0)
        return function(call.x, dim=axis, keepdim=bool(call.integer("keepdims", 1)))

    return find


def _squares(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    return (x * x).sum(axes, keepdim=keepdim)


def _folded(name: str) -> Callable[..., Tensor]:
    """A function of PyTorch's that takes a tensor, axes and keepdim."""
    function: Any = getattr(torch, name)
    return lambda x, axes, keepdim: function(x, axes, keepdim=keepdim)


OPERATORS |= {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "ReduceL1": reduced(lambda x, axes, keepdim: x.abs().sum(axes, keepdim=keepdim)),
    "ReduceL2": reduced(lambda x, axes, keepdim: _squares(x, axes, keepdim).sqrt()),
    "ReduceLogSum": reduced(lambda x, axes, keepdim: x.sum(axes, keepdim=keepdim).log()),
    "ReduceLogSumExp": reduced(_folded("logsumexp")),
    "ReduceMax": reduced(_folded("amax")),
    "ReduceMean": reduced(_folded("mean")),
    "ReduceMin": reduced(_folded("amin")),
    "ReduceProd": reduced(_product),
    "ReduceSum": reduced(_folded("sum")),
    "ReduceSumSquare": reduced(_squares),
}

SMALLEST = -math.inf
"""What pads a window whose maximum is taken."""
