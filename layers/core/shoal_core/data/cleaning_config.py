"""The parts of `dataset.yaml` that say how data is read, cleaned, checked and augmented.

What is None is inferred from the data, or left to the default that docs/upload-contract.md names.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from shoal_core.data.config_types import Flag, ImageFit, Integer, Name, Number, TokenUnit
from shoal_core.frozen import Frozen

ColumnKind = Literal["number", "category", "boolean", "date", "text", "ignore"]
ImageColor = Literal["grey", "rgb", "hsv", "ycbcr"]
Missing = Literal["median", "mean", "mode"]


def _off(value: object) -> object:
    """YAML 1.1 reads a plain `off` as false."""
    return "off" if value is False else value


NearDuplicates = Annotated[Literal["off", "report", "drop"], BeforeValidator(_off)]
# A missing value becomes the column's median, mean or most frequent value, or this number.
Imputation = Missing | Number
MAX_TOKENS = 4096
MAX_WINDOW = 4096


class OutlierConfig(Frozen):
    """Numbers beyond these quantiles of the training split are clipped to them (winsorising)."""

    quantile: Annotated[Number, Field(gt=0, lt=0.5)] = 0.001


class ColumnConfig(Frozen):
    """What is known of one column: its type, and what goes over the whole table's settings for it."""

    type: ColumnKind | None = None
    missing: Imputation | None = None
    outliers: OutlierConfig | Literal["keep"] | None = None
    buckets: Annotated[Integer, Field(ge=2, le=1_000_000)] | None = None


class ImageConfig(Frozen):
    """How images become one size and one colour space.

    `stretch` changes the aspect ratio, `pad` fits the image and fills the rest with black, `cover` fills the size and
    crops the centre. `crop` first cuts a centred share of each side.
    """

    fit: ImageFit = "stretch"
    color: ImageColor | None = None
    crop: Annotated[Number, Field(gt=0, le=1)] = 1.0


class LabelsConfig(Frozen):
    """A table that names files and their labels: its name in the upload, and its column of file names."""

    file: Name | None = None
    column: Name | None = None


class TextConfig(Frozen):
    """How texts become token ids. With `buckets`, tokens are hashed; else a vocabulary is learnt."""

    length: Annotated[Integer, Field(ge=1, le=MAX_TOKENS)] | None = None
    unit: TokenUnit = "word"
    lowercase: Flag = True
    normalization: Literal["NFC", "NFKC"] = "NFKC"
    vocabulary: Annotated[Integer, Field(ge=2, le=200_000)] = 20_000
    buckets: Annotated[Integer, Field(ge=2, le=1_000_000)] | None = None
    ngrams: Annotated[Integer, Field(ge=1, le=3)] = 1

    @model_validator(mode="after")
    def _ngrams_are_hashed(self) -> TextConfig:
        if self.ngrams > 1 and self.buckets is None:
            raise ValueError("ngrams above 1 need `buckets`: their vocabulary has no bound")
        return self


class SequenceConfig(Frozen):
    """Windows over a table's rows: `window` rows of one `id` in the order of `time`, every `stride` rows.

    The target is the target column's value `horizon` rows after the window's last row (0: at the last row).
    """

    time: Name
    id: Name | None = None
    window: Annotated[Integer, Field(ge=2, le=MAX_WINDOW)] = 16
    stride: Annotated[Integer, Field(ge=1, le=MAX_WINDOW)] = 1
    horizon: Annotated[Integer, Field(ge=0, le=MAX_WINDOW)] = 0


