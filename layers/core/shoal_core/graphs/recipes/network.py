"""The layers that recipes are written with: a graph builder that also draws initial parameters."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import LOGITS, PARAMETER, PREDICTION, ForwardGraph
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

    def parameter(self, name: str, value: NDArray[Any]) -> str:
        """A trainable tensor, float32."""
        self._initial[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.graph.input(PARAMETER + name, TensorProto.FLOAT, value.shape)

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

    def convolution(self, x: str, name: str, channels: int, kernel: int) -> str:
        """x [N, C, H, W] to [N, channels, H, W], zeros around the edge."""
        inputs = self._fixed(x, 1)
        weight = self._he((channels, inputs, kernel, kernel), inputs * kernel * kernel)
        return self.graph.emit(
            "Conv",
            x,
            self.parameter(f"{name}.weight", weight),
            self.parameter(f"{name}.bias", np.zeros(channels)),
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2, kernel // 2, (kernel - 1) // 2, (kernel - 1) // 2],
        )

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
        return ForwardGraph(self.graph.build("forward"), tuple(self._initial), dict(self._initial))

    def _he(self, shape: tuple[int, ...], inputs: int) -> NDArray[Any]:
        """He et al. (2015): normal with variance 2 / inputs, right for layers that a ReLU follows."""
        return self._random.normal(0, math.sqrt(2 / inputs), shape)

    def _fixed(self, x: str, axis: int) -> int:
        size = self.graph.shape(x)[axis]
        if not isinstance(size, int):
            raise BadNetwork(f"Axis {axis} of tensor {x!r} has no fixed size: {self.graph.shape(x)}.")
        return size
