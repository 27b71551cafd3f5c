"""What varies a batch: exactly what was asked for, the same in every repetition, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.cleaning_config import AugmentConfig
from shoal_core.data.config import DatasetConfig
from shoal_core.training.augmenting import (
    Augmenter,
    cut_images,
    drop_tokens,
    light_images,
    mix_samples,
    move_images,
    soft_targets,
)
from shoal_core.training.settings import resolve_settings
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import (
    commit,
    drawings,
    image_spec,
    profile_spec,
    profiles,
    reviews,
    sequence_spec,
    text_spec,
    waves,
)

KINDS = {
    "image": (image_spec(), drawings, AugmentConfig(flip=True, shift=0.2, rotation=20, brightness=0.2, cutout=0.3)),
    "mixed": (image_spec(), drawings, AugmentConfig(mixup=0.4, crop=0.3)),
    "text": (text_spec(), reviews, AugmentConfig(token_dropout=0.5)),
    "sequence": (sequence_spec(), waves, AugmentConfig(noise=0.5)),
    "labels": (profile_spec(), profiles, AugmentConfig(noise=0.5, token_dropout=0.2)),
}


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def augmenter(kind: str, seed: int = 0, worker: int = 0) -> Augmenter:
    spec, make, asked = KINDS[kind]
    manifest = commit(MemoryStore(), spec, {"train": make(90)}, config=DatasetConfig(augment=asked, seed=seed))
    settings, _ = resolve_settings(manifest.config, manifest)
    return Augmenter(settings, manifest, worker)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_varied_the_same_whenever_it_is_repeated(kind):
    make = KINDS[kind][1]
    found = augmenter(kind).prepare(make(20), 3)
    again = augmenter(kind).prepare(make(20), 3)
    assert all(np.array_equal(found[name], again[name], equal_nan=True) for name in found)
    raw = make(20)
    changed = {name for name in raw if name != "target" and not np.array_equal(found[name], raw[name], equal_nan=True)}
    assert changed
    others = [augmenter(kind, seed=1), augmenter(kind, worker=1), augmenter(kind)]
    for other, step in zip(others, (3, 3, 4), strict=True):
        told = other.prepare(make(20), step)
        assert any(not np.array_equal(found[name], told[name], equal_nan=True) for name in changed)
    assert all(found[name].dtype == raw[name].dtype and found[name].shape == raw[name].shape for name in changed)


def test_a_batch_is_left_alone_where_nothing_is_varied():
    manifest = commit(MemoryStore(), image_spec(), {"train": drawings(90)}, config=DatasetConfig(augment="none"))
    settings, _ = resolve_settings(manifest.config, manifest)
    batch = drawings(20)
    found = Augmenter(settings, manifest, 0).prepare(drawings(20), 1)
    assert settings.augment == {} and "augment" not in settings.inferred
    assert all(np.array_equal(found[name], batch[name]) for name in batch)


def test_targets_are_what_the_loss_takes():
    assert augmenter("labels").prepare(profiles(7), 0)["target"].dtype == np.float32
    mixed = augmenter("mixed").prepare(drawings(7), 0)["target"]
    assert (mixed.dtype, mixed.shape) == (np.float32, (7, 3))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    assert augmenter("image").prepare(drawings(7), 0)["target"].dtype == np.int64
    spec, make, asked = KINDS["mixed"]
    manifest = commit(MemoryStore(), spec, {"train": make(90)}, config=DatasetConfig(augment=asked))
    assert soft_targets(resolve_settings(manifest.config, manifest)[0])


def pictures(count: int = 40, channels: int = 2, height: int = 12, width: int = 9) -> np.ndarray:
    return random().integers(0, 256, (count, channels, height, width)).astype(np.uint8)


def test_flips_are_mirror_images_of_about_half():
    images = pictures(400)
    found = move_images(images, {"flip": 1.0}, random())
    mirrored = np.array([np.array_equal(a, b[..., ::-1]) for a, b in zip(found, images, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(found, images, strict=True)])
    assert (mirrored | same).all() and 160 < mirrored.sum() < 240


def test_shifts_continue_the_edge():
    images = pictures()
    found = move_images(images, {"shift": 0.25}, random())
    places = set()
    for image, moved in zip(images, found, strict=True):
        padded = np.pad(image, ((0, 0), (3, 3), (2, 2)), mode="edge")
        fits = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-2, 3)
            if np.array_equal(padded[:, 3 - down : 15 - down, 2 - right : 11 - right], moved)
        ]
        assert fits
        places.add(fits[0])
    assert len(places) > 15


def test_a_crop_of_nothing_and_no_angle_change_nothing():
    images = pictures()
    np.testing.assert_array_equal(move_images(images, {"crop": 0.0, "rotation": 0.0}, random()), images)


def test_a_rotation_keeps_the_middle_and_turns_the_rest():
    image = np.zeros((60, 1, 21, 21), np.uint8)
    image[:, :, 10, 10:] = 200
    found = move_images(image, {"rotation": 180}, random())
    assert (found[:, 0, 10, 10] >= 190).all()
    y, x = np.mgrid[-10:11, -10:11]
    weights = found[:, 0].astype(float)
    angles = np.arctan2((weights * y).sum((1, 2)), (weights * x).sum((1, 2)))
    assert angles.min() < -2 and angles.max() > 2


def test_a_crop_shows_a_part_of_the_image():
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8) * 6, (50, 1, 40, 40))
    found = move_images(np.ascontiguousarray(ramp), {"crop": 0.5}, random())[:, 0, 0].astype(int)
    spans = found[:, -1] - found[:, 0]
    assert (np.diff(found, axis=1) >= 0).all()
    assert spans.min() >= 0.45 * 234 and spans.max() <= 234 and np.ptp(spans) > 60


def test_light_keeps_to_its_shares():
    images = pictures().clip(60, 180)
    found = light_images(images, 0.2, 0.0, random()).astype(float)
    ratio = found / images
    assert ratio.min() > 0.79 and ratio.max() < 1.21 and np.ptp(ratio.mean((1, 2, 3))) > 0.2
    hard = light_images(images, 0.0, 0.5, random()).astype(float)
    np.testing.assert_allclose(hard.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1.5)
    assert np.ptp(hard.std((1, 2, 3)) / images.std((1, 2, 3))) > 0.5
    np.testing.assert_array_equal(light_images(images, 0.0, 0.0, random()), images)


@given(st.floats(0.05, 0.9), st.integers(4, 20), st.integers(4, 20))
def test_a_cut_covers_one_rectangle(share, height, width):
    images = np.full((6, 2, height, width), 255, np.uint8)
    cut_images(images, share, np.array([10.2, 20.7]), random())
    for image in images:
        covered = image[0] == 10
        assert np.array_equal(covered, image[1] == 21) and set(np.unique(image)) <= {10, 21, 255}
        rows, columns = covered.any(axis=1).sum(), covered.any(axis=0).sum()
        assert covered.sum() == rows * columns == round(share * height) * round(share * width)


def test_mixed_samples_have_mixed_targets():
    images = np.array([0, 100, 200], np.uint8).reshape(3, 1, 1, 1) + np.zeros((3, 1, 4, 4), np.uint8)
    shares = np.eye(3, dtype=np.float32)
    found, target = mix_samples(images, shares, 1.0, random(3))
    np.testing.assert_allclose(found[:, 0, 0, 0], target @ [0, 100, 200], atol=0.51)
    values, numbers = mix_samples(images, np.float32([0, 1, 2]), 1.0, random(3))
    np.testing.assert_allclose(values[:, 0, 0, 0] / 100, numbers, atol=0.006)
    many = mix_samples(np.repeat(images, 20, axis=0), np.repeat(shares, 20, axis=0), 1.0, random(3))[1]
    assert many.max(axis=1).min() < 0.6 and np.ptp(many.max(axis=1)) > 0.3


def test_dropped_tokens_become_unknown_and_padding_stays():
    tokens = random().integers(0, 50, (200, 30)).astype(np.int32)
    found = tokens.copy()
    drop_tokens(found, 0.3, random(1))
    changed = found != tokens
    assert (found[changed] == 1).all() and (tokens[changed] > 1).all()
    assert 0.27 < changed[tokens > 1].mean() < 0.33


def test_noise_is_in_standard_deviations_and_missing_stays_missing():
    make = waves(300)
    found = augmenter("sequence").prepare(waves(300), 0)["sequence"]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(make["sequence"]))
    moved = np.nanstd(found - make["sequence"], axis=(0, 1)) / np.nanstd(make["sequence"], axis=(0, 1))
    np.testing.assert_allclose(moved, 0.5, rtol=0.1)
