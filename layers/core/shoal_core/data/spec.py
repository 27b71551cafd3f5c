"""The preprocessing spec: the only thing that turns raw input into tensors, in training and in serving alike.

Tensors: `image` uint8 [N,C,H,W]; `numbers` float32 [N,F] with NaN for missing; `categories` int64 [N,K] with code 0
for missing or unknown; `tokens` int32 [N,L]; `sequence` float32 [N,T,F]; `target` int64 [N] (class index), uint8
[N,classes] (multilabel) or float32 [N]. Numeric normalisation, imputation, clipping and one-hot are part of the ONNX
graph, so they aren't here.
"""

from __future__ import annotations

import difflib
import functools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal_core.data.canonical import canonical_json
from shoal_core.data.cleaning_config import ImageFit, TokenUnit
from shoal_core.data.config_types import Task
from shoal_core.data.values import ValueKind, parse_number, parse_text
from shoal_core.errors import BadImage, BadInput, BadTable

Row = Mapping[str, object]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageInput(_Model):
    """Images as uint8 [channels, height, width]: 1 channel is grey; 3 are of `color` (RGB, HSV or YCbCr).

    `fit` and `crop` as in `cleaning_config.ImageConfig`.
    """

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3]
    color: Literal["rgb", "hsv", "ycbcr"] = "rgb"
    fit: ImageFit = "stretch"
    crop: float = Field(default=1.0, gt=0, le=1)


class NumberColumn(_Model):
    """A column of `numbers`."""

    name: str


class CategoryColumn(_Model):
    """A column of `categories`: `categories[i]` has code i + 1; missing is 0.

    Any other value has code 0 as well, or with `buckets` one of that many further codes, by its hash.
    """

    name: str
    categories: tuple[str, ...]
    kind: ValueKind = "text"
    buckets: int = Field(default=0, ge=0)

    @property
    def cardinality(self) -> int:
        """Number of codes, the 0 for missing and unknown included."""
        return len(self.categories) + 1 + self.buckets


DateFeature = Literal["elapsed", "hour", "weekday", "day", "month"]


class DateColumn(_Model):
    """A column of dates or times, which becomes numbers: `elapsed` days since 1970 (UTC), sine and cosine of the rest.

    `unit` is how a bare number counts from 1970; None when values are ISO 8601 texts.
    """

    name: str
    features: tuple[DateFeature, ...]
    unit: Literal["s", "ms", "us", "ns"] | None = None

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the numbers that it gives, in order."""
        waves = (f"{feature}_{wave}" for feature in self.features if feature != "elapsed" for wave in ("sin", "cos"))
        elapsed = ("elapsed",) if "elapsed" in self.features else ()
        return tuple(f"{self.name}.{name}" for name in (*elapsed, *waves))


class TextColumn(_Model):
    """A column of texts: `length` ids of `tokens`; 0 is padding, 1 an unknown token, then come the vocabulary's.

    With `buckets` there is no vocabulary: tokens (and n-grams of up to `ngrams` of them) are hashed into that many ids.
    """

    name: str
    length: int = Field(ge=1)
    unit: TokenUnit = "word"
    lowercase: bool = True
    normalization: Literal["NFC", "NFKC"] = "NFKC"
    vocabulary: tuple[str, ...] = ()
    buckets: int = Field(default=0, ge=0)
    ngrams: int = Field(default=1, ge=1)

    @property
    def cardinality(self) -> int:
        """Number of ids, padding and unknown included."""
        return 2 + (self.buckets or len(self.vocabulary))


class TableInput(_Model):
    """Columns of a table. `ignored` ones were in the training data but carry nothing; a request may have them."""

    numbers: tuple[NumberColumn, ...] = ()
    dates: tuple[DateColumn, ...] = ()
    categories: tuple[CategoryColumn, ...] = ()
    texts: tuple[TextColumn, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are read: numbers, dates, categories, texts."""
        columns: tuple[NumberColumn | DateColumn | CategoryColumn | TextColumn, ...]
        columns = (*self.numbers, *self.dates, *self.categories, *self.texts)
        return tuple(column.name for column in columns)

    @property
    def number_names(self) -> tuple[str, ...]:
        """What the columns of the tensor `numbers` are: number columns, then what dates give."""
        plain = tuple(column.name for column in self.numbers)
        return (*plain, *(name for column in self.dates for name in column.number_names))


