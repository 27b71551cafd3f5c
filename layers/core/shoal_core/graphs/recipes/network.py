"""The layers that recipes are written with: a graph builder that also draws initial parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from shoal_core.errors import BadNetwork
from shoal_core.graphs.autodiff import trace
from shoal_core.graphs.builder import OPSET, GraphBuilder
from shoal_core.graphs.forward import BUFFER, LOGITS, PARAMETER, PREDICTION, ForwardGraph
from shoal_core.graphs.shapes import product
from shoal_core.graphs.signature import NetworkSignature, Regression

Cell = Literal["lstm", "gru"]
OUTPUT = "output"
"""The last layer's name."""
_GATES: dict[Cell, int] = {"lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Recurrence:
    """What a recurrent layer answers: its hidden states [T, N, units], and the one after its last step [N, units]."""

    states: str
    last: str


class Network:
    """A forward graph in the making.

    Args:
        seed: Of the initial parameters; the same seed gives the same bytes.
        opset: Version of ONNX's standard operator set.
    """

    def __init__(self, seed: int, opset: int = OPSET) -> None:
        self.graph = GraphBuilder(opset, namespace="net")
        self._random = np.random.default_rng(seed)
        self._initial: dict[str, NDArray[Any]] = {}
        self._buffers: dict[str, NDArray[Any]] = {}
        self._dropouts: list[str] = []
        self._told: list[ValueInfoProto] = []

    def parameter(self, name: str, value: NDArray[Any]) -> str:
        """A trainable tensor, float32."""
        self._initial[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.graph.input(PARAMETER + name, TensorProto.FLOAT, value.shape)

    def buffer(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that training renews without a gradient, float32."""
        self._buffers[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.graph.input(BUFFER + name, TensorProto.FLOAT, value.shape)

    def dense(self, x: str, name: str, units: int, init: Literal["he", "glorot", "uniform"] = "he") -> str:
        """x [N, inputs] times weight [inputs, units] plus bias: [N, units]."""
        inputs = self._fixed(x, 1)
        if init == "glorot":
            weight = self._uniform((inputs, units), (inputs + units) / 6)
        else:
            weight = self._for_relu((inputs, units), inputs, init)
        kernel = self.parameter(f"{name}.weight", weight)
        return self.graph.emit("Gemm", x, kernel, self.parameter(f"{name}.bias", self._bias(units, inputs, init)))

    def convolution(
        self,
        x: str,
        name: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        *,
        bias: bool = True,
        init: Literal["he", "uniform"] = "he",
    ) -> str:
        """x [N, C, sizes...] to [N, channels, sizes/stride...] (rounded up), zeros around the edge; one axis or two.

        Without `bias` for a normalisation to follow, which has one.
        """
        inputs, axes = self._fixed(x, 1), self.graph.rank(x) - 2
        kernels = [kernel] * axes
        reach = inputs * kernel**axes
        operands = [x, self.parameter(f"{name}.weight", self._for_relu((channels, inputs, *kernels), reach, init))]
        if bias:
            operands.append(self.parameter(f"{name}.bias", self._bias(channels, reach, init)))
        pads = [kernel // 2] * axes + [(kernel - 1) // 2] * axes
        strides: dict[str, Any] = {"strides": [stride] * axes} if stride > 1 else {}
        return self.graph.emit("Conv", *operands, kernel_shape=kernels, pads=pads, **strides)

    def transposed_convolution(self, x: str, name: str, channels: int, kernel: int, sizes: Sequence[int]) -> str:
        """x [N, C, h, w] to [N, channels, *sizes], sides about twice as long: the way back from a stride of 2."""
        inputs, axes = self._fixed(x, 1), self.graph.rank(x) - 2
        kernels = [kernel] * axes
        # Each output is reached by a quarter of the kernel's elements in two dimensions.
        weight = self._he((inputs, channels, *kernels), max(1, inputs * kernel**axes // 2**axes))
        extra = [(self._fixed(x, 2 + axis) - 1) * 2 + kernel - size for axis, size in enumerate(sizes)]
        pads = [*(more // 2 for more in extra), *(more - more // 2 for more in extra)]
        return self.graph.emit(
            "ConvTranspose",
            x,
            self.parameter(f"{name}.weight", weight),
            self.parameter(f"{name}.bias", np.zeros(channels)),
            kernel_shape=kernels,
            strides=[2] * axes,
            pads=pads,
        )

    def recurrence(self, x: str, name: str, cell: Cell, units: int, *, backwards: bool = False) -> Recurrence:
        """A recurrent layer over the steps of x [T, N, I].

        First values as PyTorch's, except that an LSTM starts by remembering (R. Jozefowicz et al., 2015).
        """
        width, gates = self._fixed(x, 2), _GATES[cell]
        limit = 1 / math.sqrt(units)
        shapes = {"input": (1, gates * units, width), "state": (1, gates * units, units)}
        weights = [
            self.parameter(f"{name}.{kind}", self._random.uniform(-limit, limit, shape))
            for kind, shape in shapes.items()
        ]
        bias = np.zeros((1, 2 * gates * units))
        attributes: dict[str, Any] = {"hidden_size": units, "direction": "reverse" if backwards else "forward"}
        if cell == "lstm":
            bias[:, 2 * units : 3 * units] = 1  # the forget gate
        else:
            attributes["linear_before_reset"] = 1  # as PyTorch and cuDNN have it
        inputs = [x, *weights, self.parameter(f"{name}.bias", bias)]
        states, last = (self.graph.new_output(cell) for _ in range(2))
        self.graph.copy(helper.make_node(cell.upper(), inputs, [states, last], name=states, **attributes))
        return Recurrence(
            self.graph.emit("Squeeze", states, self.graph.integers(1)),
            self.graph.emit("Squeeze", last, self.graph.integers(0)),
        )

    def per_step(self, x: str, name: str, units: int, init: Literal["he", "glorot"] = "he") -> str:
        """A dense layer on the last axis of x [N, T, I]: [N, T, units]."""
        inputs = self._fixed(x, 2)
        spread = math.sqrt(2 / inputs) if init == "he" else math.sqrt(2 / (inputs + units))
        kernel = self.parameter(f"{name}.weight", self._random.normal(0, spread, (inputs, units)))
        bias = self.parameter(f"{name}.bias", np.zeros(units))
        return self.graph.emit("Add", self.graph.emit("MatMul", x, kernel), bias)

    def layer_normalization(self, x: str, name: str) -> str:
        """The last axis of x standardised for each sample and step, then scaled and shifted."""
        operands = self._scale_and_bias(name, self._fixed(x, self.graph.rank(x) - 1))
        return self.graph.emit("LayerNormalization", x, *operands, axis=-1)

    def positions(self, name: str, steps: int, width: int) -> str:
        """A trainable row for each step: [steps, width]."""
        return self.parameter(f"{name}.positions", self._random.normal(0, 0.02, (steps, width)))

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

    def embedding(self, codes: str, name: str, rows: int, width: int, spread: float | None = None) -> str:
        """Row `codes` [...] of a trainable table [rows, width]: [..., width].

        `spread` is the deviation of its first values: 1 / sqrt(width) when left out, which makes rows about 1 long.
        """
        table = self._random.normal(0, 1 / math.sqrt(width) if spread is None else spread, (rows, width))
        return self.graph.emit("Gather", self.parameter(f"{name}.table", table), codes, axis=0)

    def dropout(self, x: str, share: float) -> str:
        """x, of which a training step leaves out this share and raises the rest (N. Srivastava et al., 2014)."""
        if not share:
            return x
        dropped = self.graph.emit("Dropout", x, self.graph.constant(np.asarray(share, np.float32)))
        self._dropouts.append(dropped)
        return dropped

    def adopt(self, forward: ForwardGraph) -> str:
        """Make another network this one's front: its inputs, parameters, buffers and nodes; its answer's name."""
        trace(self.graph, forward.model, ())
        self._initial |= forward.initial
        self._buffers |= forward.buffers
        self._dropouts += forward.dropouts
        self._told += forward.model.graph.value_info
        return forward.output

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.graph.emit("Relu", x)

    def flatten(self, x: str) -> str:
        """[N, ...] to [N, features]."""
        shape = self.graph.shape(x)
        return x if len(shape) == 2 else self.graph.reshape(x, (shape[0], product(shape[1:])))

    def answer(self, x: str, signature: NetworkSignature) -> ForwardGraph:
        """The last layer, and the finished graph."""
        output = PREDICTION if isinstance(signature.task, Regression) else LOGITS
        return self.finish(self.dense(x, OUTPUT, signature.outputs, init="glorot"), output)

    def finish(self, answer: str, output: str) -> ForwardGraph:
        """The finished graph, which answers a tensor under the name `output`."""
        self.graph.output(self.graph.emit("Identity", answer, output=output))
        model = self.graph.build("forward")
        # Shapes that a network in front tells, and that can't be told from its nodes.
        model.graph.value_info.extend(self._told)
        return ForwardGraph(
            model, tuple(self._initial), dict(self._initial), dict(self._buffers), tuple(self._dropouts)
        )

    def _for_relu(self, shape: tuple[int, ...], inputs: int, init: str) -> NDArray[Any]:
        return self._he(shape, inputs) if init == "he" else self._uniform(shape, inputs)

    def _bias(self, units: int, inputs: int, init: str) -> NDArray[Any]:
        return self._uniform((units,), inputs) if init == "uniform" else np.zeros(units)

    def _uniform(self, shape: tuple[int, ...], inputs: float) -> NDArray[Any]:
        """Within one over the root of the inputs: how PyTorch's layers begin, weights and biases."""
        limit = 1 / math.sqrt(inputs)
        return self._random.uniform(-limit, limit, shape)

    def _he(self, shape: tuple[int, ...], inputs: int) -> NDArray[Any]:
        """He et al. (2015): normal with variance 2 / inputs, right for layers that a ReLU follows."""
        return self._random.normal(0, math.sqrt(2 / inputs), shape)

    def _fixed(self, x: str, axis: int) -> int:
        size = self.graph.shape(x)[axis]
        if not isinstance(size, int):
            raise BadNetwork(f"Axis {axis} of tensor {x!r} has no fixed size: {self.graph.shape(x)}.")
        return size
