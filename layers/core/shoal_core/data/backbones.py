"""Pretrained backbones: what is known of one, and how a dataset is read so that one can take it.

A backbone is a model that was imported for its features: a vector for an image or a text. `backbone.json` lies beside
its graph. A dataset that names a backbone is encoded as the backbone wants it: images at its size, texts by its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.data.plan import Plan
from shoal_core.data.spec import ImageInput, PreprocessingSpec, TextColumn
from shoal_core.errors import BadConfig, BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import ModelKeys
from shoal_core.store import ObjectStore

FEATURES = "features"
"""The tensor that a backbone answers, and that a shard of features holds: float32 [N, ...]."""
_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@(?P<version>[1-9][0-9]{0,8}))?")
_FOLLOWED = ("stretch", 1.0)

Pooling = Literal["none", "mean", "first", "flatten"]
Production = Callable[[str], int]
"""Gives the version of a model that serves. Raises `NotFound`."""


class Block(Frozen):
    """A part of a backbone that can be fine-tuned.

    Attributes:
        tensor: Where it begins: what it reads of the blocks before it.
        shape: Of one sample of that tensor.
        kept: Inputs of the whole graph that it, or what follows, reads as well, such as `tokens` for a mask.
        parameters: Numbers that fine-tuning would change in it.
        operators: Its operators in order, each named once.
    """

    tensor: str
    shape: tuple[int, ...]
    kept: tuple[str, ...] = ()
    parameters: int = Field(ge=0)
    operators: tuple[str, ...]


class Backbone(Frozen):
    """`backbone.json`: a registered backbone.

    Attributes:
        name: The model.
        version: Its version.
        digest: sha256 of its graph, from raw tensors to `features` float32 [N, width].
        image: What it takes, where it takes images.
        text: The same, where it takes texts; the name of its column says nothing.
        source: The tensor of the imported file that the features are.
        pooling: What made a vector of it.
        width: Numbers of the vector.
        blocks: Its parts, the last one first.
        batch_norm: Whether the file has BatchNormalizations, whose mean and variance stay.
        mixes_rows: Whether a sample's features depend on its neighbours in a run (dynamic quantisation).
    """

    schema_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    digest: str
    image: ImageInput | None = None
    text: TextColumn | None = None
    source: str
    pooling: Pooling
    width: int = Field(ge=1)
    blocks: tuple[Block, ...] = ()
    batch_norm: bool = False
    mixes_rows: bool = False

    @property
    def reference(self) -> str:
        """What `backbone` in dataset.yaml says for exactly this version."""
        return f"{self.name}@{self.version}"

    def encode(self) -> bytes:
        """The canonical bytes of `backbone.json`."""
        return canonical_json(self.model_dump(mode="json"))


def no_models(name: str) -> int:
    """A `Production` where there are no models. Raises `NotFound`."""
    raise NotFound(f"Model {name!r} doesn't exist.", f"Bring it: `shoal import FILE.onnx --backbone {name}`.")


def read_backbone(artifacts: ObjectStore, reference: str | None, production: Production) -> Backbone:
    """The backbone that settings name.

    Args:
        artifacts: The artifacts bucket.
        reference: `name`, which is the version that serves, or `name@version`.
        production: Gives the version that serves.

    Raises:
        BadConfig: Nothing is named, or what is named is no backbone.
        NotFound: There is no such model or version.
    """
    found = _REFERENCE.fullmatch(reference or "")
    if found is None:
        raise BadConfig(
            "recipe: transfer needs a backbone." if not reference else f"backbone: {reference!r} isn't a name.",
            "Set `backbone: NAME` or `NAME@VERSION`; `shoal import FILE.onnx --backbone NAME` brings one.",
        )
    name = found["name"]
    version = int(found["version"]) if found["version"] else production(name)
    key = ModelKeys(name, version).backbone
    try:
        data = artifacts.read(key)
    except NotFound as error:
        raise BadConfig(
            f"backbone: model {name!r} has no version {version}, or it isn't a backbone.",
            f"Bring one: `shoal import FILE.onnx --backbone {name}`; `shoal model {name}` shows its versions.",
        ) from error
    try:
        return Backbone.model_validate_json(data)
    except ValueError as error:
        raise BadInput(f"{key!r} can't be read: {error}.", "Import the backbone again.") from error


def following(config: DatasetConfig, backbone: Backbone) -> DatasetConfig:
    """Settings by which a dataset is planned so that it fits a backbone; what the user set stays.

    Args:
        config: What was asked for.
        backbone: The one that it names.
    """
    if backbone.image is not None:
        form, wanted = backbone.image, config.image
        # Defaults can't be told from what was written, and mean the same as nothing.
        untold = (wanted.fit, wanted.crop) == _FOLLOWED
        followed = {"fit": form.fit, "crop": form.crop} if untold else {}
        color = wanted.color or ("grey" if form.channels == 1 else "rgb")
        image = wanted.model_copy(update={**followed, "color": color})
        return config.model_copy(update={"image": image, "image_size": config.image_size or (form.height, form.width)})
    length = config.text.length or (backbone.text.length if backbone.text else None)
    return config.model_copy(update={"text": config.text.model_copy(update={"length": length})})


def adopted(plan: Plan, asked: DatasetConfig, backbone: Backbone) -> Plan:
    """A plan that was made by `following` settings, with the backbone's tokens and with what was asked for.

    The version of the backbone is pinned, so that every run on the data means the same one.

    Raises:
        BadConfig: The data aren't what the backbone takes.
    """
    require_fit(plan.spec, backbone)
    spec = plan.spec
    if backbone.text is not None and spec.table is not None:
        column = backbone.text.model_copy(update={"name": spec.table.texts[0].name})
        if asked.text.length is not None:
            column = column.model_copy(update={"length": asked.text.length})
        spec = spec.model_copy(update={"table": spec.table.model_copy(update={"texts": (column,)})})
    chosen = {"image_size": asked.image_size, "channels": asked.image.color} if spec.image else {}
    inferred = {*plan.inferred, *(name for name, value in chosen.items() if value is None)}
    config = asked.model_copy(update={"backbone": backbone.reference})
    return plan.model_copy(update={"config": config, "spec": spec, "inferred": tuple(sorted(inferred))})


def require_fit(spec: PreprocessingSpec, backbone: Backbone) -> None:
    """Raise `BadConfig` where a backbone can't take the data."""
    kind = "a table" if spec.kind == "table" else f"{spec.kind}s"
    if backbone.image is not None:
        if spec.image is None:
            raise BadConfig(
                f"backbone: {backbone.name!r} takes images, and the dataset is {kind}.", "Name another backbone."
            )
        if spec.image.color != "rgb":
            raise BadConfig(
                f"backbone: {backbone.name!r} was trained on RGB or grey, and image.color is {spec.image.color}.",
                "Leave image.color out, and upload again.",
            )
        return
    texts = spec.table.texts if spec.table else ()
    if len(texts) != 1:
        found = ", ".join(repr(column.name) for column in texts[:5]) or "none"
        raise BadConfig(
            f"backbone: {backbone.name!r} takes one text, and the dataset's columns of texts are: {found}.",
            "Set the type of the other columns to `ignore`." if texts else "Name another backbone.",
        )


def require_tokens(spec: PreprocessingSpec, backbone: Backbone) -> None:
    """Raise `BadConfig` where texts weren't cut into the tokens of a backbone."""
    if backbone.text is None or spec.table is None:
        return
    column, own = spec.table.texts[0], backbone.text
    if column.model_copy(update={"name": own.name, "length": own.length}) != own or column.length > own.length:
        raise BadConfig(
            f"backbone: the texts of this dataset version weren't cut into the tokens of {backbone.name!r}.",
            f"Upload the data with `recipe: transfer` and `backbone: {backbone.name}` in dataset.yaml.",
        )