class SequenceInput(_Model):
    """Windows of rows: `sequence` float32 [window, columns] of one `id` (None: one series) in the order of `time`.

    `stride` and `horizon` as in `cleaning_config.SequenceConfig`; NaN is a missing number.
    """

    time: str
    id: str | None = None
    window: int = Field(ge=2)
    stride: int = Field(default=1, ge=1)
    horizon: int = Field(default=0, ge=0)
    numbers: tuple[NumberColumn, ...]
    ignored: tuple[str, ...] = ()

    @property
    def number_names(self) -> tuple[str, ...]:
        """What the columns of a window are."""
        return tuple(column.name for column in self.numbers)


class TargetSpec(_Model):
    """What is predicted: `column` is None where the class is the folder; `classes` in natural order.

    `separator` parts the labels of one cell (multilabel).
    """

    task: Task
    column: str | None = None
    classes: tuple[str, ...] = ()
    kind: ValueKind = "text"
    separator: str | None = None


class PreprocessingSpec(_Model):
    """One versioned description of how raw input becomes tensors.

    A set of texts by folder is a table whose one column is called `text`.
    """

    schema_version: Literal[1] = 1
    kind: Literal["image", "table", "sequence"]
    image: ImageInput | None = None
    table: TableInput | None = None
    sequence: SequenceInput | None = None
    target: TargetSpec

    @model_validator(mode="after")
    def _has_its_input(self) -> PreprocessingSpec:
        if any((getattr(self, kind) is not None) != (self.kind == kind) for kind in ("image", "table", "sequence")):
            raise ValueError(f"a spec of kind {self.kind!r} has exactly the input of that kind")
        return self

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Input tensors without the batch dimension.

        {"image": (C,H,W)}, {"sequence": (T,F)}, or those that the table has of {"numbers": (F,), "categories": (K,),
        "tokens": (L,)}, L being the lengths of all text columns together.
        """
        if self.image:
            return {"image": (self.image.channels, self.image.height, self.image.width)}
        if self.sequence:
            return {"sequence": (self.sequence.window, len(self.sequence.numbers))}
        table = self._table()
        shapes = {
            "numbers": (len(table.number_names),),
            "categories": (len(table.categories),),
            "tokens": (sum(column.length for column in table.texts),),
        }
        return {name: shape for name, shape in shapes.items() if shape[0]}

    def encode_image(self, data: bytes, name: str = "The image") -> NDArray[np.uint8]:
        """Decode and resize one image file to uint8 [C,H,W].

        Raises:
            BadImage: The bytes don't decode, or the model doesn't take images.
        """
        if self.image is None:
            raise BadImage("The model takes table rows, not images.", f"Send rows with {self._column_list()}.")
        # Pillow is loaded only where images are.
        from shoal_core.data.images.decoding import decode_image

        return decode_image(data, self.image.height, self.image.width, self.image.channels, name)

    def encode_rows(self, rows: Sequence[Row], first_row: int = 1) -> dict[str, NDArray[Any]]:
        """Encode table rows; JSON values and CSV texts of the same meaning give identical tensors.

        Columns absent from a row are missing values; the target and ignored columns may be there and aren't read.

        Args:
            rows: Column -> value, per row.
            first_row: Number of the first row in error messages.

        Returns:
            `numbers` float32 [N,F] and `categories` int64 [N,K], those that the spec has.

        Raises:
            BadTable: An unknown column, or a value that its column can't hold (column, row and value are named).
        """
        table = self._table()
        known = self._known_columns
        for position, row in enumerate(rows):
            if not row.keys() <= known:
                self._refuse_unknown(row, first_row + position)
        tensors: dict[str, NDArray[Any]] = {}
        if table.numbers:
            numbers = np.empty((len(rows), len(table.numbers)), np.float32)
            for index, column in enumerate(table.numbers):
                numbers[:, index] = _number_values(rows, column.name, first_row)
            tensors["numbers"] = numbers
        if table.categories:
            codes = np.zeros((len(rows), len(table.categories)), np.int64)
            for index, category in enumerate(table.categories):
                codes[:, index] = self._category_codes(rows, category, first_row)
            tensors["categories"] = codes
        return tensors

    def encode_target(self, values: Sequence[object], first_row: int = 1) -> NDArray[Any]:
        """Encode targets: int64 [N] class indices, or float32 [N] for regression.

        Raises:
            BadTable: A missing target, an unknown class, or a text where a number is due.
        """
        column = self.target.column or "class"
        if self.target.task == "regression":
            encoded: list[float] = []
            for row, value in enumerate(values, first_row):
                try:
                    number = parse_number(value)
                except ValueError as error:
                    raise _bad_cell(column, row, value, str(error), "Correct the value or remove the row.") from error
                if number is None:
                    raise BadTable(f"Row {row}: the target {column!r} is missing.", "Fill it in or remove the row.")
                encoded.append(number)
            return np.array(encoded, np.float32)
        codes = _codes(self.target.classes, 0)
        indices: list[int] = []
        for row, value in enumerate(values, first_row):
            try:
                # A class folder may be called `NA`; a cell with that text is missing.
                text = parse_text(value, self.target.kind) if self.target.column else str(value)
            except ValueError as error:
                raise _bad_cell(column, row, value, str(error), "Correct the value or remove the row.") from error
            if text is None:
                raise BadTable(f"Row {row}: the target {column!r} is missing.", "Fill it in or remove the row.")
            if text not in codes:
                raise _bad_cell(column, row, value, "it isn't one of the classes", f"Use one of {self._class_list()}.")
            indices.append(codes[text])
        return np.array(indices, np.int64)

    def encode(self) -> bytes:
        """The canonical bytes of `spec.json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> PreprocessingSpec:
        """Read `spec.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The preprocessing spec can't be read: {error}.", "Train the model again.") from error

    def _table(self) -> TableInput:
        if self.table is None:
            raise BadTable("The model takes images, not table rows.", "Send the bytes of an image file.")
        return self.table

    @property
    def _known_columns(self) -> frozenset[str]:
        target = (self.target.column,) if self.target.column else ()
        return frozenset((*self._table().names, *self._table().ignored, *target))

    def _category_codes(self, rows: Sequence[Row], column: CategoryColumn, first_row: int) -> list[int]:
        codes = _codes(column.categories, 1)
        found: list[int] = []
        for position, row in enumerate(rows):
            value = row.get(column.name)
            try:
                text = parse_text(value, column.kind)
            except ValueError as error:
                fix = "Correct the value or leave it out."
                raise _bad_cell(column.name, first_row + position, value, str(error), fix) from error
            found.append(0 if text is None else codes.get(text, 0))
        return found

    def _refuse_unknown(self, row: Row, number: int) -> None:
        unknown = sorted(str(name) for name in row.keys() - self._known_columns)
        near = difflib.get_close_matches(unknown[0], self._known_columns, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(repr(name) for name in unknown[:5])
        raise BadTable(f"Row {number} has unknown columns: {shown}.", f"{hint}Known columns: {self._column_list()}.")

    def _column_list(self) -> str:
        return _shorten(self._table().names)

    def _class_list(self) -> str:
        return _shorten(self.target.classes)


@functools.lru_cache(maxsize=256)
def _codes(texts: tuple[str, ...], first: int) -> Mapping[str, int]:
    """Text -> code. Cached outside the model, since pydantic copies cached properties along with changed fields."""
    return {text: code for code, text in enumerate(texts, first)}


def _number_values(rows: Sequence[Row], column: str, first_row: int) -> list[float]:
    numbers: list[float] = []
    for position, row in enumerate(rows):
        value = row.get(column)
        try:
            number = parse_number(value)
        except ValueError as error:
            fix = "Send a number, or leave the column out where the value is missing."
            raise _bad_cell(column, first_row + position, value, str(error), fix) from error
        numbers.append(np.nan if number is None else number)
    return numbers


def _bad_cell(column: str, row: int, value: object, reason: str, fix: str) -> BadTable:
    return BadTable(f"Row {row}, column {column!r}: {reprlib.repr(value)}: {reason}.", fix)


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