class Expectation(Frozen):
    """Something that must hold, or the run stops before training with the rows that broke it.

    `column` with `min`, `max`, `values`, `unique`, `max_missing` or `pattern`; or `min_per_class` or `min_samples` of
    the whole set.
    """

    column: Name | None = None
    min: Number | None = None
    max: Number | None = None
    values: Annotated[tuple[str | Number, ...], Field(min_length=1, max_length=10_000)] | None = None
    unique: Flag | None = None
    max_missing: Annotated[Number, Field(ge=0, le=1)] | None = None
    pattern: Annotated[str, Field(max_length=500)] | None = None
    min_per_class: Annotated[Integer, Field(ge=1)] | None = None
    min_samples: Annotated[Integer, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _expects_something(self) -> Expectation:
        of_column = (self.min, self.max, self.values, self.unique, self.max_missing, self.pattern)
        of_set = (self.min_per_class, self.min_samples)
        if (self.column is None) != all(value is None for value in of_column):
            raise ValueError("min, max, values, unique, max_missing and pattern go with `column`, and need it")
        if (self.column is None) == all(value is None for value in of_set):
            raise ValueError("expect something of a column, or min_per_class or min_samples of the set")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern isn't a regular expression: {error}") from error
        return self


class AugmentConfig(Frozen):
    """What is varied at training time; None leaves it to the recipe's defaults, 0 or false turns it off.

    Images: `flip` (left and right), `shift` and `crop` (share of the side), `rotation` (degrees), `brightness`,
    `contrast` (share), `cutout` (share of the side), `mixup` (alpha). Texts: `token_dropout` (share). Tables: `noise`
    (standard deviations).
    """

    flip: Flag | None = None
    shift: Annotated[Number, Field(ge=0, le=0.5)] | None = None
    crop: Annotated[Number, Field(ge=0, le=0.5)] | None = None
    rotation: Annotated[Number, Field(ge=0, le=180)] | None = None
    brightness: Annotated[Number, Field(ge=0, le=1)] | None = None
    contrast: Annotated[Number, Field(ge=0, le=1)] | None = None
    cutout: Annotated[Number, Field(ge=0, le=0.9)] | None = None
    mixup: Annotated[Number, Field(ge=0, le=10)] | None = None
    token_dropout: Annotated[Number, Field(ge=0, le=0.9)] | None = None
    noise: Annotated[Number, Field(ge=0, le=1)] | None = None


class OptimizeConfig(Frozen):
    """What the served model may lose against the trained one for speed.

    `prune` allows channels to be left out, `int8` 8-bit weights and activations; `max_loss` is in points of the metric
    (hundredths of accuracy or F1, percent of the error); `min_agreement` is the share of answers that must stay.
    """

    prune: Flag = True
    int8: Flag = True
    max_loss: Annotated[Number, Field(ge=0, le=100)] = 0.5
    min_agreement: Annotated[Number, Field(ge=0, le=1)] = 0.99


def _labels(value: object) -> object:
    """One label or several, as they stand in the data: YAML makes numbers and booleans of some."""
    labels = value if isinstance(value, list | tuple) else [value]
    return tuple(str(label).lower() if isinstance(label, bool) else str(label) for label in labels)


class AnomalyConfig(Frozen):
    """How anomalies are told: from which score on, and which labels, where there are any, aren't anomalies.

    The threshold is the `quantile` of the scores of validation samples that aren't known as anomalies. `normal` are
    values of the target, or names of class folders.
    """

    quantile: Annotated[Number, Field(gt=0.5, lt=1)] = 0.99
    normal: Annotated[tuple[str, ...], BeforeValidator(_labels), Field(min_length=1, max_length=1000)] | None = None


PromoteMetric = Literal[
    "accuracy", "precision", "recall", "f1", "micro_f1", "roc_auc", "pr_auc", "subset_accuracy", "r2",
    "loss", "calibration_error", "hamming_loss", "rmse", "mae",
]  # fmt: skip


class PromoteConfig(Frozen):
    """When a new version takes the place of the one in production.

    With `auto` it must be better by `margin` points of `metric` (hundredths; percent of an error) on its own test
    split; `always` lets the newest serve, `never` lets it wait as `candidate`. Without `metric` it is accuracy, micro
    F1, the root mean squared error, or of anomalies ROC-AUC (without labels the loss).
    """

    mode: Literal["auto", "always", "never"] = "auto"
    metric: PromoteMetric | None = None
    margin: Annotated[Number, Field(ge=0, le=100)] = 0.0


class CardConfig(Frozen):
    """What only people know of a model: who answers for it, what it is for, and what it must not be used for."""

    owner: Annotated[str, Field(max_length=200)] = ""
    intended_use: Annotated[str, Field(max_length=4000)] = ""
    limits: Annotated[str, Field(max_length=4000)] = ""
    license: Annotated[str, Field(max_length=200)] = ""
