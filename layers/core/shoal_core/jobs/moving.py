"""Operators that move elements, tell shapes and make tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shoal_core.jobs.calls import Call, Operator, Result


def _shape(call: Call) -> Tensor:
    sizes = list(call.x.shape)
    end = call.attributes.get("end")
    return torch.tensor(sizes[call.integer("start", 0) : end], dtype=torch.int64)


def _reshape(call: Call) -> Tensor:
    wanted = call.ints(1) or []
    if not call.integer("allowzero", 0):
        wanted = [call.x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return call.x.reshape(wanted)


def _flatten(call: Call) -> Tensor:
    axis = call.integer("axis", 1) % (call.x.ndim + 1)
    rows = 1
    for size in call.x.shape[:axis]:
        rows *= size
    return call.x.reshape(rows, -1)


def _squeeze(call: Call) -> Tensor:
    axes = call.ints(1, "axes")
    return call.x.squeeze() if axes is None else call.x.squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call.x, call.ints(1, "axes") or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _transpose(call: Call) -> Tensor:
    order = call.attributes.get("perm") or list(reversed(range(call.x.ndim)))
    return call.x.permute(order)


def _expand(call: Call) -> Tensor:
    return call.x.expand(torch.broadcast_shapes(call.x.shape, tuple(call.ints(1) or ())))


def _gather(call: Call) -> Tensor:
    data, places = call.x, call.operand(1).long()
    axis = call.integer("axis", 0) % data.ndim
    places = torch.where(places < 0, places + data.shape[axis], places)
    rows = data.index_select(axis, places.reshape(-1))
    return rows.reshape(*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])


def _gather_elements(call: Call) -> Tensor:
    axis = call.integer("axis", 0)
    places = call.operand(1).long()
    return torch.gather(call.x, axis, torch.where(places < 0, places + call.x.shape[axis], places))


def _slice(call: Call) -> Tensor:
    x = call.x
    starts, ends = call.ints(1, "starts") or [], call.ints(2, "ends") or []
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        if step == 1:
            x = x.narrow(axis, chosen.start, len(chosen))
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=x.device))
    return x


def _split(call: Call) -> Result:
    axis = call.integer("axis", 0)
    sizes = call.ints(1, "split")
    if sizes is None:
        parts = call.integer("num_outputs", 1)
        return tuple(torch.split(call.x, -(-call.x.shape[axis] // parts), axis))
    return tuple(torch.split(call.x, sizes, axis))


def _pad(call: Call) -> Tensor:
    if call.attributes.get("mode", "constant") != "constant":
        raise ValueError(f"padding of mode {call.attributes['mode']!r} isn't computed")
    pads, axes, filled = call.ints(1, "pads") or [], call.ints(3), call.optional(2)
    around = [(0, 0)] * call.x.ndim
    for place, axis in enumerate(axes or range(call.x.ndim)):
        around[axis] = (pads[place], pads[place + len(pads) // 2])
    value = float(filled) if filled is not None else 0.0
    return F.pad(call.x, [size for pair in reversed(around) for size in pair], value=value)


def _one_hot(call: Call) -> Tensor:
    codes, depth, values = call.x, (call.ints(1) or [0])[0], call.operand(2)
    axis = call.integer("axis", -1)
    codes = torch.where(codes < 0, codes + depth, codes)
    places = torch.arange(depth, device=codes.device, dtype=codes.dtype)
    hit = codes.unsqueeze(-1) == places
    return torch.where(hit if axis in (-1, codes.ndim) else hit.movedim(-1, axis), values[1], values[0])


def _constant_of_shape(call: Call) -> Tensor:
    value = call.attributes.get("value")
    filled = torch.zeros(1) if value is None else value
    return filled.reshape(()).expand(call.ints(0) or ()).clone()


def _range(call: Call) -> Tensor:
    start, limit, step = (call.operand(place).item() for place in range(3))
    return torch.arange(start, limit, step, dtype=call.x.dtype)


def _cumulated(call: Call) -> Tensor:
    axis = (call.ints(1) or [0])[0]
    x = call.x.flip(axis) if call.integer("reverse", 0) else call.x
    total = x.cumsum(axis)
    if call.integer("exclusive", 0):
        total = total - x
    return total.flip(axis) if call.integer("reverse", 0) else total


def _trilu(call: Call) -> Tensor:
    diagonal = (call.ints(1) or [0])[0]
    return torch.triu(call.x, diagonal) if call.integer("upper", 1) else torch.tril(call.x, diagonal)


def _reversed(call: Call) -> Tensor:
    """Each sample's first steps turned around, the padding behind them left where it is."""
    time, batch = call.integer("time_axis", 0), call.integer("batch_axis", 1)
    x = call.x.movedim((time, batch), (0, 1))
    lengths = call.operand(1)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    places = places.reshape(*places.shape, *[1] * (x.ndim - 2)).expand(x.shape)
    return torch.gather(x, 0, places).movedim((0, 1), (time, batch))


def _constant(call: Call) -> Tensor:
    found = call.attributes.get("value")
    if isinstance(found, Tensor):
        return found
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32), ("value_int", torch.int64)):
        if name in call.attributes:
            return torch.tensor(call.attributes[name], dtype=dtype)
    return torch.tensor(call.attributes["value_ints"], dtype=torch.int64)


OPERATORS: dict[str, Operator] = {
    "Concat": lambda call: torch.cat(call.all(), call.integer("axis", 0)),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cumulated,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ReverseSequence": _reversed,
    "Shape": _shape,
    "Size": lambda call: torch.tensor(call.x.numel(), dtype=torch.int64),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda call: call.x.repeat(call.ints(1) or ()),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
