"""All gradient rules by operator. To support an operator, add it to its family's `RULES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import NodeProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules import (
    activations,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    recurrent,
    reduction,
    shape,
    softmax,
)
from shoal_core.graphs.rules.rule import Rule

FAMILIES: Mapping[str, Mapping[str, Rule]] = {
    "Element by element": elementwise.RULES,
    "Activations": activations.RULES,
    "Matrix products": linear.RULES,
    "Convolution": convolution.RULES,
    "Pooling": pooling.RULES,
    "Normalisation": normalization.RULES,
    "Softmax": softmax.RULES,
    "Recurrence": recurrent.RULES,
    "Reductions": reduction.RULES,
    "Shapes": shape.RULES,
    "Indices and rearrangement": indexing.RULES,
}

RULES: Mapping[str, Rule] = {operator: rule for rules in FAMILIES.values() for operator, rule in rules.items()}

# What a gradient needs from the forward pass that the network itself doesn't keep.
PREPARATIONS: Mapping[str, Callable[[GraphBuilder, NodeProto], None]] = {
    "GRU": recurrent.keep_states,
    "LSTM": recurrent.keep_states,
    "LayerNormalization": normalization.keep_statistics,
    "MaxPool": pooling.keep_indices,
    "RNN": recurrent.keep_states,
}

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
