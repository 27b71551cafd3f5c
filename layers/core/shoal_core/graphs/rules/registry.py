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
    lstm,
    normalization,
    pooling,
    ranges,
    recurrent,
    reduction,
    resizing,
    shape,
    softmax,
    transposed,
)
from shoal_core.graphs.rules.rule import Rule

FAMILIES: Mapping[str, Mapping[str, Rule]] = {
    "Element by element": elementwise.RULES,
    "Activations": activations.RULES,
    "Matrix products": linear.RULES,
    "Convolution": {**convolution.RULES, **transposed.RULES},
    "Pooling": pooling.RULES,
    "Normalisation": {**normalization.RULES, **ranges.RULES},
    "Softmax": softmax.RULES,
    "Recurrence": {**recurrent.RULES, **lstm.RULES},
    "Reductions": reduction.RULES,
    "Shapes": shape.RULES,
    "Indices and rearrangement": {**indexing.RULES, **resizing.RULES},
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
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Ceil",
        "Constant",
        "ConstantOfShape",
        "Equal",
        "EyeLike",
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

# What can't be in a trainable network, on whichever path, and why.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan"), "is control flow with graphs of its own"),
    **dict.fromkeys(
        (
            "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
            "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap",
            "SplitToSequence",
        ),
        "works on a sequence of tensors, not on one",
    ),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        "draws random numbers, so no two runs would train alike",
    ),
}  # fmt: skip


def supported_operators() -> tuple[str, ...]:
    """Every operator that a trainable network may use, sorted."""
    return tuple(sorted({*RULES, *WITHOUT_GRADIENT}))
