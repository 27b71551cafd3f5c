"""What a network of one's own may see of a dataset version, as it is given: standardised, encoded, batch first.

Needs neither `onnx` nor `onnxruntime`, so that the API can tell it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shoal_core.graphs.signature import NetworkSignature

# What an input may be called; whoever has one input may call it as they like.
IMAGE = "image"
ROWS = "rows"
NUMBERS = "numbers"
CATEGORIES = "categories"
TOKENS = "tokens"
MASK = "mask"
SEQUENCE = "sequence"


@dataclass(frozen=True)
class Given:
    """A tensor that a network may take.

    Attributes:
        name: What it is called.
        datatype: `FP32` or `INT64`; a network that takes another type gets it cast.
        shape: Of one sample.
        meaning: In words.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    meaning: str

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} [N, {', '.join(map(str, self.shape))}] ({self.meaning})"


def given_inputs(signature: NetworkSignature) -> tuple[Given, ...]:
    """What a network may take of a dataset version. One with a single input gets the first; others go by names."""
    if signature.image is not None:
        return (Given(IMAGE, "FP32", signature.image.shape, "pixels, each channel standardised"),)
    if signature.sequence is not None:
        window = signature.sequence
        width = window.columns + sum(window.missing) + sum(window.cardinalities)
        meaning = _encoding(window.columns, sum(window.missing), len(window.cardinalities), "of each step")
        return (Given(SEQUENCE, "FP32", (window.steps, width), meaning),)
    return _table_inputs(signature)


def _table_inputs(signature: NetworkSignature) -> tuple[Given, ...]:
    """Of a table: all of it as one matrix where it has no texts, and its parts."""
    columns = missing = 0
    sizes: tuple[int, ...] = ()
    found = []
    if signature.numbers is not None:
        columns, missing = len(signature.numbers.mean), sum(signature.numbers.missing)
        found.append(Given(NUMBERS, "FP32", (columns + missing,), _encoding(columns, missing, 0, "of a row")))
    if signature.categories is not None:
        sizes = signature.categories.cardinalities
        told = f"codes below {', '.join(map(str, sizes))}; 0 is missing or unknown"
        found.append(Given(CATEGORIES, "INT64", (len(sizes),), told))
    if signature.tokens is None:
        width = columns + missing + sum(sizes)
        return (Given(ROWS, "FP32", (width,), _encoding(columns, missing, len(sizes), "of a row")), *found)
    tokens = signature.tokens
    ids = ", ".join(str(column.cardinality) for column in tokens.columns)
    told = f"ids below {ids}; 0 is padding, 1 an unknown token"
    mask = Given(MASK, "FP32", (tokens.length,), "1 for a token, 0 for padding")
    return (Given(TOKENS, "INT64", (tokens.length,), told), *found, mask)


def _encoding(numbers: int, missing: int, categories: int, whose: str) -> str:
    parts = [f"{numbers} numbers {whose}, standardised"] if numbers else []
    parts += [f"{missing} of 1 or 0 for a missing one"] if missing else []
    parts += [f"{categories} categories {whose} as one-hot"] if categories else []
    return ", then ".join(parts)
