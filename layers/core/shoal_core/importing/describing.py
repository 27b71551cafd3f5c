"""`model.yaml`: what an imported model's input and output mean, so that people can send images, rows and texts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from shoal_core.data.backbones import Pooling
from shoal_core.data.config import read_yaml
from shoal_core.data.config_types import Flag, ImageFit, Integer, Name, Number, SupervisedTask, TokenUnit
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen

FILE = "model.yaml"
MAX_LABELS = 50_000
Side = Annotated[Integer, Field(ge=1, le=4096)]


def _texts(value: object) -> object:
    """Names that are numbers are texts, too; YAML 1.1 reads `yes` and `no` as booleans, which nobody means here."""
    if not isinstance(value, list):
        return value
    if any(isinstance(entry, bool) for entry in value):
        raise ValueError("a name is read as a boolean; put it into quotes")
    return [str(entry) if isinstance(entry, int | float) else entry for entry in value]


Label = Annotated[str, Field(min_length=1, max_length=200)]
Labels = Annotated[tuple[Label, ...], BeforeValidator(_texts), Field(min_length=1, max_length=MAX_LABELS)]

Names = Annotated[Name | tuple[Label, ...], BeforeValidator(_texts), Field(min_length=1, max_length=MAX_LABELS)]


def _size(value: object) -> object:
    """`224`, `224x192` (height x width) or a list of two."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str):
        sides = [int(part) if part.strip().isdigit() else part for part in value.split("x")]
        return tuple(sides * 2 if len(sides) == 1 else sides)
    return value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


PerChannel = Annotated[tuple[Number, ...], BeforeValidator(_one_or_more), Field(min_length=1, max_length=3)]


class ImageDescription(Frozen):
    """How an image becomes the model's tensor.

    Attributes:
        size: Height and width.
        color: Order of the channels, or grey.
        layout: Channels first or last; told by the model's shape when None.
        fit: See `cleaning_config.ImageConfig`.
        crop: The same.
        range: What the pixel values 0 and 255 become, before mean and std.
        mean: Is taken off, per channel, in units of `range`.
        std: Divides, after that.
    """

    size: Annotated[tuple[Side, Side], BeforeValidator(_size)]
    color: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["channels_first", "channels_last"] | None = None
    fit: ImageFit = "stretch"
    crop: Annotated[Number, Field(gt=0, le=1)] = 1.0
    range: tuple[Number, Number] = (0.0, 1.0)
    mean: PerChannel = (0.0,)
    std: PerChannel = (1.0,)

    @model_validator(mode="after")
    def _fits_the_channels(self) -> ImageDescription:
        channels = 1 if self.color == "grey" else 3
        if any(len(values) not in (1, channels) for values in (self.mean, self.std)):
            raise ValueError(f"mean and std have 1 or {channels} numbers")
        if 0 in self.std or self.range[0] == self.range[1]:
            raise ValueError("std can't be 0, nor range empty")
        return self


