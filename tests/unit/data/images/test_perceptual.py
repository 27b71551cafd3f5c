import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shoal_core.data.images.perceptual import LIKENESS, NEAR_WORDS, near_groups, near_hashes
from tests.unit.data.images.cases import photo, save, scans


def large(height: int = 64, width: int = 64) -> np.ndarray:
    """Different views of one picture: uint8 [N,3,H,W]."""
    source = Image.fromarray(photo(192, 288))
    views = [source.crop((left, top, left + 96, top + 96)) for left in range(0, 192, 24) for top in range(0, 96, 24)]
    return np.stack([np.asarray(view.resize((width, height))) for view in views]).transpose(0, 3, 1, 2)


def grouped(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def copies(image: Image.Image) -> dict[str, Image.Image]:
    noise = np.random.default_rng(0).normal(0, 3, (image.height, image.width, 3))
    jpeg = Image.open(io.BytesIO(save(image, "JPEG", quality=60)))
    return {
        "jpeg": jpeg,
        "half the size": image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
        "twice the size": image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
        "noise": Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)),
        "brighter": Image.fromarray((np.asarray(image) * 0.94 + 8).astype(np.uint8)),
    }


def fitted(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ["jpeg", "half the size", "twice the size", "noise", "brighter"])
def test_copies_are_near(kind):
    source = Image.fromarray(photo(192, 288))
    hashes = near_hashes(np.stack([fitted(source), fitted(copies(source)[kind])]))
    assert len(set(near_groups(hashes).tolist())) == 1


def test_different_views_and_real_digits_are_not_near():
    assert len(set(near_groups(near_hashes(large())).tolist())) == len(large())
    digits = np.unique(np.stack(scans()), axis=0)[:, np.newaxis]
    assert len(set(near_groups(near_hashes(digits)).tolist())) == len(digits)


def test_another_colour_of_the_same_shape_is_not_near():
    shape = np.zeros((1, 3, 32, 32), np.uint8)
    shape[:, 0, 8:20, 4:28] = 200
    other = shape[:, [1, 0, 2]]
    assert len(set(near_groups(near_hashes(np.concatenate([shape, other]))).tolist())) == 2


def test_flat_images_are_near_to_equal_ones_only():
    flat = np.repeat(np.array([0, 0, 1, 200], np.uint8), 64).reshape(4, 1, 8, 8)
    assert grouped(near_groups(near_hashes(flat))) == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_hashes_do_not_depend_on_the_batch():
    images = large()
    one_by_one = np.concatenate([near_hashes(images[index : index + 1]) for index in range(len(images))])
    np.testing.assert_array_equal(near_hashes(images), one_by_one)
    assert one_by_one.shape == (len(images), NEAR_WORDS) and one_by_one.dtype == np.uint64


@pytest.mark.parametrize("color", ["hsv", "ycbcr"])
def test_other_colour_spaces_go_by_their_brightness(color):
    mode = {"hsv": "HSV", "ycbcr": "YCbCr"}[color]
    turned = np.asarray(Image.fromarray(photo()).convert(mode)).transpose(2, 0, 1)[np.newaxis]
    channel = {"hsv": 2, "ycbcr": 0}[color]
    assert near_hashes(turned, color)[0, 0] == near_hashes(turned[:, channel : channel + 1])[0, 0]


def wave(sketch: np.ndarray) -> np.ndarray:
    """Hashes with given first words and sketches that are all alike, so that only the bits count."""
    words = np.zeros((len(sketch), NEAR_WORDS), np.uint64)
    words[:, 0] = sketch
    words[:, 1] = 1
    return words


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=7)), max_size=30),
    st.integers(0, 8),
    st.randoms(use_true_random=False),
)
def test_groups_are_those_of_comparing_all_with_all_in_any_order(seeds, flips, bits, random):
    values = list(seeds)
    for index, places in flips:
        values.append(values[index % len(values)] ^ sum(1 << place for place in places))
    random.shuffle(values)
    expected = [{index} for index in range(len(values))]
    for one in range(len(values)):
        for two in range(one):
            if (values[one] ^ values[two]).bit_count() <= bits and expected[one] is not expected[two]:
                merged = expected[one] | expected[two]
                for member in merged:
                    expected[member] = merged
    groups = near_groups(wave(np.array(values, np.uint64)), bits)
    assert grouped(groups) == {frozenset(group) for group in expected}
    assert all(groups[group] == group for group in groups.tolist())


def test_many_hashes_and_long_chains():
    random = np.random.default_rng(1)
    words = random.integers(0, 2**63, 20_000, np.uint64)
    chain = np.array([(1 << length) - 1 for length in range(64)], np.uint64)
    groups = near_groups(wave(np.concatenate([words, chain])), 2)
    assert len(np.unique(groups)) == 20_001
    assert len(np.unique(groups[20_000:])) == 1


def test_no_images():
    assert near_groups(np.empty((0, NEAR_WORDS), np.uint64)).shape == (0,)
    assert 0.999 < LIKENESS < 1
