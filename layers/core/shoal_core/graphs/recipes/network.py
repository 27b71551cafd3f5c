"""The layers that recipes are written with: a graph builder that also draws initial parameters."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import BUFFER, LOGITS, PARAMETER, PREDICTION, ForwardGraph
from shoal_core.graphs.shapes import product
from shoal_core.graphs.signature import Classification, NetworkSignature


class Network:
    """A forward graph in the making.

    Args:
        seed: Of the initial parameters; the same seed gives the same bytes.
    """

    def __init__(self, seed: int) -> None:
        self.graph = GraphBuilder(namespace="net")
        self._random = np.random.default_rng(seed)
        self._initial: dict[str, NDArray[Any]] = {}
        self._buffers: dict[str, NDArray[Any]] = {}

    def parameter(self, name: str, value: NDArray[Any]) -> str:
        """A trainable tensor, float32."""
        self._initial[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.graph.input(PARAMETER + name, TensorProto.FLOAT, value.shape)

    def buffer(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that training renews without a gradient, float32."""
        self._buffers[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.graph.input(BUFFER + name, TensorProto.FLOAT, value.shape)

    def dense(self, x: str, name: str, units: int, init: Literal["he", "glorot"] = "he") -> str:
        """x [N, inputs] times weight [inputs, units] plus bias: [N, units]."""
        inputs = self._fixed(x, 1)
        if init == "he":
            weight = self._he((inputs, units), inputs)
        else:
            limit = math.sqrt(6 / (inputs + units))
            weight = self._random.uniform(-limit, limit, (inputs, units))
        kernel = self.parameter(f"{name}.weight", weight)
        return self.graph.emit("Gemm", x, kernel, self.parameter(f"{name}.bias", np.zeros(units)))

    def convolution(self, x: str, name: str, channels: int, kernel: int, stride: int = 1, *, bias: bool = True) -> str:
        """x [N, C, H, W] to [N, channels, H/stride, W/stride] (rounded up), zeros around the edge.

        Without `bias` for a normalisation to follow, which has one.
        """
        inputs = self._fixed(x, 1)
        weight = self._he((channels, inputs, kernel, kernel), inputs * kernel * kernel)
        operands = [x, self.parameter(f"{name}.weight", weight)]
        if bias:
            operands.append(self.parameter(f"{name}.bias", np.zeros(channels)))
        pads = [kernel // 2, kernel // 2, (kernel - 1) // 2, (kernel - 1) // 2]
        strides: dict[str, Any] = {"strides": [stride, stride]} if stride > 1 else {}
        return self.graph.emit("Conv", *operands, kernel_shape=[kernel, kernel], pads=pads, **strides)

    def batch_normalization(self, x: str, name: str) -> str:
        """Each channel of x [N, C, ...] standardised: in training over the batch, then by the running statistics."""
        channels = self._fixed(x, 1)
        return self.graph.emit(
            "BatchNormalization",
            x,
            *self._scale_and_bias(name, channels),
            self.buffer(f"{name}.mean", np.zeros(channels)),
            self.buffer(f"{name}.variance", np.ones(channels)),
        )

    def group_normalization(self, x: str, name: str, groups: int) -> str:
        """Each sample of x [N, C, ...] standardised over groups of channels; `groups` is lowered until it divides C."""
        channels = self._fixed(x, 1)
        fitting = math.gcd(groups, channels)
        return self.graph.emit("GroupNormalization", x, *self._scale_and_bias(name, channels), num_groups=fitting)

    def _scale_and_bias(self, name: str, channels: int) -> tuple[str, str]:
        scale = self.parameter(f"{name}.scale", np.ones(channels))
        return scale, self.parameter(f"{name}.bias", np.zeros(channels))

    def embedding(self, codes: str, name: str, rows: int, width: int) -> str:
        """Row `codes` [N] of a trainable table [rows, width]: [N, width]."""
        table = self._random.normal(0, 1 / math.sqrt(width), (rows, width))
        return self.graph.emit("Gather", self.parameter(f"{name}.table", table), codes, axis=0)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.graph.emit("Relu", x)

    def flatten(self, x: str) -> str:
        """[N, ...] to [N, features]."""
        shape = self.graph.shape(x)
        return x if len(shape) == 2 else self.graph.reshape(x, (shape[0], product(shape[1:])))

    def answer(self, x: str, signature: NetworkSignature) -> ForwardGraph:
        """The last layer, and the finished graph."""
        output = LOGITS if isinstance(signature.task, Classification) else PREDICTION
        raw = self.dense(x, "output", signature.outputs, init="glorot")
        self.graph.output(self.graph.emit("Identity", raw, output=output))
        model = self.graph.build("forward")
        return ForwardGraph(model, tuple(self._initial), dict(self._initial), dict(self._buffers))

    def _he(self, shape: tuple[int, ...], inputs: int) -> NDArray[Any]:
        """He et al. (2015): normal with variance 2 / inputs, right for layers that a ReLU follows."""
        return self._random.normal(0, math.sqrt(2 / inputs), shape)

    def _fixed(self, x: str, axis: int) -> int:
        size = self.graph.shape(x)[axis]
        if not isinstance(size, int):
            raise BadNetwork(f"Axis {axis} of tensor {x!r} has no fixed size: {self.graph.shape(x)}.")
        return size
