import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS
from shoal_core.data.splits import content_hash, split_indices, split_of, split_position


def test_shares_are_kept():
    split = SplitConfig(validation=0.2, test=0.1)
    sides = [split_of(split_position(0, content_hash(str(n).encode())), split) for n in range(5000)]
    shares = [sides.count(side) / 5000 for side in SPLITS]
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.02)


def test_no_share_no_samples():
    split = SplitConfig(validation=0, test=0)
    assert {split_of(split_position(0, content_hash(bytes([n]))), split) for n in range(200)} == {"train"}


def test_the_seed_changes_the_side():
    hashes = [content_hash(bytes([n])) for n in range(100)]
    assert [split_position(0, each) for each in hashes] != [split_position(1, each) for each in hashes]


@given(st.binary(), st.binary())
def test_parts_do_not_run_together(left, right):
    assert content_hash(left, right) != content_hash(left + right)
    assert len(content_hash(left)) == 16


def test_indices_agree_with_names():
    split = SplitConfig()
    positions = np.array([0, 2**52, 2**53 - 1, int(0.2 * 2**53)], np.int64)
    assert [SPLITS[i] for i in split_indices(positions, split)] == ["test", "train", "train", "validation"]
