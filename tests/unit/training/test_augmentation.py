"""What `auto` varies, what it leaves alone and why, and what is refused."""

from __future__ import annotations

import pytest

from shoal_core.data.cleaning_config import AugmentConfig
from shoal_core.data.config import DatasetConfig, TrainingConfig
from shoal_core.data.manifest import Manifest
from shoal_core.data.spec import ImageInput, PreprocessingSpec, TargetSpec
from shoal_core.errors import BadConfig
from shoal_core.training.augmentation import may_be_flipped, resolve_augmentation
from shoal_core.training.settings import resolve_settings
from shoal_core.training.showing import shown_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    blobs,
    commit,
    drawings,
    image_spec,
    profile_spec,
    profiles,
    reviews,
    sequence_spec,
    table_spec,
    text_spec,
    waves,
)

PHOTOS = ("cat", "dog", "horse")
DATA = {
    "text": (text_spec(), reviews),
    "sequence": (sequence_spec(), waves),
    "table": (table_spec(), blobs),
    "labels": (profile_spec(), profiles),
    "image": (image_spec(), drawings),
}


def manifest_of(kind: str, augment: object = "auto", epochs: int = 20) -> Manifest:
    spec, make = DATA[kind]
    config = DatasetConfig(augment=augment, training=TrainingConfig(epochs=epochs))
    splits = {"train": make(240), "validation": make(30, seed=1), "test": make(30, seed=2)}
    return commit(MemoryStore(), spec, splits, config=config)


def images(side: int, channels: int, classes: tuple[str, ...], task: str = "classification") -> Manifest:
    spec = PreprocessingSpec(
        kind="image",
        image=ImageInput(height=side, width=side, channels=channels),
        target=TargetSpec(task=task, classes=classes),
    )
    return manifest_of("image").model_copy(update={"spec": spec})


@pytest.mark.parametrize(
    ("side", "channels", "classes", "flipped"),
    [
        (64, 3, PHOTOS, True),
        (64, 1, PHOTOS, False),
        (16, 3, PHOTOS, False),
        (64, 3, ("6", "9"), False),
        (64, 3, ("b", "d"), False),
        (64, 3, ("turn_left", "turn_right"), False),
        (64, 3, ("Speed limit sign", "tree"), False),
        (64, 3, ("class 1", "class 2"), True),
    ],
)
def test_images_are_flipped_only_where_no_class_is_the_mirror_image_of_another(side, channels, classes, flipped):
    manifest = images(side, channels, classes)
    assert may_be_flipped(manifest) == flipped
    assert ("flip" in resolve_augmentation(manifest.config.augment, manifest, 20, "cross_entropy")[0]) == flipped


def test_digits_are_only_shifted_and_never_turned():
    digits = images(28, 1, tuple("0123456789"))
    found, why = resolve_augmentation("auto", digits, 20, "cross_entropy")
    assert found == {"shift": 0.04}
    assert why is not None and "No flips and rotations" in why
    # A pixel of eight is an eighth of a digit: small images are seen a little nearer instead.
    assert resolve_augmentation("auto", images(8, 1, tuple("0123456789")), 20, "cross_entropy")[0] == {"crop": 0.15}


def test_few_passes_need_no_variations():
    assert resolve_augmentation("auto", images(64, 3, PHOTOS), 3, "cross_entropy")[0] == {}
    assert resolve_augmentation("auto", manifest_of("text"), 2, "cross_entropy")[0] == {}


def test_where_a_thing_lies_may_be_the_answer():
    for task in ("regression", "multilabel"):
        assert resolve_augmentation("auto", images(64, 3, PHOTOS, task), 20, "binary")[0] == {}


def test_the_choice_is_shown_with_its_reason():
    manifest = manifest_of("text")
    settings, inferred = resolve_settings(manifest.config, manifest)
    shown = shown_settings(settings, manifest)
    assert "augment" in inferred and shown["augment"] == settings.augment == {"token_dropout": 0.3}
    assert set(shown["reasons"]) == {"augment", "recipe"}
    assert shown_settings(resolve_settings(DatasetConfig(), manifest_of("table"))[0], manifest)["augment"] == "none"


def test_what_is_asked_for_goes_over_auto():
    manifest = images(64, 3, PHOTOS).model_copy(
        update={"config": DatasetConfig(augment=AugmentConfig(flip=False, rotation=10, brightness=0.3))}
    )
    found, _ = resolve_augmentation(manifest.config.augment, manifest, 20, "cross_entropy")
    assert found == {"shift": 0.04, "contrast": 0.1, "brightness": 0.3, "rotation": 10.0}
    assert "augment" not in resolve_settings(manifest.config, manifest)[1]


@pytest.mark.parametrize(
    ("kind", "asked", "message"),
    [
        ("table", {"flip": True}, r"augment\.flip means nothing.*takes noise"),
        ("text", {"noise": 0.1}, r"augment\.noise means nothing.*takes token_dropout"),
        ("sequence", {"token_dropout": 0.1}, r"augment\.token_dropout"),
        ("image", {"noise": 0.1}, r"takes flip, shift"),
    ],
)
def test_what_the_data_cannot_have_is_refused(kind, asked, message):
    manifest = manifest_of(kind, AugmentConfig(**asked))
    with pytest.raises(BadConfig, match=message):
        resolve_settings(manifest.config, manifest)
    nothing = manifest_of(kind, AugmentConfig(**{name: type(value)(0) for name, value in asked.items()}))
    assert "noise" not in resolve_settings(nothing.config, nothing)[0].augment


def test_mixup_and_focal_do_not_go_together():
    manifest = manifest_of("image", AugmentConfig(mixup=0.2))
    with pytest.raises(BadConfig, match="mixup doesn't go with the loss focal"):
        resolve_augmentation(manifest.config.augment, manifest, 20, "focal")
    assert resolve_augmentation(manifest.config.augment, manifest, 20, "cross_entropy")[0] == {
        "crop": 0.15,
        "mixup": 0.2,
    }


def test_a_table_with_texts_may_have_noise_and_dropped_tokens():
    found, _ = resolve_augmentation(AugmentConfig(noise=0.1), manifest_of("labels"), 20, "binary")
    assert found == {"noise": 0.1, "token_dropout": 0.1}
