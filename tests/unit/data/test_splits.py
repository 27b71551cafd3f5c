import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS
from shoal_core.data.pieces import hash_array
from shoal_core.data.sides import TEST, TRAIN, VALIDATION, SideRule, time_cuts
from shoal_core.data.splits import END, content_hash, split_bounds, split_indices, split_of, split_positions

HASHES = hash_array([content_hash(str(number).encode()) for number in range(20_000)])


def test_shares_are_kept():
    split = SplitConfig(validation=0.2, test=0.1)
    sides = split_indices(split_positions(0, HASHES), split)
    np.testing.assert_allclose(np.bincount(sides) / len(HASHES), [0.7, 0.2, 0.1], atol=0.01)


def test_positions_are_even_and_independent_of_one_another():
    positions = split_positions(0, HASHES)
    assert positions.min() >= 0 and positions.max() < END
    counts = np.bincount((positions * 20 // END).astype(int), minlength=20)
    assert abs(counts - 1000).max() < 150
    # Hashes that differ in one bit land anywhere.
    near = np.zeros((64, 16), np.uint8)
    near[np.arange(64), 8 + np.arange(64) // 8] = 1 << (np.arange(64) % 8)
    assert np.unique(split_positions(0, near) * 16 // END).size > 8


def test_positions_of_known_hashes_never_change():
    assert split_positions(0, HASHES[:2]).tolist() == [8828272140983227, 8605997539089582]
    assert split_positions(7, HASHES[:1]).tolist() == [6987380289575179]


def test_no_share_no_samples():
    split = SplitConfig(validation=0, test=0)
    assert set(split_indices(split_positions(0, HASHES), split).tolist()) == {TRAIN}


def test_the_seed_changes_the_side():
    assert (split_positions(0, HASHES) != split_positions(1, HASHES)).all()


@given(st.binary(), st.binary())
def test_parts_do_not_run_together(left, right):
    assert content_hash(left, right) != content_hash(left + right)
    assert len(content_hash(left)) == 16


@given(st.floats(0, 0.5), st.floats(0, 0.4), st.lists(st.integers(0, END - 1), max_size=20))
def test_indices_agree_with_names(validation, test, positions):
    split = SplitConfig(validation=validation, test=test)
    edges = [edge + step for edge in split_bounds(split) for step in (-1, 0) if 0 <= edge + step < END]
    positions = np.array([*positions, *edges, 0, END - 1], np.int64)
    assert [SPLITS[i] for i in split_indices(positions, split)] == [split_of(int(at), split) for at in positions]


def test_a_group_decides_alone():
    rule = SideRule(SplitConfig(group="who"), 0)
    keys = {"group": np.repeat(HASHES[:500], 4, axis=0), "feature_hash": HASHES[:2000]}
    sides = rule.of(keys).reshape(-1, 4)
    assert (sides == sides[:, :1]).all()
    np.testing.assert_allclose(np.bincount(sides[:, 0]) / 500, [0.7, 0.15, 0.15], atol=0.05)
    moved = SideRule(SplitConfig(group="who"), 0, moves={HASHES[3].tobytes(): TEST}).of(keys).reshape(-1, 4)
    assert set(moved[3].tolist()) == {TEST} and (np.delete(moved, 3, 0) == np.delete(sides, 3, 0)).all()


@given(st.lists(st.integers(0, 60) | st.none(), min_size=1, max_size=200), st.floats(0, 0.4), st.floats(0, 0.4))
def test_the_newest_are_held_out(times, validation, test):
    split = SplitConfig(time="when", validation=validation, test=test)
    values = np.array([np.nan if time is None else time for time in times])
    sides = SideRule(split, 0, time_cuts(values, split)).of({"time": values, "feature_hash": HASHES[: len(values)]})
    assert (sides[np.isnan(values)] == TRAIN).all()
    known = np.sort(values[~np.isnan(values)])
    by_time = {side: values[(sides == side) & ~np.isnan(values)] for side in (TRAIN, VALIDATION, TEST)}
    for older, newer in ((TRAIN, VALIDATION), (VALIDATION, TEST), (TRAIN, TEST)):
        if len(by_time[older]) and len(by_time[newer]):
            assert by_time[older].max() < by_time[newer].min()
    if len(known) == len(set(known.tolist())):
        assert len(by_time[TEST]) == round(test * len(known))


def test_times_in_order_have_exact_shares():
    times = np.arange(1000.0)
    split = SplitConfig(time="when", validation=0.2, test=0.1)
    assert time_cuts(times, split) == (700.0, 900.0)