class TextDescription(Frozen):
    """How a text becomes the model's token ids: int [N, length].

    Attributes:
        vocabulary: Tokens in the order of their ids, or the name of a file beside model.yaml with one a line.
        length: Ids per text; told by the model's shape when None.
        column: What the text is called in a request.
        unit: What a token is; `wordpiece` is for encoders of the BERT family.
        lowercase: Whether letters are made small.
        padding: Id behind the last token.
        unknown: Id of a token that isn't in the vocabulary.
        first: Id of the vocabulary's first token; 2, of word pieces 0 when None.
    """

    vocabulary: Names
    length: Annotated[Integer, Field(ge=1, le=65536)] | None = None
    column: Name = "text"
    unit: TokenUnit | Literal["wordpiece"] = "word"
    lowercase: Flag = True
    padding: Integer = 0
    unknown: Integer = 1
    first: Integer | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The model's id of each of the spec's: padding, unknown, then the vocabulary."""
        first = self.first if self.first is not None else 0 if self.unit == "wordpiece" else 2
        return (self.padding, self.unknown, *range(first, first + len(self.vocabulary)))


class BackboneDescription(Frozen):
    """What of a model is a backbone for transfer learning.

    Attributes:
        features: The tensor whose values are the features; what a classifier's last layer reads, or the output itself
            where there is no such layer, when None.
        pooling: What makes a vector of them; told by their shape when None.
    """

    features: Name | None = None
    pooling: Pooling | None = None


class ModelDescription(Frozen):
    """`model.yaml`. Without `image`, `columns` or `text` the model takes tensors.

    Attributes:
        image: The model takes an image.
        columns: The model takes a row: names of its columns, in order. Those under `categories` are texts.
        categories: Column -> the texts that it may hold, for models whose inputs are one per column.
        fill: Column -> what a missing number becomes; without it, it is NaN.
        text: The model takes a text.
        labels: Names of the classes in order, or the name of a file beside model.yaml with one a line.
        task: Told by labels and the output when None.
        output: Name of the output that is answered; found when None.
        activation: What makes probabilities of the output; told by the trial when None.
        sample: Input -> shape of one sample, where the model leaves it open.
        production: Whether the version serves at once even if the model has one that serves.
        backbone: Whether it is kept for its features, as a backbone; and which those are.
    """

    image: ImageDescription | None = None
    columns: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000)] | None = None
    categories: Mapping[str, Labels] = {}
    fill: Mapping[str, Number] = {}
    text: TextDescription | None = None
    labels: Names | None = None
    task: SupervisedTask | None = None
    output: Name | None = None
    activation: Literal["none", "softmax", "sigmoid"] | None = None
    sample: Mapping[str, tuple[Annotated[Integer, Field(ge=1)], ...]] = {}
    production: Flag = False
    backbone: BackboneDescription | Flag = False

    @model_validator(mode="after")
    def _has_one_input(self) -> ModelDescription:
        if sum(part is not None for part in (self.image, self.columns, self.text)) > 1:
            raise ValueError("image, columns and text are three kinds of input; a model has one")
        columns = set(self.columns or ())
        if len(columns) != len(self.columns or ()):
            raise ValueError("columns has a name twice")
        strange = sorted({*self.categories, *self.fill} - columns)
        if strange:
            raise ValueError(f"{strange[0]!r} isn't one of columns")
        return self

    @property
    def backbone_wishes(self) -> BackboneDescription:
        """What is said of the backbone."""
        return self.backbone if isinstance(self.backbone, BackboneDescription) else BackboneDescription()

    @property
    def takes_tensors(self) -> bool:
        """Whether nothing describes the input."""
        return self.image is None and self.columns is None and self.text is None

    @property
    def hints(self) -> tuple[tuple[int, ...], ...]:
        """Shapes that a sample of the input may have, for models that leave sizes open."""
        if self.image is not None:
            height, width = self.image.size
            channels = 1 if self.image.color == "grey" else 3
            return (channels, height, width), (height, width, channels)
        if self.columns is not None:
            return ((len(self.columns),),)
        return ((self.text.length,),) if self.text is not None and self.text.length else ()


def read_description(data: bytes, read_file: Callable[[str], bytes]) -> ModelDescription:
    """Read `model.yaml`, and the files that it names.

    Args:
        data: Its bytes; empty asks for nothing.
        read_file: Gives the bytes of a file beside it by its name. Raises `NotFound`.

    Raises:
        BadConfig: Not YAML, an unknown field, or a value that isn't allowed.
        NotFound: A file that it names isn't there.
    """
    fields = read_yaml(data, FILE, ", ".join(ModelDescription.model_fields))
    try:
        found = ModelDescription.model_validate(fields)
    except ValidationError as error:
        raise _bad_field(error) from error
    if isinstance(found.labels, str):
        found = found.model_copy(update={"labels": _lines(found.labels, read_file)})
    if found.text is not None and isinstance(found.text.vocabulary, str):
        words = _lines(found.text.vocabulary, read_file)
        found = found.model_copy(update={"text": found.text.model_copy(update={"vocabulary": words})})
    return found


def _lines(name: str, read_file: Callable[[str], bytes]) -> tuple[str, ...]:
    if "/" in name or name.startswith("."):
        raise BadConfig(f"{FILE} names the file {name!r}.", f"Name a file beside {FILE}.")
    try:
        # Not splitlines(): a token may be one of the other characters that it takes for the end of a line.
        lines = read_file(name).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadConfig(f"{name!r} isn't UTF-8 text.", "Save it as UTF-8, one name a line.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if any(len(line) > 200 for line in lines):
        raise BadConfig(f"{name!r} has a line of more than 200 letters.", "Write one name a line.")
    if not lines or len(lines) > MAX_LABELS:
        raise BadConfig(f"{name!r} has {len(lines):,} lines.", f"Write 1 to {MAX_LABELS:,} names, one a line.")
    return tuple(line.strip() for line in lines)


def _bad_field(error: ValidationError) -> BadConfig:
    problems = error.errors(include_url=False)
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    # Where a field takes two kinds of values, the kind that was tried is part of the place.
    path = [str(part) for part in first["loc"] if part not in (BackboneDescription.__name__, "bool")]
    if first["type"] == "extra_forbidden":
        parts = {"image": ImageDescription, "text": TextDescription, "backbone": BackboneDescription}
        known: Any = parts.get(path[0], ModelDescription)
        names = list((known if len(path) > 1 else ModelDescription).model_fields)
        near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return BadConfig(f"{FILE}: unknown field {'.'.join(path)!r}.", f"{hint}Known fields: {', '.join(names)}.")
    message = first["msg"].removeprefix("Value error, ")
    where = f"{'.'.join(path)}: " if path else ""
    return BadConfig(f"{FILE}: {where}{message[0].lower()}{message[1:]}.", "See docs/models.md for its fields.")
