"""What a user may ask for: `dataset.yaml`, and the request that a new dataset version starts from.

`dataset.yaml` is read with PyYAML's safe loader, so PyYAML belongs to the core layer.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from shoal_core.data.allowed import ALLOWED
from shoal_core.data.cleaning_config import (
    AnomalyConfig,
    AugmentConfig,
    CardConfig,
    ColumnConfig,
    Expectation,
    ImageConfig,
    Imputation,
    LabelsConfig,
    NearDuplicates,
    OptimizeConfig,
    OutlierConfig,
    PromoteConfig,
    SequenceConfig,
    TextConfig,
)
from shoal_core.data.compute_config import ComputeConfig, ComputeField
from shoal_core.data.config_types import (
    ClassWeights,
    Compression,
    Flag,
    Integer,
    Loss,
    LostWorkers,
    Name,
    Number,
    Optimizer,
    Recipe,
    Recompute,
    Schedule,
    Scheme,
    Side,
    Task,
)
from shoal_core.data.source_config import Patterns, SourceConfig
from shoal_core.data.source_config import Schedule as SourceSchedule
from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen

IMAGE_RECIPES: frozenset[Recipe] = frozenset({"cnn", "resnet", "vgg"})
"""Recipes that need images."""
TEXT_RECIPES: frozenset[Recipe] = frozenset({"fasttext", "text-cnn"})
"""Recipes that need texts."""
SEQUENCE_RECIPES: frozenset[Recipe] = frozenset({"rnn", "crnn", "transformer"})
"""Recipes that need sequences or texts. The others (linear, mlp) take everything."""
MAX_CONFIG_BYTES = 64 * 1024
# A run, or one of its rounds; 64 characters of its dataset's name, and what follows.
_RUN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(@[0-9]{1,6})?$"


def _square(value: object) -> object:
    """One number means a square image."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return value


class SplitConfig(Frozen):
    """Shares of the samples held out; the rest is for training.

    By `group`, all rows with one value of a column go to one side; by `time`, the newest rows are held out, the very
    newest for testing.
    """

    validation: Annotated[Number, Field(ge=0, le=0.5)] = 0.15
    test: Annotated[Number, Field(ge=0, le=0.5)] = 0.15
    group: Name | None = None
    time: Name | None = None

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.validation + self.test > 0.9:
            raise ValueError("validation + test must leave at least 0.1 for training")
        if self.group is not None and self.time is not None:
            raise ValueError("group and time can't both say where a row goes")
        return self


class TrainingConfig(Frozen):
    """How to train; what is None is chosen by the recipe, or left out: see docs/upload-contract.md."""

    optimizer: Optimizer | None = None
    learning_rate: Annotated[Number, Field(gt=0, le=10)] | None = None
    batch_size: Annotated[Integer, Field(ge=1, le=8192)] | None = None
    epochs: Annotated[Integer, Field(ge=1, le=1000)] | None = None
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = None
    nesterov: Flag | None = None
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
    swa: Annotated[Number, Field(gt=0, le=1)] | None = None
    compression: Compression | None = None
    warm_start: Flag | Annotated[str, Field(pattern=_RUN, strict=True)] | None = None
    lost_workers: LostWorkers | None = None
    scheme: Scheme | Literal["auto"] | None = None
    outer_learning_rate: Annotated[Number, Field(gt=0, le=10)] | None = None
    outer_momentum: Annotated[Number, Field(ge=0, lt=1)] | None = None
    recompute: Recompute | None = None
    script: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,200}\.py$", strict=True)] | None = None
    fine_tune: Annotated[Integer, Field(ge=0, le=64)] | None = None
    fine_tune_from: Annotated[Integer, Field(ge=1, le=500)] | None = None

    @model_validator(mode="after")
    def _an_outer_step_has_its_scheme(self) -> TrainingConfig:
        for name in ("outer_learning_rate", "outer_momentum"):
            if getattr(self, name) is not None and self.scheme != "diloco":
                raise ValueError(f"{name} is of `scheme: diloco`: set it, or leave {name} out")
        return self


