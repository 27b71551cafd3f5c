"""What a user may ask for: `dataset.yaml`, and the request that a new dataset version starts from.

`dataset.yaml` is read with PyYAML's safe loader, so PyYAML belongs to the core layer.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shoal_core.errors import BadConfig

Task = Literal["classification", "regression"]
Recipe = Literal["mlp", "cnn", "linear", "resnet", "vgg"]
Optimizer = Literal["adam", "adamw", "sgd", "lion"]
Loss = Literal["cross_entropy", "focal", "squared", "absolute", "huber"]
ClassWeights = Literal["none", "balanced"]
Schedule = Literal["cosine", "step", "plateau", "constant"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

IMAGE_RECIPES: frozenset[Recipe] = frozenset({"cnn", "resnet", "vgg"})
"""Recipes that need images; the others take tables too."""
MAX_CONFIG_BYTES = 64 * 1024
MIN_IMAGE_SIDE = 4
MAX_IMAGE_SIDE = 512


def _not_bool(value: object) -> object:
    """YAML 1.1 reads `yes` and `on` as booleans, and Python counts True as 1: neither is a number here."""
    if isinstance(value, bool):
        raise ValueError("a boolean isn't a number")
    return value


def _square(value: object) -> object:
    """One number means a square image."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return value


# PyYAML reads `1e-3` (no dot) as text, so numbers given as text are parsed.
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(strict=True)]
Side = Annotated[int, Field(strict=True, ge=MIN_IMAGE_SIDE, le=MAX_IMAGE_SIDE)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(_Model):
    """Shares of the samples held out; the rest is for training."""

    validation: Annotated[Number, Field(ge=0, le=0.5)] = 0.15
    test: Annotated[Number, Field(ge=0, le=0.5)] = 0.15

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.validation + self.test > 0.9:
            raise ValueError("validation + test must leave at least 0.1 for training")
        return self


class TrainingConfig(_Model):
    """How to train; what is None is chosen by the recipe, or left out: see docs/upload-contract.md."""

    optimizer: Optimizer | None = None
    learning_rate: Annotated[Number, Field(gt=0, le=10)] | None = None
    batch_size: Annotated[Integer, Field(ge=1, le=8192)] | None = None
    epochs: Annotated[Integer, Field(ge=1, le=1000)] | None = None
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = None
    nesterov: Annotated[bool, Field(strict=True)] | None = None
    weight_decay: Annotated[Number, Field(ge=0, le=1)] | None = None
    clip_norm: Annotated[Number, Field(gt=0, le=1000)] | None = None
    loss: Loss | None = None
    class_weights: ClassWeights | None = None
    label_smoothing: Annotated[Number, Field(ge=0, le=0.5)] | None = None
    focal_gamma: Annotated[Number, Field(ge=0, le=10)] | None = None
    huber_delta: Annotated[Number, Field(gt=0, le=100)] | None = None
    schedule: Schedule | None = None
    warmup_rounds: Annotated[Number, Field(ge=0, le=100)] | None = None
    decay_factor: Annotated[Number, Field(gt=0, lt=1)] | None = None
    decay_rounds: Annotated[Integer, Field(ge=1, le=500)] | None = None
    patience: Annotated[Integer, Field(ge=0, le=500)] | None = None
    ema: Annotated[Number, Field(gt=0, lt=1)] | None = None


class DatasetConfig(_Model):
    """`dataset.yaml`: everything is optional, what is None is inferred from the data.

    `image_size` is (height, width) in pixels; one number in YAML means a square. `network` are settings of the recipe's
    network, checked by the recipe.
    """

    schema_version: Literal[1] = 1
    task: Task | None = None
    target: Annotated[str, Field(min_length=1, strict=True)] | None = None
    recipe: Recipe | None = None
    image_size: Annotated[tuple[Side, Side], BeforeValidator(_square)] | None = None
    split: SplitConfig = SplitConfig()
    seed: Annotated[Integer, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[Integer, Field(ge=1, le=40)] | None = None
    rounds: Annotated[Integer, Field(ge=1, le=500)] | None = None
    network: dict[str, Integer | str | list[Integer]] = {}
    training: TrainingConfig = TrainingConfig()


class SourceFile(_Model):
    """One uploaded object: its key in the upload bucket, S3 version, size in bytes and sha256 (hex) where known."""

    key: str
    version: str | None = None
    size: int = Field(ge=0)
    sha256: str | None = None


class DatasetRequest(_Model):
    """`request.json`: what was uploaded and what was asked for; one dataset version comes from one request."""

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    files: tuple[SourceFile, ...]
    config: DatasetConfig = DatasetConfig()
    run_id: str | None = None


# Field -> what it accepts, in words; the names are checked against the models by a test.
ALLOWED: Mapping[str, str] = {
    "schema_version": "1",
    "task": "classification or regression",
    "target": "the name of a column, as text (put it in quotes when it looks like a number or yes/no)",
    "recipe": "mlp or linear (images and tables), cnn, resnet or vgg (images)",
    "image_size": f"one whole number or [height, width], each {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} pixels",
    "split": "validation and test, shares of the samples, for example {validation: 0.15, test: 0.15}",
    "split.validation": "a share from 0 to 0.5",
    "split.test": "a share from 0 to 0.5",
    "seed": "a whole number from 0 to 2147483647",
    "workers": "a whole number from 1 to 40",
    "rounds": "a whole number from 1 to 500",
    "network": "settings of the recipe's network by name: whole numbers, texts or lists of whole numbers",
    "training": "fields such as optimizer, learning_rate, batch_size and epochs",
    "training.optimizer": "adam, adamw, sgd or lion",
    "training.learning_rate": "a number above 0, at most 10",
    "training.batch_size": "a whole number from 1 to 8192",
    "training.epochs": "a whole number from 1 to 1000",
    "training.momentum": "a number from 0 to below 1, for sgd",
    "training.nesterov": "true or false, for sgd",
    "training.weight_decay": "a number from 0 to 1",
    "training.clip_norm": "a number above 0, at most 1000",
    "training.loss": "cross_entropy or focal for classification; squared, absolute or huber for regression",
    "training.class_weights": "none or balanced, for classification",
    "training.label_smoothing": "a number from 0 to 0.5, for cross_entropy",
    "training.focal_gamma": "a number from 0 to 10, for focal",
    "training.huber_delta": "a number above 0, at most 100, for huber",
    "training.schedule": "cosine, step, plateau or constant",
    "training.warmup_rounds": "a number from 0 to 100",
    "training.decay_factor": "a number above 0 and below 1, for step and plateau",
    "training.decay_rounds": "a whole number from 1 to 500, for step and plateau",
    "training.patience": "a whole number from 0 to 500; 0 never stops early",
    "training.ema": "a number above 0 and below 1",
}


def parse_config(data: bytes, name: str = "dataset.yaml") -> DatasetConfig:
    """Read `dataset.yaml`.

    Args:
        data: The file's bytes (UTF-8); an empty file asks for nothing.
        name: What to call the file in errors.

    Raises:
        BadConfig: Not YAML, not a mapping, an unknown field (the nearest known one is suggested) or a value
            outside the allowed ones (which are listed).
    """
    import yaml  # here, since predict reads models of this module at every cold start and never any YAML

    if len(data) > MAX_CONFIG_BYTES:
        raise BadConfig(f"{name} has {len(data):,} bytes.", f"Keep it under {MAX_CONFIG_BYTES:,} bytes.")
    try:
        value = yaml.safe_load(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadConfig(f"{name} isn't UTF-8 text.", "Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be parsed"
        raise BadConfig(f"{name} isn't valid YAML{where}: {problem}.", "Write one `field: value` per line.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadConfig(f"{name} isn't valid YAML: {error}.", "Write one `field: value` per line.") from error
    if value is None:
        return DatasetConfig()
    if not isinstance(value, dict):
        raise BadConfig(
            f"{name} holds a {type(value).__name__}, not fields.", f"Write `field: value` lines; fields: {_fields('')}."
        )
    try:
        return DatasetConfig.model_validate(value)
    except ValidationError as error:
        raise _bad_config(name, error) from error


def _fields(parent: str) -> str:
    """The names allowed under a parent field ('' is the top), for messages."""
    return ", ".join(_names(parent))


def _names(parent: str) -> list[str]:
    prefix = f"{parent}." if parent else ""
    return [key[len(prefix) :] for key in ALLOWED if key.startswith(prefix) and "." not in key[len(prefix) :]]


def _bad_config(name: str, error: ValidationError) -> BadConfig:
    """Turn pydantic's first complaint into one that names the field and what it accepts."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        parent, field = ".".join(path[:-1]), path[-1]
        near = difflib.get_close_matches(field, _names(parent), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        where = f" under {parent!r}" if parent else ""
        return BadConfig(f"{name}: unknown field {field!r}{where}.", f"{hint}Known fields: {_fields(parent)}.")
    field = ".".join(path)
    while field and field not in ALLOWED:
        field = field.rpartition(".")[0]
    value = reprlib.repr(first["input"])
    if first["type"] == "value_error" and field == "split":
        return BadConfig(f"{name}: {field}: {first['msg'].removeprefix('Value error, ')}.", "Lower one of them.")
    return BadConfig(f"{name}: {field}: {value} isn't allowed.", f"Use {ALLOWED[field]}.")
