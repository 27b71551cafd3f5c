"""A run's network in PyTorch: the forward graph that its model is exported from, computed node by node.

So a job trains what is served, whatever built it: a recipe, or a network of the user's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shoal_core.data.shards import Tensors, decode_shard, read_metadata
from shoal_core.errors import BadNetwork
from shoal_core.jobs import elementwise, layers, moving
from shoal_core.jobs.calls import Call, Operator
from shoal_core.training.checkpoints import BUFFER, PARAMETER

METADATA = "network"
OPERATORS: Mapping[str, Operator] = {**elementwise.OPERATORS, **layers.OPERATORS, **moving.OPERATORS}
# Operands that are shapes, axes or counts: read by the processor, wherever the network is computed.
_READ: Mapping[str, frozenset[int]] = {
    **{name: frozenset({1}) for name in ("CumSum", "Expand", "OneHot", "Reshape", "Split", "Squeeze", "Tile", "Trilu")},
    **{name: frozenset({1}) for name in ("Unsqueeze", *(name for name in OPERATORS if name.startswith("Reduce")))},
    "ConstantOfShape": frozenset({0}),
    "Pad": frozenset({1, 2, 3}),
    "Range": frozenset({0, 1, 2}),
    "Slice": frozenset({1, 2, 3, 4}),
}
_HOST = torch.device("cpu")


class GraphNetwork(nn.Module):
    """The network of a document made by `graphs.documents.network_document`; `output` is the name of what it answers.

    Args:
        document: The network.
        parameters: Name -> float32 array: what is trained.
        buffers: Name -> float32 array: running statistics.
        total: Adds a tensor up over all processes of the job, for statistics of whole batches; None for one process.

    Raises:
        BadNetwork: The document needs another parameter, or an operator that isn't known.
    """

    def __init__(
        self, document: bytes, parameters: Tensors, buffers: Tensors, total: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        told = json.loads(read_metadata(document, "The network")[METADATA])
        self._total = total
        self.output: str = told["output"]
        self._names, self._buffer_names = list(parameters), list(buffers)
        self.weights = nn.ParameterList([nn.Parameter(torch.from_numpy(np.array(parameters[n]))) for n in parameters])
        for index, name in enumerate(buffers):
            self.register_buffer(f"running{index}", torch.from_numpy(np.array(buffers[name])))
        self._constants = {
            name: torch.from_numpy(np.array(value)) for name, value in decode_shard(document, "The network").items()
        }
        self._kept: dict[torch.device, dict[str, Tensor]] = {_HOST: self._constants}
        self._nodes = [self._node(*node) for node in told["nodes"]]
        given = {PARAMETER + name for name in self._names} | {BUFFER + name for name in self._buffer_names}
        lacking = [n for n in told["inputs"] if n.startswith((PARAMETER, BUFFER)) and n not in given]
        if lacking:
            raise BadNetwork(f"The network needs {lacking[0]!r}, which the checkpoint lacks.", "Start the run again.")
        self._last = self._last_uses()

    def _node(
        self, operator: str, operands: list[str], results: list[str], attributes: dict[str, Any]
    ) -> tuple[str, list[str], list[str], dict[str, Any]]:
        if operator not in OPERATORS:
            raise BadNetwork(f"Operator {operator!r} isn't known in PyTorch.", "Train it with compute: lambda.")
        read = {
            name: self._constants[value["tensor"]] if isinstance(value, dict) else value
            for name, value in attributes.items()
        }
        return operator, operands, results, read

    def _last_uses(self) -> list[list[str]]:
        """For each node the values that nothing needs after it."""
        last: dict[str, int] = {}
        for index, (_, operands, results, _) in enumerate(self._nodes):
            last |= dict.fromkeys([*operands, *results], index)
        last.pop(self.output, None)
        gone: list[list[str]] = [[] for _ in self._nodes]
        for name, index in last.items():
            gone[index].append(name)
        return gone

    def named_arrays(self) -> tuple[Tensors, Tensors]:
        """Parameters and buffers as they are now, as copies."""
        weights = {name: _array(value) for name, value in zip(self._names, self.weights, strict=True)}
        return weights, {name: _array(value) for name, value in self._running().items()}

    def set_arrays(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
        """Take over other values of parameters and buffers."""
        with torch.no_grad():
            for name, weight in zip(self._names, self.weights, strict=True):
                weight.copy_(torch.from_numpy(np.array(parameters[name])))
            for name, value in self._running().items():
                value.copy_(torch.from_numpy(np.array(buffers[name])))

    def _running(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"running{index}") for index, name in enumerate(self._buffer_names)}

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """The network's output [N, …] of data tensors by name. Raises `BadNetwork`."""
        device = self.weights[0].device
        constants = self._on(device)
        values: dict[str, Tensor] = dict(tensors)
        values |= {PARAMETER + name: weight for name, weight in zip(self._names, self.weights, strict=True)}
        values |= {BUFFER + name: value for name, value in self._running().items()}
        trained = {BUFFER + name for name in self._buffer_names} if self.training else set()
        for (operator, names, results, attributes), gone in zip(self._nodes, self._last, strict=True):
            found = self._operands(operator, names, values, constants, device)
            trains = names[3] in trained if operator == "BatchNormalization" else self.training
            try:
                result = OPERATORS[operator](Call(attributes, found, trains, self._total))
            except ValueError as error:
                raise BadNetwork(f"Operator {operator!r}: {error}.", "Train it with compute: lambda.") from error
            for name, value in zip(results, result if isinstance(result, tuple) else (result,), strict=False):
                values[name] = value
            for name in gone:
                values.pop(name, None)
        return values[self.output]

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._kept:
            self._kept[device] = {name: value.to(device) for name, value in self._constants.items()}
        return self._kept[device]

    def _operands(
        self,
        operator: str,
        names: list[str],
        values: Mapping[str, Tensor],
        constants: Mapping[str, Tensor],
        device: torch.device,
    ) -> list[Tensor | None]:
        """A node's operands: shapes where the processor reads them, everything else where the network is computed."""
        own = [values[name] for name in names if name in values]
        # What is worked out from shapes alone stays with the processor.
        here = device if any(value.device == device for value in own) else _HOST
        read = _READ.get(operator, frozenset())
        found: list[Tensor | None] = []
        for place, name in enumerate(names):
            if not name:
                found.append(None)
            elif name in values:
                value = values[name]
                found.append(value if place in read or value.device == here else value.to(here))
            else:
                found.append((self._constants if place in read or here == _HOST else constants)[name])
        return found


def _array(value: Tensor) -> np.ndarray:
    # A copy: the processor's tensors would share their memory with what training goes on changing.
    return np.array(value.detach().cpu().numpy(), np.float32)