class BudgetConfig(Frozen):
    """What training may take: minutes by the clock, dollars on AWS; at least one of them."""

    minutes: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    dollars: Annotated[Number, Field(gt=0, le=10_000)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetConfig:
        if self.minutes is None and self.dollars is None:
            raise ValueError("a budget is of minutes, of dollars, or both")
        return self


class DatasetConfig(Frozen):
    """`dataset.yaml`: everything is optional, what is None is inferred from the data.

    `image_size` is (height, width) in pixels; one number in YAML means a square. `separator` parts the labels of one
    cell when there are several. `backbone` is the name of one, or `name@version`. `network` are settings of the
    recipe's network, checked by the recipe.
    """

    schema_version: Literal[1] = 1
    files: Patterns | None = None
    source: SourceConfig | None = None
    schedule: SourceSchedule | None = None
    task: Task | None = None
    target: Name | None = None
    separator: Annotated[str, Field(min_length=1, max_length=8, strict=True)] | None = None
    recipe: Recipe | Literal["auto"] | None = None
    backbone: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[1-9][0-9]{0,8})?$")] | None = None
    budget: BudgetConfig | None = None
    image_size: Annotated[tuple[Side, Side], BeforeValidator(_square)] | None = None
    image: ImageConfig = ImageConfig()
    labels: LabelsConfig | None = None
    columns: dict[Name, ColumnConfig] = Field(default={})
    missing: Imputation = "median"
    outliers: OutlierConfig | Literal["keep"] = OutlierConfig()
    text: TextConfig = TextConfig()
    sequence: SequenceConfig | None = None
    anomaly: AnomalyConfig = AnomalyConfig()
    near_duplicates: NearDuplicates = "report"
    expect: Annotated[tuple[Expectation, ...], Field(max_length=200)] = ()
    augment: AugmentConfig | Literal["auto", "none"] = "auto"
    split: SplitConfig = SplitConfig()
    seed: Annotated[Integer, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[Integer, Field(ge=1, le=40)] | None = None
    rounds: Annotated[Integer, Field(ge=1, le=500)] | None = None
    network: dict[str, Integer | Number | str | list[Integer]] = Field(default={})
    training: TrainingConfig = TrainingConfig()
    compute: ComputeField = ComputeConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    promote: PromoteConfig = PromoteConfig()
    card: CardConfig = CardConfig()

    @model_validator(mode="after")
    def _schedule_has_a_source(self) -> DatasetConfig:
        if self.schedule is not None and self.source is None:
            raise ValueError("`schedule` needs `source`: an upload starts by itself")
        return self

    @model_validator(mode="after")
    def _a_script_has_a_job(self) -> DatasetConfig:
        if self.training.script is not None and self.compute.service != "sagemaker":
            raise ValueError("`training.script` needs `compute: sagemaker`: Lambda trains recipes and ONNX networks")
        return self

    @model_validator(mode="after")
    def _anomalies_have_their_recipe(self) -> DatasetConfig:
        if self.recipe == "autoencoder" and self.task not in (None, "anomaly"):
            raise ValueError(f"recipe autoencoder finds anomalies, and the task is {self.task}: leave `task` out")
        if self.task == "anomaly" and self.recipe not in (None, "auto", "autoencoder"):
            raise ValueError(f"task anomaly needs recipe autoencoder, not {self.recipe}: leave `recipe` out")
        return self

    @property
    def uses_backbone(self) -> bool:
        """Whether a head is trained on what a pretrained backbone makes of the samples."""
        return self.recipe == "transfer" or (self.backbone is not None and self.recipe in (None, "auto"))

    @property
    def finds_anomalies(self) -> bool:
        """Whether nothing is predicted but how unusual a sample is."""
        return self.task == "anomaly" or self.recipe == "autoencoder"


class SourceFile(Frozen):
    """One object: its key, S3 version, size in bytes, and sha256 (hex) or ETag, whichever is known.

    `bucket` is None for the bucket of uploads. `name` is the file's name within its dataset; None where it is the key
    without `datasets/<name>/`.
    """

    key: str
    name: str | None = None
    version: str | None = None
    size: int = Field(ge=0)
    sha256: str | None = None
    etag: str | None = None
    bucket: str | None = None


class ListingPart(Frozen):
    """One JSONL object of a listing: a `SourceFile` a line; `bytes` are the part's own, gzipped."""

    key: str
    count: int = Field(ge=1)
    bytes: int = Field(ge=0)


class Listing(Frozen):
    """The files of a set that is too large for `request.json`, in the order of their names; `bytes` are the files'."""

    parts: tuple[ListingPart, ...]
    count: int = Field(ge=1)
    bytes: int = Field(ge=0)


class DatasetRequest(Frozen):
    """`request.json`: what was uploaded and what was asked for; one dataset version comes from one request.

    The files are in `files` or, when there are more than 10,000, in the objects that `listing` names.
    """

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    files: tuple[SourceFile, ...] = ()
    listing: Listing | None = None
    config: DatasetConfig = DatasetConfig()
    run_id: str | None = None


def parse_config(data: bytes, name: str = "dataset.yaml") -> DatasetConfig:
    """Read `dataset.yaml`.

    Args:
        data: The file's bytes (UTF-8); an empty file asks for nothing.
        name: What to call the file in errors.

    Raises:
        BadConfig: Not YAML, not a mapping, an unknown field (the nearest known one is suggested) or a value
            outside the allowed ones (which are listed).
    """
    return checked_config(read_yaml(data, name, _fields("")), name)


def checked_config(fields: Mapping[str, Any], name: str) -> DatasetConfig:
    """The fields of a `dataset.yaml`, checked; `name` is what to call their source in errors. Raises `BadConfig`."""
    try:
        return DatasetConfig.model_validate(fields)
    except ValidationError as error:
        raise _bad_config(name, error) from error


def read_yaml(data: bytes, name: str, fields: str) -> dict[str, Any]:
    """The fields of a YAML file (UTF-8); an empty one has none. `fields` names those that there are, for messages.

    Raises:
        BadConfig: Too large, not YAML, or not a mapping.
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
        return {}
    if not isinstance(value, dict):
        raise BadConfig(
            f"{name} holds a {type(value).__name__}, not fields.", f"Write `field: value` lines; fields: {fields}."
        )
    return value


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
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # Fields that don't go together: the message says which; there may be no one field that is wrong.
        where = f"{field}: " if field else ""
        fix = f"Use {ALLOWED[field]}." if field else "Change one of them."
        return BadConfig(f"{name}: {where}{first['msg'].removeprefix('Value error, ')}.", fix)
    return BadConfig(f"{name}: {field}: {value} isn't allowed.", f"Use {ALLOWED[field]}.")
