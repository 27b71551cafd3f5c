"""The preprocessing spec: the only thing that turns raw input into tensors, in training and in serving alike.

Tensors: `image` uint8 [N,C,H,W]; `numbers` float32 [N,F] with NaN for missing; `categories` int64 [N,K] (of windows
[N,T,K]) with code 0 for missing or unknown; `tokens` int32 [N,L]; `sequence` float32 [N,T,F]; `target` int64 [N] (class
index), uint8 [N,classes] (multilabel) or float32 [N]. Numeric normalisation, imputation, clipping and one-hot are part
of the ONNX graph, so they aren't here.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import ImageFit, Task, TokenUnit
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.columns import Encoded, Problem, columns_of_rows, encode_columns
from shoal_core.data.tables.targets import describe_problem, encode_targets, raise_problem, shorten
from shoal_core.data.values import ValueKind
from shoal_core.errors import BadImage, BadInput, BadRequest, BadTable
from shoal_core.frozen import Frozen

Row = Mapping[str, object]
MAX_SHOWN_CHARACTERS = 200
"""Of a column's name that a request made up, in a message."""


@functools.lru_cache(maxsize=256)
def class_codes(texts: tuple[str, ...], first: int) -> Mapping[str, int]:
    """Text -> code. Cached outside the models, since pydantic copies cached properties along with changed fields."""
    return {text: code for code, text in enumerate(texts, first)}


class ImageInput(Frozen):
    """Images as uint8 [channels, height, width]: 1 channel is grey; 3 are of `color` (RGB, HSV or YCbCr).

    `fit` and `crop` as in `cleaning_config.ImageConfig`.
    """

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3]
    color: Literal["rgb", "hsv", "ycbcr"] = "rgb"
    fit: ImageFit = "stretch"
    crop: float = Field(default=1.0, gt=0, le=1)


class NumberColumn(Frozen):
    """A column of `numbers`."""

    name: str


class CategoryColumn(Frozen):
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

    @property
    def codes(self) -> Mapping[str, int]:
        """Text of a category -> its code."""
        return class_codes(self.categories, 1)


DateFeature = Literal["elapsed", "hour", "weekday", "day", "month"]


class DateColumn(Frozen):
    """A column of dates or times, which becomes numbers: `elapsed` days since 1970 (UTC), sine and cosine of the rest.

    `unit` is how a bare number counts from 1970; None when values are texts: ISO 8601, and with `order` also slashed or
    dotted ones such as 31/1/2026, of which it tells what comes first.
    """

    name: str
    features: tuple[DateFeature, ...]
    unit: Literal["s", "ms", "us", "ns"] | None = None
    order: Literal["day", "month"] | None = None

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the numbers that it gives, in order."""
        waves = (f"{feature}_{wave}" for feature in self.features if feature != "elapsed" for wave in ("sin", "cos"))
        elapsed = ("elapsed",) if "elapsed" in self.features else ()
        return tuple(f"{self.name}.{name}" for name in (*elapsed, *waves))


class TextColumn(Frozen):
    """A column of texts: `length` ids of `tokens`; 0 is padding, 1 an unknown token, then come the vocabulary's.

    With `buckets` there is no vocabulary: tokens (and n-grams of up to `ngrams` of them) are hashed into that many ids.
    Word pieces (`texts.wordpiece`) are for encoders that were made elsewhere.
    """

    name: str
    length: int = Field(ge=1)
    unit: TokenUnit | Literal["wordpiece"] = "word"
    lowercase: bool = True
    normalization: Literal["NFC", "NFKC"] = "NFKC"
    vocabulary: tuple[str, ...] = ()
    buckets: int = Field(default=0, ge=0)
    ngrams: int = Field(default=1, ge=1)

    @property
    def cardinality(self) -> int:
        """Number of ids, padding and unknown included."""
        return 2 + (self.buckets or len(self.vocabulary))


class TableInput(Frozen):
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


class SequenceInput(Frozen):
    """Windows of rows of one `id` (None: one series) in the order of `time`.

    Of numbers and booleans there is `sequence` float32 [window, F], where NaN is missing; of categories `categories`
    int64 [window, K]. `stride` and `horizon` as in `cleaning_config.SequenceConfig`.
    """

    time: str
    id: str | None = None
    window: int = Field(ge=2)
    stride: int = Field(default=1, ge=1)
    horizon: int = Field(default=0, ge=0)
    numbers: tuple[NumberColumn, ...] = ()
    categories: tuple[CategoryColumn, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are read: numbers, categories."""
        columns: tuple[NumberColumn | CategoryColumn, ...] = (*self.numbers, *self.categories)
        return tuple(column.name for column in columns)

    @property
    def number_names(self) -> tuple[str, ...]:
        """What the columns of the tensor `sequence` are."""
        return tuple(column.name for column in self.numbers)


