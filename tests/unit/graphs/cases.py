"""Small graphs, one or more for every operator with a gradient rule; shared with the comparison with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from shoal_core.graphs.autodiff import backward, trace
from shoal_core.graphs.builder import OPSET, GraphBuilder
from shoal_core.graphs.shapes import Shape

Array = np.ndarray
# N is the batch; M is another size, unknown when the graph is built, that may turn out to be 1.
SIZES = ({"N": 2, "M": 1}, {"N": 3, "M": 3})
SEED = "cotangent"


@dataclass(frozen=True)
class Case:
    """One operator in one use. `build` emits it from the operands' names and returns the output's name.

    The last `buffers` operands are buffers: they aren't differentiated, and the operator runs as it trains.
    """

    name: str
    shapes: tuple[Shape, ...]
    build: Callable[..., str]
    single: bool = False
    low: float = -1.0
    high: float = 1.0
    distinct: bool = False
    sizes: Sequence[dict[str, int]] = field(default=SIZES)
    buffers: int = 0
    opset: int = OPSET

    @property
    def dtype(self) -> type:
        """float64, or float32 where ONNX Runtime has no kernel for it."""
        return np.float32 if self.single else np.float64

    @property
    def element_type(self) -> int:
        return TensorProto.FLOAT if self.single else TensorProto.DOUBLE

    def forward(self) -> onnx.ModelProto:
        graph = GraphBuilder(self.opset, namespace="forward")
        names = [graph.input(f"operand{index}", self.element_type, shape) for index, shape in enumerate(self.shapes)]
        graph.output(self.build(graph, *names))
        return graph.build("case")

    def operands(self, sizes: dict[str, int]) -> list[Array]:
        random = np.random.default_rng(7)
        arrays = []
        for shape in self.shapes:
            fixed = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in shape)
            if self.distinct:
                # Far apart from each other, so that a small change doesn't move a maximum.
                array = random.permutation(int(np.prod(fixed))).reshape(fixed) / 4 - 2.1
            else:
                array = random.uniform(self.low, self.high, fixed)
                # Away from 0, where several functions have a corner.
                array = np.asarray(array + 0.1 * np.sign(array))
            arrays.append(np.asarray(array, dtype=self.dtype))
        return arrays


class Gradients:
    """A case's graph with its gradients, loaded once, run at any size."""

    def __init__(self, case: Case) -> None:
        model = case.forward()
        self.inputs = [value.name for value in model.graph.input]
        count = len(self.inputs) - case.buffers
        self.names, buffers = self.inputs[:count], self.inputs[count:]
        output = model.graph.output[0].name
        forward = GraphBuilder(case.opset, namespace="backward")
        trace(forward, model, self.names, buffers)
        forward.output(output)
        self.forward = onnxruntime.InferenceSession(forward.build("case").SerializeToString())

        graph = GraphBuilder(case.opset, namespace="backward")
        tape = trace(graph, model, self.names, buffers)
        graph.input(SEED, case.element_type, graph.shape(output))
        gradients = backward(graph, tape, {output: SEED}, self.names)
        for name in self.names:
            assert graph.shape(gradients[name]) == graph.shape(name)
            graph.output(graph.emit("Identity", gradients[name], output=f"gradient.{name}"))
        for name in buffers:
            graph.output(graph.emit("Identity", tape.renewed[name], output=f"new.{name}"))
        self.session = onnxruntime.InferenceSession(graph.build("case").SerializeToString())

    def value(self, operands: list[Array]) -> Array:
        """The operator's result; with buffers, as it trains."""
        return self.forward.run(None, dict(zip(self.inputs, operands, strict=True)))[0]

    def of(self, operands: list[Array], seed: Array) -> list[Array]:
        """The gradient of sum(output * seed) with respect to each operand that isn't a buffer."""
        return self.session.run([f"gradient.{name}" for name in self.names], self._feeds(operands, seed))

    def renewed(self, operands: list[Array], seed: Array) -> list[Array]:
        """The buffers' new values."""
        names = [f"new.{name}" for name in self.inputs[len(self.names) :]]
        return self.session.run(names, self._feeds(operands, seed))

    def _feeds(self, operands: list[Array], seed: Array) -> dict[str, Array]:
        return {**dict(zip(self.inputs, operands, strict=True)), SEED: seed}


