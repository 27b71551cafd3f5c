"""Element by element, and activations."""

from __future__ import annotations

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from tests.unit.graphs.cases.case import BATCH, IMAGE, Case, binary, unary


def rounded(g: GraphBuilder, x: str) -> str:
    """Piecewise constant functions: they have no slope."""
    scaled = g.emit("Mul", x, g.scalar(3, x))
    return g.emit("Sum", *(g.emit(operator, scaled) for operator in ("Floor", "Ceil", "Round", "Sign")))


def remainder(g: GraphBuilder, a: str, b: str) -> str:
    """Of numbers up to 5.5 by numbers from 1.4 to 3.6: a divisor near 0 would jump within any step."""
    scaled, divisor = g.emit("Mul", a, g.scalar(5, a)), g.emit("Add", b, g.scalar(2.5, b))
    return g.emit("Mod", scaled, divisor, fmod=1)


CASES = [
    Case("abs", (BATCH,), unary("Abs")),
    Case("neg", (BATCH,), unary("Neg")),
    Case("sqrt", (BATCH,), unary("Sqrt"), low=0.5, high=2),
    Case("exp", (BATCH,), unary("Exp")),
    Case("log", (BATCH,), unary("Log"), low=0.5, high=2),
    Case("tanh", (BATCH,), unary("Tanh")),
    Case("sigmoid", (BATCH,), unary("Sigmoid")),
    Case("relu", (BATCH,), unary("Relu")),
    Case("relu_single", (BATCH,), unary("Relu"), single=True),
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
    Case("sinh", (BATCH,), unary("Sinh"), single=True),
    Case("cosh", (BATCH,), unary("Cosh"), single=True),
    Case("tan", (BATCH,), unary("Tan"), single=True),
    Case("asin", (BATCH,), unary("Asin"), single=True, low=-0.4, high=0.4),
    Case("acos", (BATCH,), unary("Acos"), single=True, low=-0.4, high=0.4),
    Case("atan", (BATCH,), unary("Atan"), single=True),
    Case("asinh", (BATCH,), unary("Asinh"), single=True),
    Case("atanh", (BATCH,), unary("Atanh"), single=True, low=-0.4, high=0.4),
    Case("acosh", (BATCH,), unary("Acosh"), single=True, low=1.5, high=3),
    Case("mod", (BATCH, (4,)), remainder),
    Case("thresholded_relu", (BATCH,), unary("ThresholdedRelu", alpha=0.3), single=True, distinct=True),
    Case("shrink", (BATCH,), unary("Shrink", lambd=0.25, bias=0.2), single=True, distinct=True),
]