class TargetSpec(Frozen):
    """What is predicted: `column` is None where the class is the folder; `classes` in natural order.

    `separator` parts the labels of one cell (multilabel). Of anomalies `classes` are those of `data.anomalies`, and
    `normal` the labels that aren't anomalies; without labels both are empty.
    """

    task: Task
    column: str | None = None
    classes: tuple[str, ...] = ()
    kind: ValueKind = "text"
    separator: str | None = None
    normal: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the target comes from, for people: a column, the folder, or nowhere."""
        return self.column or ("folder" if self.classes or self.task != "anomaly" else "none")


class PreprocessingSpec(Frozen):
    """One versioned description of how raw input becomes tensors.

    A set of texts by folder is a table whose one column is called `text`. A model that was made elsewhere and came
    without a description of its input is of kind `tensors`: it takes what its graph takes, and `target` says nothing.
    """

    schema_version: Literal[1] = 1
    kind: Literal["image", "table", "sequence", "tensors"]
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

        {"image": (C,H,W)}, those that windows have of {"sequence": (T,F), "categories": (T,K)}, or those that the table
        has of {"numbers": (F,), "categories": (K,), "tokens": (L,)}, L being the lengths of all text columns together.
        """
        if self.image:
            return {"image": (self.image.channels, self.image.height, self.image.width)}
        if self.sequence:
            form = self.sequence
            windows = {
                "sequence": (form.window, len(form.numbers)),
                "categories": (form.window, len(form.categories)),
            }
            return {name: shape for name, shape in windows.items() if shape[1]}
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
        self.refuse_tensors()
        if self.image is None:
            raise BadImage("The model takes table rows, not images.", f"Send rows with {self._column_list()}.")
        # Pillow is loaded only where images are.
        from shoal_core.data.images.decoding import decode_image

        return decode_image(data, self.image, name)

    def encode_rows(self, rows: Sequence[Row], first_row: int = 1) -> dict[str, NDArray[Any]]:
        """Encode table rows; JSON values and CSV texts of the same meaning give identical tensors.

        Columns absent from a row are missing values; the target and ignored columns may be there and aren't read.

        Args:
            rows: Column -> value, per row.
            first_row: Number of the first row in error messages.

        Returns:
            `numbers` float32 [N,F], `categories` int64 [N,K] and `tokens` int32 [N,L], those that the spec has.

        Raises:
            BadTable: An unknown column, or a value that its column can't hold (column, row and value are named).
        """
        table = self._table()
        known = self._known_columns
        for position, row in enumerate(rows):
            if not row.keys() <= known:
                raise self._unknown_columns(row, f"Row {first_row + position}")
        encoded = encode_columns(table, columns_of_rows(rows), len(rows))
        if encoded.problems:
            raise_problem(encoded.problems[0], f"Row {first_row + encoded.problems[0].row}")
        return encoded.tensors

    def encode_rows_each(self, rows: Sequence[Row]) -> tuple[dict[str, NDArray[Any]], dict[int, BadTable]]:
        """`encode_rows` of those rows that can be encoded; what is wrong with the others is told instead of raised.

        Returns:
            The tensors of the good rows in their order, and the error of every other row by its position from 0.
        """
        table, known = self._table(), self._known_columns
        wrong = {
            position: self._unknown_columns(row, "The row")
            for position, row in enumerate(rows)
            if not row.keys() <= known
        }
        asked = [position for position in range(len(rows)) if position not in wrong]
        encoded = encode_columns(table, columns_of_rows([rows[position] for position in asked]), len(asked))
        for problem in encoded.problems:
            error = BadTable(describe_problem(problem, "The row"), problem.fix)
            wrong.setdefault(asked[problem.row], error)
        if not encoded.problems:
            return encoded.tensors, wrong
        kept = [row for row, position in enumerate(asked) if position not in wrong]
        return {name: tensor[kept] for name, tensor in encoded.tensors.items()}, wrong

    def encode_table(self, column_of: Callable[[str], Cells], rows: int, *, near: bool = False) -> Encoded:
        """Encode whole columns of a table, as `encode_rows` does; wrong values are told instead of raised.

        Args:
            column_of: Gives the cells of a column by its name.
            rows: Number of rows.
            near: Whether to tell which rows have nearly equal texts.

        Returns:
            The same tensors, the problems, and the digests of the columns for content hashes.
        """
        return encode_columns(self._table(), column_of, rows, digests=True, near=near)

    def encode_windows(self, instances: Sequence[Mapping[str, object]]) -> dict[str, NDArray[Any]]:
        """Encode windows of rows, each `{"rows": [{column: value, ...}, ...]}`: see `sequences.windows`.

        Returns:
            `sequence` float32 [N,T,F] and `categories` int64 [N,T,K], those that the spec has.

        Raises:
            BadTable: Too few rows, an unknown column, or a value that isn't a number.
        """
        from shoal_core.data.sequences.windows import encode_instances

        self.refuse_tensors()
        return encode_instances(self, instances)

    def encode_target(self, values: Sequence[object], first_row: int = 1) -> NDArray[Any]:
        """Encode targets: int64 [N] class indices, float32 [N] (regression) or uint8 [N,classes] (multilabel).

        Raises:
            BadTable: A missing target, an unknown class, or a text where a number is due.
        """
        encoded, problems = self.encode_target_cells(Cells.of(values))
        if problems:
            raise_problem(problems[0], f"Row {first_row + problems[0].row}")
        return encoded

    def encode_target_cells(self, cells: Cells) -> tuple[NDArray[Any], list[Problem]]:
        """`encode_target` of a whole column; wrong values are told instead of raised (None: a missing target)."""
        return encode_targets(self.target, cells, class_codes(self.target.classes, 0))

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

    @property
    def data_kind(self) -> Literal["image", "table", "sequence"]:
        """What data is encoded. Raises `BadRequest` when nothing says how raw input becomes the model's tensors."""
        if self.kind == "tensors":
            raise BadRequest(
                "The model takes tensors: nothing says how images, rows or texts become them.",
                "Use POST /v2/models/NAME/infer, or import it again with a model.yaml that describes its input.",
            )
        return self.kind

    def refuse_tensors(self) -> None:
        """Raise `BadRequest` when nothing says how raw input becomes the model's tensors."""
        _ = self.data_kind

    def _table(self) -> TableInput:
        self.refuse_tensors()
        if self.sequence is not None:
            raise BadTable("The model takes windows of rows, not rows.", 'Send {"rows": [...]}, oldest row first.')
        if self.table is None:
            raise BadTable("The model takes images, not table rows.", "Send the bytes of an image file.")
        return self.table

    @property
    def _known_columns(self) -> frozenset[str]:
        target = (self.target.column,) if self.target.column else ()
        return frozenset((*self._table().names, *self._table().ignored, *target))

    def _unknown_columns(self, row: Row, place: str) -> BadTable:
        unknown = sorted(str(name) for name in row.keys() - self._known_columns)
        first, *others = (name[:MAX_SHOWN_CHARACTERS] for name in unknown[:5])
        near = difflib.get_close_matches(first, self._known_columns, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(map(repr, (first, *others)))
        return BadTable(f"{place} has unknown columns: {shown}.", f"{hint}Known columns: {self._column_list()}.")

    def _column_list(self) -> str:
        return shorten(self._table().names)


def category_columns(spec: PreprocessingSpec) -> tuple[CategoryColumn, ...]:
    """What the categories of a table or a sequence are, in the order of the tensor's last axis."""
    source = spec.table or spec.sequence
    return source.categories if source else ()
