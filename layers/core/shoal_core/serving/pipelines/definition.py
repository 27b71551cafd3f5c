"""`pipeline.yaml`: what goes in, which nodes work on it in which order, and which of them answers.

A node refers to `input` or to nodes above it, so a graph can't have a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import read_yaml
from shoal_core.data.config_types import Flag, ImageFit, Integer, Name, Number
from shoal_core.data.spec import ImageInput, PreprocessingSpec, TableInput, TargetSpec, TextColumn
from shoal_core.data.texts.wordpiece import FIRST, LAST, UNKNOWN_PIECE
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen

FILE = "pipeline.yaml"
INPUT = "input"
PIECES = ("input_ids", "attention_mask", "token_type_ids")
MAX_NODES = 32
MAX_PIECES = 512
Side = Annotated[Integer, Field(ge=1, le=2048)]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}(\.[a-z_]{1,32})?$", strict=True)]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$", strict=True)]


def _square(value: object) -> object:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[tuple[Side, Side], BeforeValidator(_square)]
Channel = Annotated[tuple[Number, ...], Field(min_length=1, max_length=3)]


class PipelineImage(Frozen):
    """A photo, brought to a working size that crops are cut from; `size` is height and width."""

    size: Size
    color: Literal["rgb", "grey"] = "rgb"
    fit: ImageFit = "pad"


class PipelineText(Frozen):
    """A text, cut into word pieces; `vocabulary` is the name of a file beside pipeline.yaml, one piece a line."""

    vocabulary: Name | tuple[str, ...]
    length: Annotated[Integer, Field(ge=3, le=MAX_PIECES)] = 128
    lowercase: Flag = True
    column: Name = "text"


class PipelineInput(Frozen):
    """What people send: an image or a text."""

    image: PipelineImage | None = None
    text: PipelineText | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> PipelineInput:
        if (self.image is None) == (self.text is None):
            raise ValueError("a pipeline takes an image or a text")
        return self


class ModelNode(Frozen):
    """A registered model. `inputs` are its tensors by name, or what its only tensor gets.

    A `version` is a number, or an alias that is followed as it moves; left out, it becomes the number of the version in
    production when the pipeline is registered.
    """

    model: Name
    version: Annotated[Integer, Field(ge=1)] | Name | None = None
    inputs: Reference | dict[str, Reference]
    output: Name | None = None


class ResizeNode(Frozen):
    """An image in another size (bilinear, antialiased)."""

    resize: Reference
    size: Size
    color: Literal["rgb", "grey"] | None = None


class NormalizeNode(Frozen):
    """An image as numbers: 0..255 becomes `range`, less `mean`, by `std`, per channel: float32 [N, C, H, W]."""

    normalize: Reference
    range: tuple[Number, Number] = (0.0, 1.0)
    mean: Channel = (0.0,)
    std: Channel = (1.0,)

    @model_validator(mode="after")
    def _divides(self) -> NormalizeNode:
        if 0 in self.std:
            raise ValueError("std can't be 0")
        return self


class CropNode(Frozen):
    """The part of an image where a mask is high: its bounding box with a margin, brought to a size.

    `threshold` is a share between the mask's lowest and highest value; `margin` is a share of the box's longer side;
    `square` widens the shorter side. Where a mask says nothing, the whole image is taken.
    """

    crop: Reference
    mask: Reference
    size: Size
    threshold: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    margin: Annotated[Number, Field(ge=0, le=1)] = 0.05
    square: Flag = True
    color: Literal["rgb", "grey"] | None = None


class PiecesNode(Frozen):
    """What encoders of the BERT family take: `input_ids`, `attention_mask`, `token_type_ids`, int64 [N, L] each.

    Columns that are padding in all texts of a batch are cut off.
    """

    pieces: Reference
    padding: Annotated[Integer, Field(ge=0)] = 0


class PoolNode(Frozen):
    """One vector of the vectors of a text's pieces [N, L, W]: their mean where `mask` is 1, or the first one.

    With `unit` its length is 1.
    """

    pool: Reference
    mask: Reference | None = None
    method: Literal["mean", "first"] = "mean"
    unit: Flag = True


Node = ModelNode | ResizeNode | NormalizeNode | CropNode | PiecesNode | PoolNode
_KINDS: Mapping[str, type[Frozen]] = {
    "model": ModelNode,
    "resize": ResizeNode,
    "normalize": NormalizeNode,
    "crop": CropNode,
    "pieces": PiecesNode,
    "pool": PoolNode,
}


class Pipeline(Frozen):
    """`pipeline.yaml`, and `pipeline.json` once versions are pinned.

    Attributes:
        input: What people send.
        nodes: In the order in which they work.
        output: The node that answers: a model with labels or a number, or a vector.
        production: Whether the version serves at once even if there is one that serves.
    """

    schema_version: Literal[1] = 1
    description: str = ""
    input: PipelineInput
    nodes: dict[NodeName, Node] = Field(min_length=1, max_length=MAX_NODES)
    output: NodeName
    production: Flag = False

    @model_validator(mode="after")
    def _refers_upwards(self) -> Pipeline:
        known = {INPUT}
        for name, node in self.nodes.items():
            if name == INPUT:
                raise ValueError(f"a node can't be called {INPUT!r}")
            for reference in references(node):
                above, _, part = reference.partition(".")
                if above not in known:
                    raise ValueError(f"node {name!r} refers to {above!r}, which isn't a node above it")
                if bool(part) != isinstance(self.nodes.get(above), PiecesNode) or (part and part not in PIECES):
                    raise ValueError(f"node {name!r}: of pieces, refer to {', '.join(f'{above}.{p}' for p in PIECES)}")
            known.add(name)
        if not isinstance(self.nodes.get(self.output), ModelNode | PoolNode):
            raise ValueError(f"output {self.output!r} isn't a node that is a model or a pool")
        return self

    def spec(self, target: TargetSpec) -> PreprocessingSpec:
        """How what people send becomes the tensor that the first nodes get, and what the answer means."""
        image, text = self.input.image, self.input.text
        if image is not None:
            height, width = image.size
            channels: Literal[1, 3] = 1 if image.color == "grey" else 3
            form = ImageInput(height=height, width=width, channels=channels, fit=image.fit)
            return PreprocessingSpec(kind="image", image=form, target=target)
        if text is None or isinstance(text.vocabulary, str):
            raise BadConfig(f"{FILE}: the vocabulary isn't read yet.", "Read the pipeline with its files.")
        column = TextColumn(
            name=text.column,
            length=text.length,
            unit="wordpiece",
            lowercase=text.lowercase,
            vocabulary=text.vocabulary,
        )
        return PreprocessingSpec(kind="table", table=TableInput(texts=(column,)), target=target)

    def encode(self) -> bytes:
        """The canonical bytes of `pipeline.json`; the nodes keep their order, which has a meaning."""
        document = self.model_dump(mode="json", exclude_none=True)
        order = list(document["nodes"])
        return canonical_json({**document, "nodes": [[name, document["nodes"][name]] for name in order]})


def decode_pipeline(data: bytes) -> Pipeline:
    """Read `pipeline.json`."""
    import json

    document = json.loads(data)
    return Pipeline.model_validate({**document, "nodes": dict(document["nodes"])})


def references(node: Node) -> list[str]:
    """What a node refers to."""
    if isinstance(node, ModelNode):
        return [node.inputs] if isinstance(node.inputs, str) else list(node.inputs.values())
    if isinstance(node, CropNode):
        return [node.crop, node.mask]
    if isinstance(node, PoolNode):
        return [node.pool, *([node.mask] if node.mask else [])]
    if isinstance(node, ResizeNode):
        return [node.resize]
    return [node.normalize] if isinstance(node, NormalizeNode) else [node.pieces]


def read_pipeline(data: bytes, read_file: Callable[[str], bytes]) -> Pipeline:
    """Read `pipeline.yaml`, and the vocabulary that it names.

    Args:
        data: Its bytes.
        read_file: Gives the bytes of a file beside it by its name. Raises `NotFound`.

    Raises:
        BadConfig: Not YAML, an unknown field, a reference to nothing, or a value that isn't allowed.
        NotFound: The vocabulary isn't there.
    """
    fields = read_yaml(data, FILE, ", ".join(Pipeline.model_fields))
    _require_kinds(fields)
    try:
        found = Pipeline.model_validate(fields)
    except ValidationError as error:
        raise _bad_field(error) from error
    text = found.input.text
    if text is None:
        return found
    words = _vocabulary(text.vocabulary, read_file) if isinstance(text.vocabulary, str) else text.vocabulary
    missing = [piece for piece in (FIRST, LAST, UNKNOWN_PIECE) if piece not in words]
    if missing:
        name = repr(text.vocabulary) if isinstance(text.vocabulary, str) else "The vocabulary"
        raise BadConfig(f"{name} has no line {missing[0]!r}.", "Use the vocab.txt that the encoder came with.")
    kept = found.input.model_copy(update={"text": text.model_copy(update={"vocabulary": words})})
    return found.model_copy(update={"input": kept})


def _require_kinds(fields: Mapping[str, Any]) -> None:
    """Say which kinds of nodes there are, where pydantic would list the complaints of all of them."""
    nodes = fields.get("nodes")
    if not isinstance(nodes, dict):
        return
    for name, node in nodes.items():
        kinds = [kind for kind in _KINDS if isinstance(node, dict) and kind in node]
        if len(kinds) != 1:
            raise BadConfig(f"{FILE}: node {name!r} isn't of one kind.", f"Give it one of: {', '.join(_KINDS)}.")
        try:
            _KINDS[kinds[0]].model_validate(node)
        except ValidationError as error:
            raise _bad_field(error, f"nodes.{name}.") from error


def _vocabulary(name: str, read_file: Callable[[str], bytes]) -> tuple[str, ...]:
    if "/" in name or name.startswith("."):
        raise BadConfig(f"{FILE} names the file {name!r}.", f"Name a file beside {FILE}.")
    try:
        text = read_file(name).decode()
    except UnicodeDecodeError as error:
        raise BadConfig(f"{name!r} isn't UTF-8 text.", "Save it as UTF-8, one piece a line.") from error
    # Not splitlines(): a piece may be one of the other characters that it takes for the end of a line.
    return tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))


def _bad_field(error: ValidationError, prefix: str = "") -> BadConfig:
    problems = error.errors(include_url=False)
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    where = (prefix + ".".join(str(part) for part in first["loc"])).removesuffix(".")
    message = first["msg"].removeprefix("Value error, ")
    return BadConfig(f"{FILE}: {f'{where}: ' if where else ''}{message}.", "See docs/pipelines.md for its fields.")
