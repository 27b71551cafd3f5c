"""What a network sees and what it answers: the shapes and statistics that a recipe builds its graph from.

Needs neither `onnx` nor `onnxruntime`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from shoal_core.frozen import Frozen

MIN_IMAGE_SIDE = 4

Deviation = Annotated[FiniteFloat, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Bounds = tuple[FiniteFloat, FiniteFloat]


class ImageInput(Frozen):
    """`image` uint8 [N, channels, height, width].

    Attributes:
        shape: (channels, height, width).
        mean: Per channel, in units of 0..255.
        std: Per channel, in units of 0..255; 0 counts as 1.
    """

    shape: tuple[Size, Size, Size]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Deviation, ...]

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError("mean and std must have one entry per channel")
        return self


class _Columns(Frozen):
    """Columns of numbers, NaN where a value is missing.

    A missing value becomes the column's fill, then values are clipped to its bounds, then standardised.

    Attributes:
        mean: Per column, of the values that are there.
        std: Per column; 0 counts as 1.
        missing: Per column, whether training data had missing values.
        fill: Per column, what a missing value becomes; None is the mean. Empty is None for all.
        bounds: Per column (low, high), or None to leave it. Empty is None for all.
    """

    mean: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    std: tuple[Deviation, ...]
    missing: tuple[bool, ...]
    fill: tuple[FiniteFloat | None, ...] = ()
    bounds: tuple[Bounds | None, ...] = ()

    @model_validator(mode="after")
    def _one_per_column(self) -> Self:
        columns = len(self.mean)
        if not columns == len(self.std) == len(self.missing):
            raise ValueError("mean, std and missing must have one entry per column")
        if any(values and len(values) != columns for values in (self.fill, self.bounds)):
            raise ValueError("fill and bounds must have one entry per column, or none")
        if any(pair is not None and pair[0] > pair[1] for pair in self.bounds):
            raise ValueError("a low bound is above its high one")
        return self


class NumbersInput(_Columns):
    """`numbers` float32 [N, columns], NaN where a value is missing."""


class SequenceInput(_Columns):
    """`sequence` float32 [N, steps, columns], NaN where a value is missing; `categories` int64 [N, steps, columns].

    Attributes:
        steps: Rows of a window.
        cardinalities: Per column of categories, the number of codes; code 0 is missing or unknown.
    """

    steps: Size
    mean: tuple[FiniteFloat, ...] = ()
    std: tuple[Deviation, ...] = ()
    missing: tuple[bool, ...] = ()
    cardinalities: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _has_a_column(self) -> Self:
        if not self.mean and not self.cardinalities:
            raise ValueError("a sequence has a column of numbers or of categories")
        return self

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return len(self.mean)


class CategoriesInput(Frozen):
    """`categories` int64 [N, columns]; code 0 is missing or unknown.

    Attributes:
        cardinalities: Per column, the number of codes, code 0 included.
    """

    cardinalities: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class TokenColumn(Frozen):
    """One column of texts in `tokens`: `length` ids below `cardinality`; 0 is padding, 1 an unknown token."""

    length: Size
    cardinality: Annotated[int, Field(ge=2)]


class TokensInput(Frozen):
    """`tokens` int32 [N, length]: the columns of texts side by side; padding is at the end of each."""

    columns: Annotated[tuple[TokenColumn, ...], Field(min_length=1)]

    @property
    def length(self) -> int:
        """Width of the tensor."""
        return sum(column.length for column in self.columns)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each column starts."""
        return tuple(sum(column.length for column in self.columns[:index]) for index in range(len(self.columns)))


class FeaturesInput(Frozen):
    """`features` float32 [N, *shape]: what the frozen part of a backbone made of an image or a text."""

    shape: Annotated[tuple[Size, ...], Field(min_length=1)]


class Classification(Frozen):
    """One of `classes` classes."""

    kind: Literal["classification"] = "classification"
    classes: Annotated[int, Field(ge=2)]


class Multilabel(Frozen):
    """Any number of `classes` classes at once."""

    kind: Literal["multilabel"] = "multilabel"
    classes: Annotated[int, Field(ge=1)]


class Regression(Frozen):
    """One number; mean and standard deviation of the training targets, in original units (a std of 0 counts as 1)."""

    kind: Literal["regression"] = "regression"
    mean: FiniteFloat = 0.0
    std: Deviation = 1.0


class Anomaly(Frozen):
    """How unusual a sample is: nothing is predicted of it but itself."""

    kind: Literal["anomaly"] = "anomaly"


Task = Annotated[Classification | Multilabel | Regression | Anomaly, Field(discriminator="kind")]


class NetworkSignature(Frozen):
    """Inputs and task of a network: an image, a sequence, or numbers, categories and tokens of a table.

    `features` take the place of an image, or of a table's tokens.
    """

    schema_version: Literal[1] = 1
    image: ImageInput | None = None
    numbers: NumbersInput | None = None
    categories: CategoriesInput | None = None
    tokens: TokensInput | None = None
    sequence: SequenceInput | None = None
    features: FeaturesInput | None = None
    task: Task

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        table = any(part is not None for part in (self.numbers, self.categories, self.tokens, self.features))
        if sum((self.image is not None, self.sequence is not None, table)) != 1:
            raise ValueError("a network takes either an image, a sequence, or a table's numbers, categories and tokens")
        return self

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""
        return 1 if isinstance(self.task, Regression | Anomaly) else self.task.classes
