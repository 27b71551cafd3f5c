"""The words and value types that all parts of `dataset.yaml` share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

SupervisedTask = Literal["classification", "multilabel", "regression"]
Task = Literal[SupervisedTask, "anomaly"]
Recipe = Literal[
    "mlp",
    "cnn",
    "linear",
    "resnet",
    "vgg",
    "fasttext",
    "text-cnn",
    "rnn",
    "crnn",
    "transformer",
    "autoencoder",
    "transfer",
    "network",
]
Optimizer = Literal["adam", "adamw", "sgd", "lion"]
Loss = Literal["cross_entropy", "focal", "binary", "squared", "absolute", "huber", "reconstruction"]
ClassWeights = Literal["none", "balanced"]
Schedule = Literal["cosine", "step", "plateau", "constant"]
Compression = Literal["none", "bf16", "int8"]
LostWorkers = Literal["fail", "go_on"]
Scheme = Literal["synchronous", "local", "diloco"]
Recompute = Literal["auto", "never", "always"]
ImageFit = Literal["stretch", "pad", "cover"]
TokenUnit = Literal["word", "character"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

MIN_IMAGE_SIDE = 4
MAX_IMAGE_SIDE = 512


def _not_bool(value: object) -> object:
    """YAML 1.1 reads `yes` and `on` as booleans, and Python counts True as 1: neither is a number here."""
    if isinstance(value, bool):
        raise ValueError("a boolean isn't a number")
    return value


# PyYAML reads `1e-3` (no dot) as text, so numbers given as text are parsed.
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(min_length=1, strict=True)]
Side = Annotated[int, Field(strict=True, ge=MIN_IMAGE_SIDE, le=MAX_IMAGE_SIDE)]