def node(graph: GraphBuilder, operator: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
    """Emit a node with several outputs."""
    names = [graph.new_output(operator.lower()) for _ in range(outputs)]
    graph.copy(helper.make_node(operator, inputs, names, **attributes))
    return names


def unary(operator: str, **attributes: Any) -> Callable[..., str]:
    return lambda g, x: g.emit(operator, x, **attributes)


def binary(operator: str, **attributes: Any) -> Callable[..., str]:
    return lambda g, a, b: g.emit(operator, a, b, **attributes)


def split(g: GraphBuilder, x: str) -> str:
    first, _unused, last = node(g, "Split", [x, g.integers(1, 2, 2)], 3, axis=1)
    return g.emit("Mul", first, last)


def gather(*indices: Any, axis: int) -> Callable[..., str]:
    return lambda g, x: g.emit("Gather", x, g.constant(np.asarray(indices[0], dtype=np.int64)), axis=axis)


def conv(**attributes: Any) -> Callable[..., str]:
    return lambda g, *inputs: g.emit("Conv", *inputs, **attributes)


def integers_last(operator: str, *values: list[int], **attributes: Any) -> Callable[..., str]:
    """An operator whose inputs after the first are constant integers."""
    return lambda g, x: g.emit(operator, x, *(g.integers(*value) for value in values), **attributes)


def indexed(operator: str, indices: Any, **attributes: Any) -> Callable[..., str]:
    """An operator whose second input is constant indices."""
    return lambda g, x, *rest: g.emit(operator, x, g.constant(np.asarray(indices, dtype=np.int64)), *rest, **attributes)


def recurrent(operator: str, output: int = 0, **attributes: Any) -> Callable[..., str]:
    """One of the outputs Y, Y_h and Y_c; the operands are X, W, R, B and the first states."""

    def build(g: GraphBuilder, x: str, w: str, r: str, *rest: str) -> str:
        bias, states = rest[:1], rest[1:]
        inputs = [x, w, r, *bias, *(["", *states] if states else [])]
        outputs = [g.new_output("y") if index == output else "" for index in range(output + 1)]
        g.copy(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[output]

    return build


def recurrent_shapes(gates: int, directions: int = 1, states: int = 0, bias: bool = True) -> tuple[Shape, ...]:
    """Operands of a recurrent operator with 3 inputs and 2 units, over 4 steps."""
    shapes: list[Shape] = [(4, "N", 3), (directions, 2 * gates, 3), (directions, 2 * gates, 2)]
    shapes += [(directions, 4 * gates)] if bias else []
    return (*shapes, *[(directions, "N", 2)] * states)


def rounded(g: GraphBuilder, x: str) -> str:
    """Piecewise constant functions: they have no slope."""
    scaled = g.emit("Mul", x, g.scalar(3, x))
    return g.emit("Sum", *(g.emit(operator, scaled) for operator in ("Floor", "Ceil", "Round", "Sign")))


def statistics(g: GraphBuilder, x: str) -> list[str]:
    """Constant means and variances of two channels."""
    return [g.constant(np.asarray(values, dtype=g.dtype(x))) for values in ((0.2, -0.1), (0.5, 1.5))]


def resize(*scales: float) -> Callable[..., str]:
    def build(g: GraphBuilder, x: str) -> str:
        factors = g.constant(np.asarray([1, 1, *scales], dtype=np.float32))
        return g.emit(
            "Resize", x, "", factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    return build


BATCH = ("N", 4)
IMAGE = ("N", 2, 6, 7)
CASES = [
    Case("abs", (BATCH,), unary("Abs")),
    Case("neg", (BATCH,), unary("Neg")),
    Case("sqrt", (BATCH,), unary("Sqrt"), low=0.5, high=2),
    Case("exp", (BATCH,), unary("Exp")),
    Case("log", (BATCH,), unary("Log"), low=0.5, high=2),
    Case("tanh", (BATCH,), unary("Tanh")),
    Case("sigmoid", (BATCH,), unary("Sigmoid")),
    Case("relu", (BATCH,), unary("Relu")),
    Case("leaky_relu", (BATCH,), unary("LeakyRelu", alpha=0.2), single=True),
    Case("identity", (BATCH,), unary("Identity")),
    Case("cast", (BATCH,), lambda g, x: g.emit("Cast", g.emit("Cast", x, to=1), to=11)),
    Case("clip", (BATCH,), lambda g, x: g.emit("Clip", x, g.scalar(-0.5, x), g.scalar(0.7, x))),
    Case("clip_above", (BATCH,), lambda g, x: g.emit("Clip", x, "", g.scalar(0.3, x))),
    Case("add", (BATCH, BATCH), binary("Add")),
    Case("add_row", (BATCH, (4,)), binary("Add")),
    Case("add_twice", (BATCH,), lambda g, x: g.emit("Add", x, x)),
    Case("sub_column", (BATCH, ("N", 1)), binary("Sub")),
    Case("sub_from_row", ((1, 4), BATCH), binary("Sub")),
    Case("mul", (BATCH, BATCH), binary("Mul")),
    Case("mul_outer", (("N", 1, 3), (4, 1)), binary("Mul")),
    Case("mul_scalar", (BATCH, ()), binary("Mul")),
    Case("mul_square", (BATCH,), lambda g, x: g.emit("Mul", x, x)),
    Case("mul_unknown", (("N", 3), ("M", 3)), binary("Mul"), sizes=({"N": 2, "M": 1}, {"N": 3, "M": 3})),
    Case("mul_unknown_rank", (("K", "N", 3), ("M", 3)), binary("Mul"), sizes=({"K": 2, "N": 3, "M": 1},)),
    Case("div", (BATCH, BATCH), binary("Div"), low=0.5, high=2),
    Case("div_column", (BATCH, ("N", 1)), binary("Div"), low=0.5, high=2),
    Case("pow_square", (BATCH,), lambda g, x: g.emit("Pow", x, g.scalar(2, x))),
    Case("pow_cube", (BATCH,), lambda g, x: g.emit("Pow", x, g.scalar(3, x))),
    Case("pow", (BATCH, (4,)), binary("Pow"), low=0.5, high=2),
    Case("where", (BATCH, (4,)), lambda g, a, b: g.emit("Where", g.emit("Greater", a, b), a, b)),
    Case("matmul", (("N", 3), (3, 5)), binary("MatMul")),
    Case("matmul_turned", ((2, 3), (3, "N")), binary("MatMul")),
    Case("matmul_batch", (("N", 4, 3), (3, 5)), binary("MatMul")),
    Case("matmul_both_batch", (("N", 4, 3), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_broadcast", (("N", 2, 4, 3), (2, 3, 2)), binary("MatMul")),
    Case("matmul_left_matrix", ((4, 3), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_vector", (("N", 3), (3,)), binary("MatMul")),
    Case("matmul_vector_left", ((3,), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_vectors", ((3,), (3,)), binary("MatMul")),
    Case("gemm", (("N", 3), (3, 5), (5,)), lambda g, *x: g.emit("Gemm", *x)),
    Case("gemm_no_bias", (("N", 3), (3, 5)), binary("Gemm")),
    Case("gemm_a", ((3, "N"), (3, 5), ("N", 1)), lambda g, *x: g.emit("Gemm", *x, transA=1, alpha=0.5, beta=2.0)),
    Case("gemm_b", (("N", 3), (5, 3), ()), lambda g, *x: g.emit("Gemm", *x, transB=1, alpha=2.0)),
    Case("gemm_ab", ((3, "N"), (5, 3)), lambda g, *x: g.emit("Gemm", *x, transA=1, transB=1)),
    Case("conv", (IMAGE, (3, 2, 3, 3), (3,)), conv(pads=[1, 1, 1, 1]), single=True),
    Case("conv_strides", (IMAGE, (3, 2, 3, 2)), conv(strides=[2, 3], pads=[0, 1, 2, 1]), single=True),
    Case("conv_dilations", (IMAGE, (3, 2, 2, 3)), conv(dilations=[3, 2]), single=True),
    Case("conv_groups", (("N", 4, 5, 5), (6, 2, 3, 3), (6,)), conv(group=2, pads=[1, 1, 1, 1]), single=True),
    Case("conv_depthwise", (("N", 3, 5, 5), (3, 1, 3, 3)), conv(group=3), single=True),
    Case("conv_same_upper", (IMAGE, (2, 2, 3, 2)), conv(auto_pad="SAME_UPPER", strides=[2, 2]), single=True),
    Case("conv_same_lower", (IMAGE, (2, 2, 3, 2)), conv(auto_pad="SAME_LOWER", strides=[2, 2]), single=True),
    Case("conv_valid", (IMAGE, (2, 2, 3, 3)), conv(auto_pad="VALID"), single=True),
    Case("conv_pointwise", (IMAGE, (3, 2, 1, 1)), conv(), single=True),
    Case("conv_many_channels", (("N", 9, 4, 4), (2, 9, 2, 2)), conv(), single=True),
    Case("conv_many_channels_groups", (("N", 18, 3, 3), (2, 9, 2, 2)), conv(group=2), single=True),
    Case("conv_joined", (("N", 9, 2, 2), (5, 9, 2, 2)), conv(), single=True),
    Case("conv_1d", (("N", 2, 9), (3, 2, 3), (3,)), conv(strides=[2], pads=[1, 1]), single=True),
    Case("conv_3d", (("N", 1, 3, 4, 3), (2, 1, 2, 2, 2)), conv(), single=True),
    Case("max_pool", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), single=True, distinct=True),
    Case("max_pool_double", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), distinct=True),
    Case(
        "max_pool_overlap",
        (IMAGE,),
        unary("MaxPool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
        single=True,
        distinct=True,
    ),
    Case("max_pool_ceil", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), distinct=True),
    Case(
        "max_pool_dilated",
        (IMAGE,),
        unary("MaxPool", kernel_shape=[2, 2], dilations=[2, 3], strides=[2, 2]),
        single=True,
        distinct=True,
    ),
    Case("average_pool", (IMAGE,), unary("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), single=True),
    Case(
        "average_pool_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        single=True,
    ),
    Case(
        "average_pool_count_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
        single=True,
    ),
    Case("global_average_pool", (IMAGE,), unary("GlobalAveragePool"), single=True),
    Case("global_average_pool_unknown", (("N", 2, "M", 3),), unary("GlobalAveragePool"), single=True),
    Case("reshape", (IMAGE,), integers_last("Reshape", [0, -1])),
    Case("reshape_unknown", (("N", 2, "M"),), integers_last("Reshape", [-1])),
    Case("flatten", (IMAGE,), unary("Flatten", axis=2)),
    Case("squeeze", (("N", 1, 3, 1),), integers_last("Squeeze", [1, -1])),
    Case("unsqueeze", (BATCH,), integers_last("Unsqueeze", [0, 2])),
    Case("transpose", (IMAGE,), unary("Transpose", perm=[2, 0, 3, 1])),
    Case("transpose_reversed", (("N", 2, 3),), unary("Transpose")),
    Case("expand", (("N", 1, 3),), integers_last("Expand", [2, 1, 4, 1])),
    Case(
        "expand_unknown", (("N", 1), ("N", "M")), lambda g, a, b: g.emit("Mul", g.emit("Expand", a, g.shape_of(b)), b)
    ),
    Case("concat", (("N", 2), ("N", 3), ("N", 1)), lambda g, *x: g.emit("Concat", *x, axis=-1)),
    Case("concat_batch", (("N", 2), ("M", 2), (1, 2)), lambda g, *x: g.emit("Concat", *x, axis=0)),
    Case("split", (("N", 5),), split),
    Case("slice", (IMAGE,), integers_last("Slice", [1, -5], [100, -1], [2, 3])),
    Case("slice_batch", (("N", 3),), integers_last("Slice", [1], [3], [0])),
    Case("slice_steps", (IMAGE,), integers_last("Slice", [-1, 1], [-100, 6], [2, 3], [-2, 3])),
    Case("pad", (BATCH,), lambda g, x: g.emit("Pad", x, g.integers(1, 0, 0, 2), g.scalar(3, x))),
    Case("pad_crop", (IMAGE,), integers_last("Pad", [0, 0, -1, 2, 0, 0, 1, -2])),
    Case("pad_axes", (IMAGE,), lambda g, x: g.emit("Pad", x, g.integers(1, 2), "", g.integers(-1))),
    Case("gather_rows", ((5, 3),), gather([[0, 3], [3, -1]], axis=0)),
    Case("gather_columns", (("N", 4),), gather([3, 1, 1], axis=1)),
    Case("gather_one", (("N", 4, 2),), gather(2, axis=-2)),
    Case("reduce_sum", (IMAGE,), integers_last("ReduceSum", [1, -1])),
    Case("reduce_sum_squeezed", (IMAGE,), integers_last("ReduceSum", [0, 2], keepdims=0)),
    Case("reduce_sum_all", (BATCH,), unary("ReduceSum", keepdims=0)),
    Case("reduce_sum_none", (BATCH,), unary("ReduceSum", noop_with_empty_axes=1)),
    Case("reduce_mean", (IMAGE,), integers_last("ReduceMean", [0, 1], keepdims=0)),
    Case("reduce_mean_all", (BATCH,), unary("ReduceMean")),
    Case("softmax", (BATCH,), unary("Softmax")),
    Case("softmax_axis", (("N", 3, 2),), unary("Softmax", axis=1)),
    Case("log_softmax", (BATCH,), unary("LogSoftmax")),
    Case("log_softmax_axis", (("N", 3, 2),), unary("LogSoftmax", axis=-2)),
    Case("sum", (BATCH, (4,), ("N", 1)), lambda g, *x: g.emit("Sum", *x)),
    Case("mean", (BATCH, (4,), ("N", 1)), lambda g, *x: g.emit("Mean", *x), single=True),
    Case("max", (BATCH, (4,), BATCH), lambda g, *x: g.emit("Max", *x)),
    Case("min", (BATCH, (4,)), binary("Min")),
    Case("max_equal", (BATCH,), lambda g, x: g.emit("Max", x, g.emit("Identity", x))),
    Case("rounded", (BATCH,), lambda g, x: g.emit("Add", x, rounded(g, x))),
    Case("reciprocal", (BATCH,), unary("Reciprocal"), low=0.5, high=2),
    Case("sin", (BATCH,), unary("Sin")),
    Case("cos", (BATCH,), unary("Cos")),
    Case("cast_like", (BATCH,), lambda g, x: g.emit("CastLike", x, g.constant(np.float64(0)))),
    Case("dropout", (BATCH,), lambda g, x: g.emit("Dropout", x, g.constant(np.float32(0.3)), g.constant(np.False_))),
    Case("elu", (BATCH,), unary("Elu", alpha=0.7), single=True),
    Case("selu", (BATCH,), unary("Selu"), single=True),
    Case("celu", (BATCH,), unary("Celu", alpha=0.7), single=True),
    Case("hard_sigmoid", (BATCH,), unary("HardSigmoid", alpha=0.5, beta=0.75), single=True, distinct=True),
    Case("hard_swish", (BATCH,), unary("HardSwish"), single=True, low=-5, high=5),
    Case("gelu", (BATCH,), unary("Gelu"), single=True),
    Case("gelu_tanh", (BATCH,), unary("Gelu", approximate="tanh"), single=True),
    Case("erf", (BATCH,), unary("Erf"), single=True),
    Case("softplus", (BATCH,), unary("Softplus"), single=True),
    Case("softsign", (BATCH,), unary("Softsign"), single=True),
    Case("mish", (BATCH,), unary("Mish"), single=True),
    Case("prelu", (IMAGE, (2, 1, 1)), binary("PRelu"), single=True),
    Case("reduce_l1", (IMAGE,), integers_last("ReduceL1", [1, -1])),
    Case("reduce_l2", (IMAGE,), integers_last("ReduceL2", [1, 2], keepdims=0), single=True),
    Case("reduce_sum_square", (IMAGE,), integers_last("ReduceSumSquare", [0], keepdims=0)),
    Case("reduce_log_sum", (IMAGE,), integers_last("ReduceLogSum", [3]), single=True, low=0.5, high=2),
    Case("reduce_log_sum_exp", (IMAGE,), integers_last("ReduceLogSumExp", [-1], keepdims=0)),
    Case("reduce_max", (IMAGE,), integers_last("ReduceMax", [1, 2], keepdims=0), distinct=True),
    Case("reduce_min", (IMAGE,), integers_last("ReduceMin", [3]), distinct=True),
    Case("reduce_max_attribute", (BATCH,), unary("ReduceMax", axes=[1]), distinct=True, opset=16),
    Case("reduce_prod", (BATCH,), integers_last("ReduceProd", [1]), single=True),
    Case(
        "reverse_sequence", ((5, 3, 2),), indexed("ReverseSequence", [1, 3, 5], time_axis=0, batch_axis=1), sizes=({},)
    ),
    Case("reverse_sequence_batch_first", ((2, 4),), indexed("ReverseSequence", [4, 2], time_axis=1, batch_axis=0)),
    Case("cum_sum", (BATCH,), lambda g, x: g.emit("CumSum", x, g.constant(np.asarray(1)))),
    Case(
        "cum_sum_back", (BATCH,), lambda g, x: g.emit("CumSum", x, g.constant(np.asarray(-1)), exclusive=1, reverse=1)
    ),
    Case("global_max_pool", (IMAGE,), unary("GlobalMaxPool"), single=True, distinct=True),
    Case(
        "average_pool_ceil",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[2, 3], strides=[2, 3], pads=[1, 0, 0, 0], ceil_mode=1),
        single=True,
    ),
    Case(
        "average_pool_ceil_count_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
        single=True,
    ),
    Case(
        "batch_normalization",
        (IMAGE, (2,), (2,)),
        lambda g, *x: g.emit("BatchNormalization", *x, *statistics(g, x[0]), epsilon=0.01),
        single=True,
    ),
    Case(
        "batch_normalization_trained",
        (IMAGE, (2,), (2,), (2,), (2,)),
        lambda g, *x: g.emit("BatchNormalization", *x, epsilon=0.01, momentum=0.8),
        buffers=2,
    ),
    Case(
        "batch_normalization_trained_flat",
        (BATCH, (4,), (4,), (4,), (4,)),
        lambda g, *x: g.emit("BatchNormalization", *x, epsilon=0.3),
        single=True,
        buffers=2,
        opset=17,
    ),
    Case("layer_normalization", (IMAGE, (6, 7), (6, 7)), lambda g, *x: g.emit("LayerNormalization", *x, axis=2)),
    Case("layer_normalization_single", (IMAGE, (7,)), binary("LayerNormalization", epsilon=0.01), single=True),
    Case("instance_normalization", (IMAGE, (2,), (2,)), lambda g, *x: g.emit("InstanceNormalization", *x), single=True),
    Case(
        "group_normalization",
        (("N", 6, 3, 2), (6,), (6,)),
        lambda g, *x: g.emit("GroupNormalization", *x, num_groups=3),
        single=True,
    ),
    Case("gather_elements", (BATCH,), indexed("GatherElements", [[3, 0, 3], [1, -1, 2]], axis=1)),
    Case("gather_nd", (IMAGE,), indexed("GatherND", [[[1, 1], [0, -1]], [[1, 1], [0, 0]]])),
    Case("gather_nd_batch", (("N", 4, 2),), indexed("GatherND", [[[3], [0]]] * 2, batch_dims=1), sizes=({"N": 2},)),
    Case("scatter_nd", ((5, 3), (2, 3)), indexed("ScatterND", [[4], [1]])),
    Case("scatter_nd_add", ((5, 3), (2, 3)), indexed("ScatterND", [[4], [4]], reduction="add")),
    Case("scatter_elements", (BATCH, (2, 2)), indexed("ScatterElements", [[3, 0], [1, -1]], axis=1)),
    Case(
        "scatter_elements_add", (BATCH, (2, 2)), indexed("ScatterElements", [[3, 3], [1, -1]], axis=1, reduction="add")
    ),
    Case("top_k", (IMAGE,), lambda g, x: node(g, "TopK", [x, g.integers(3)], 2, axis=2)[0], distinct=True),
    Case("tile", (("N", 3),), integers_last("Tile", [2, 3])),
    Case("trilu", (IMAGE,), lambda g, x: g.emit("Trilu", x, g.constant(np.asarray(1)), upper=0)),
    Case("depth_to_space", (("N", 8, 2, 3),), unary("DepthToSpace", blocksize=2)),
    Case("depth_to_space_crd", (("N", 8, 2, 3),), unary("DepthToSpace", blocksize=2, mode="CRD")),
    Case("space_to_depth", (("N", 2, 4, 6),), unary("SpaceToDepth", blocksize=2)),
    Case("resize", (IMAGE,), resize(2, 3), single=True),
    Case("resize_smaller", (IMAGE,), resize(0.5, 1), single=True),
    Case("einsum_attention", (("N", 2, 5, 3), ("N", 2, 4, 3)), binary("Einsum", equation="bhqd,bhkd->bhqk")),
    Case("einsum_three", (("N", 2), (2, 3), (3, 4)), lambda g, *x: g.emit("Einsum", *x, equation="ni,ij,jk->nk")),
    Case("einsum_implicit", (("N", 2), (2, 3)), binary("Einsum", equation="zi, ij")),
    Case("einsum_summed", (("N", 2), (2, 3)), binary("Einsum", equation="ni,ij->n")),
    Case("lstm", recurrent_shapes(4, states=2), recurrent("LSTM", hidden_size=2), single=True),
    Case("lstm_plain", recurrent_shapes(4, bias=False), recurrent("LSTM", hidden_size=2), single=True),
    Case(
        "lstm_both",
        recurrent_shapes(4, 2, states=2),
        recurrent("LSTM", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
    Case("lstm_last", recurrent_shapes(4), recurrent("LSTM", 1, hidden_size=2), single=True),
    Case(
        "lstm_cell_reverse",
        recurrent_shapes(4, states=2),
        recurrent("LSTM", 2, hidden_size=2, direction="reverse"),
        single=True,
    ),
    Case("gru", recurrent_shapes(3, states=1), recurrent("GRU", hidden_size=2), single=True),
    Case("gru_plain", recurrent_shapes(3, bias=False), recurrent("GRU", hidden_size=2), single=True),
    Case(
        "gru_both",
        recurrent_shapes(3, 2, states=1),
        recurrent("GRU", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
    Case(
        "gru_after", recurrent_shapes(3, states=1), recurrent("GRU", hidden_size=2, linear_before_reset=1), single=True
    ),
    Case(
        "gru_after_both",
        recurrent_shapes(3, 2),
        recurrent("GRU", hidden_size=2, linear_before_reset=1, direction="bidirectional"),
        single=True,
    ),
    Case("gru_last", recurrent_shapes(3), recurrent("GRU", 1, hidden_size=2, linear_before_reset=1), single=True),
    Case(
        "rnn_both",
        recurrent_shapes(1, 2, states=1),
        recurrent("RNN", hidden_size=2, direction="bidirectional"),
        single=True,
    ),
]
