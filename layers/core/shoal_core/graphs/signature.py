"""What a network sees and what it answers: the shapes and statistics that a recipe builds its graph from.

Needs neither `onnx` nor `onnxruntime`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

MIN_IMAGE_SIDE = 4

Deviation = Annotated[FiniteFloat, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageInput(_Record):
    """`image` uint8 [N, channels, height, width].

    Attributes:
        shape: (channels, height, width).
        mean: Per channel, in units of 0..255.
        std: Per channel, in units of 0..255; 0 counts as 1.
    """

    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Deviation, ...]

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError("mean and std must have one entry per channel")
        return self


class NumbersInput(_Record):
    """`numbers` float32 [N, columns], NaN where a value is missing.

    Attributes:
        mean: Per column, of the values that are there.
        std: Per column; 0 counts as 1.
        missing: Per column, whether training data had missing values.
    """

    mean: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    std: tuple[Deviation, ...]
    missing: tuple[bool, ...]

    @model_validator(mode="after")
    def _one_per_column(self) -> Self:
        if not len(self.mean) == len(self.std) == len(self.missing):
            raise ValueError("mean, std and missing must have one entry per column")
        return self


class CategoriesInput(_Record):
    """`categories` int64 [N, columns]; code 0 is missing or unknown.

    Attributes:
        cardinalities: Per column, the number of codes, code 0 included.
    """

    cardinalities: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Classification(_Record):
    """One of `classes` classes."""

    kind: Literal["classification"] = "classification"
    classes: Annotated[int, Field(ge=2)]


class Regression(_Record):
    """One number; mean and standard deviation of the training targets, in original units (a std of 0 counts as 1)."""

    kind: Literal["regression"] = "regression"
    mean: FiniteFloat = 0.0
    std: Deviation = 1.0


Task = Annotated[Classification | Regression, Field(discriminator="kind")]


class NetworkSignature(_Record):
    """Inputs and task of a network: an image, or numbers and/or categories."""

    schema_version: Literal[1] = 1
    image: ImageInput | None = None
    numbers: NumbersInput | None = None
    categories: CategoriesInput | None = None
    task: Task

    @model_validator(mode="after")
    def _image_or_table(self) -> Self:
        table = self.numbers is not None or self.categories is not None
        if (self.image is not None) == table:
            raise ValueError("a network takes either an image, or numbers and/or categories")
        return self

    @property
    def outputs(self) -> int:
        """Width of the network's last layer."""
        return self.task.classes if isinstance(self.task, Classification) else 1
