"""What is varied at training time: what was asked for, or what the data allows without changing a label.

`auto` is careful. It varies images with classes only, and only where the run sees every sample often enough for
variations to help. Images are moved by a pixel or two, and small ones seen a little nearer, which changes no class.
They are flipped only where that can't make another class of them: colour images of at least 32 pixels whose class names
are words, none of them about a side or a sign. So digits, letters and other grey drawings are never flipped, and
nothing is ever rotated unasked: a six stays a six. Texts lose a few words, where there are enough runs over them.
Numbers aren't touched.
"""

from __future__ import annotations

import re
from typing import Literal

from shoal_core.data.cleaning_config import AugmentConfig
from shoal_core.data.config_types import Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig

Augmentation = dict[str, float]
"""What is on, by its name in dataset.yaml; `flip` is 1."""

IMAGE_FIELDS = ("flip", "shift", "crop", "rotation", "brightness", "contrast", "cutout", "mixup")
_TEXT_FIELDS = ("token_dropout",)
_NUMBER_FIELDS = ("noise",)
_LEAST_PASSES = 8
_SHIFT, _LIGHT = 0.04, 0.1
# Where a pixel would be more than that, images are seen a little nearer instead: measured on 8x8 digits.
_CROP = 0.15
# Without order there is less to say, and more to learn by heart: measured on film reviews.
_TOKEN_DROPOUT, _BAG_DROPOUT = 0.1, 0.3
_LEAST_TEXT_PASSES = 3
_LEAST_FLIPPED_SIDE = 32
# Names of classes that another class may be the mirror image of, or whose pictures hold characters.
_SIDED = re.compile(
    r"left|right|east|west|clockwise|forward|backward|arrow|turn|sign|letter|digit|number|character|symbol|text", re.I
)
_WORD = re.compile(r"[^\W\d_]{3,}")


def resolve_augmentation(
    asked: AugmentConfig | Literal["auto", "none"],
    manifest: Manifest,
    epochs: int,
    loss: str,
    recipe: Recipe | None = None,
) -> tuple[Augmentation, str | None]:
    """What a run varies.

    Args:
        asked: What was asked for.
        manifest: The dataset version.
        epochs: How often the run sees every sample.
        loss: The run's loss.
        recipe: The run's recipe.

    Returns:
        What is on, and why `auto` decided so; None where nothing was left to it.

    Raises:
        BadConfig: Something was asked for that the data, or the loss, can't have.
    """
    if asked == "none":
        return {}, None
    if recipe == "transfer":
        return _of_features(asked, manifest)
    chosen, why = _automatic(manifest, epochs, recipe)
    if isinstance(asked, AugmentConfig):
        given = {name: float(value) for name, value in asked.model_dump(exclude_none=True).items()}
        _require_fitting(manifest, given, loss)
        chosen = chosen | given
    return {name: value for name, value in chosen.items() if value}, why


def _of_features(asked: AugmentConfig | Literal["auto"], manifest: Manifest) -> tuple[Augmentation, str]:
    """Features are computed once, so nothing varies from step to step; mirror images can be samples of their own."""
    if asked == "auto":
        more = "; `augment: {flip: true}` adds every training image's mirror image" if manifest.spec.image else ""
        return {}, f"Nothing is varied: a backbone's features are computed once{more}."
    given = [name for name, value in asked.model_dump(exclude_none=True).items() if value]
    fitting = ["flip"] if manifest.spec.image else []
    strange = [name for name in given if name not in fitting]
    if strange:
        raise BadConfig(
            f"dataset.yaml: augment.{strange[0]} can't be had with a backbone, whose features are computed once.",
            "Leave it out; flip: true adds mirror images." if fitting else "Leave it out.",
        )
    if not given:
        return {}, "Nothing is varied, as asked."
    return {"flip": 1.0}, "Every training image is there twice: as it is, and as its mirror image."


def may_be_flipped(manifest: Manifest) -> bool:
    """Whether the mirror image of every sample is surely of the same class."""
    image, target = manifest.spec.image, manifest.spec.target
    if image is None or target.task != "classification" or image.channels == 1:
        return False
    if min(image.height, image.width) < _LEAST_FLIPPED_SIDE:
        return False
    return all(_WORD.search(name) and not _SIDED.search(name) for name in target.classes)


def _automatic(manifest: Manifest, epochs: int, recipe: Recipe | None) -> tuple[Augmentation, str | None]:
    spec = manifest.spec
    if spec.target.task == "anomaly":
        return {}, "Nothing is varied: a varied sample might be what is to be found unusual."
    if spec.table and spec.table.texts:
        if epochs < _LEAST_TEXT_PASSES:
            return {}, f"Every text is seen {epochs} times: too few for variations to help."
        share = _BAG_DROPOUT if recipe == "fasttext" else _TOKEN_DROPOUT
        return {"token_dropout": share}, "Texts say the same without a few of their words."
    if spec.image is None:
        return {}, None
    if spec.target.task != "classification":
        return {}, "Nothing is varied: where a thing lies may be part of the answer."
    if epochs < _LEAST_PASSES:
        return {}, f"Every image is seen {epochs} times: too few for variations to help."
    chosen: Augmentation = {}
    if min(spec.image.height, spec.image.width) * _SHIFT >= 1:
        chosen["shift"] = _SHIFT
    else:
        chosen["crop"] = _CROP
    if spec.image.channels == 3:
        chosen |= {"brightness": _LIGHT, "contrast": _LIGHT}
    if may_be_flipped(manifest):
        return chosen | {"flip": 1.0}, "Colour images whose classes are words without a side look alike in a mirror."
    return chosen, "No flips and rotations: a mirror image might belong to another class. Ask for them with `augment`."


def _require_fitting(manifest: Manifest, given: Augmentation, loss: str) -> None:
    spec = manifest.spec
    fitting: tuple[str, ...] = ()
    if spec.image is not None:
        fitting = IMAGE_FIELDS
    elif spec.sequence is not None and spec.sequence.numbers:
        fitting = _NUMBER_FIELDS
    elif spec.table is not None:
        fitting = (*(_TEXT_FIELDS if spec.table.texts else ()), *(_NUMBER_FIELDS if spec.table.number_names else ()))
    for name, value in given.items():
        if value and name not in fitting:
            known = f"this data takes {', '.join(fitting)}" if fitting else "this data takes none"
            raise BadConfig(f"dataset.yaml: augment.{name} means nothing for this data.", f"Leave it out; {known}.")
    if given.get("mixup") and loss == "focal":
        raise BadConfig("dataset.yaml: augment.mixup doesn't go with the loss focal.", "Leave one of them out.")
