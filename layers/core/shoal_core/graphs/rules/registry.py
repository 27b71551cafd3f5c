"""All gradient rules by operator. To support an operator, add it to its family's `RULES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import NodeProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules import convolution, elementwise, linear, pooling, reduction, shape, softmax
from shoal_core.graphs.rules.rule import Rule

_FAMILIES = (elementwise, shape, linear, convolution, pooling, reduction, softmax)

RULES: Mapping[str, Rule] = {operator: rule for family in _FAMILIES for operator, rule in family.RULES.items()}

# What a gradient needs from the forward pass that the network itself doesn't keep.
PREPARATIONS: Mapping[str, Callable[[GraphBuilder, NodeProto], None]] = {"MaxPool": pooling.keep_indices}

# Piecewise constant or not about values at all: nothing flows back, and that is right.
WITHOUT_GRADIENT = frozenset(
    {
        "And",
        "ArgMax",
        "ArgMin",
        "Ceil",
        "Constant",
        "ConstantOfShape",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "Range",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    }
)


def supported_operators() -> tuple[str, ...]:
    """Every operator that a trainable network may use, sorted."""
    return tuple(sorted({*RULES, *WITHOUT_GRADIENT}))
