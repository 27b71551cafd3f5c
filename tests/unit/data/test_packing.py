import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_core.data import assigning, near_duplicates, packing
from shoal_core.data.assigning import MAX_PACK_ITEMS, assign_samples, pack_items
from shoal_core.data.assignment import Assignment
from shoal_core.data.config import SplitConfig
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.sides import TEST, SideRule
from shoal_core.errors import BadInput, NotFound
from tests.support.stores import MemoryStore
from tests.unit.data.builders import KEYS
from tests.unit.data.synthetic import Synthetic, hashes, samples

ANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Small, so that one example takes some 20 ms and many can be tried.
FEW = 100
CUTS = st.lists(st.integers(0, FEW), max_size=5)
SHARD_BYTES = st.integers(150, 1500)
LABELS = np.arange(400) % 2


def many(count: int = FEW, distinct: int = 40, seed: int = 0, **extra: object):
    random = np.random.default_rng(seed)
    features = random.integers(0, distinct, count)
    return samples(features, random.integers(0, 2, count), **extra)


@ANY
@given(cuts=CUTS, seed=st.integers(0, 99), large=st.booleans(), shard=SHARD_BYTES)
def test_any_cut_gives_the_same_shards_and_manifest(monkeypatch, cuts, seed, large, shard):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 10 if large else 1000)
    monkeypatch.setattr(assigning, "SHARD_BYTES", shard)
    whole = Synthetic(monkeypatch, many(seed=seed), split={"validation": 0.2, "test": 0.2})
    other = Synthetic(monkeypatch, many(seed=seed), cuts, split={"validation": 0.2, "test": 0.2})
    manifest = whole.run()
    assert other.run() == manifest
    shards = {key for key in whole.artifacts.objects if "/shard-" in key}
    assert shards == {key for key in other.artifacts.objects if "/shard-" in key}
    assert all(whole.artifacts.objects[key] == other.artifacts.objects[key] for key in shards)
    assert whole.report.model_copy(update={"drops": other.report.drops}) == other.report


@ANY
@given(large=st.booleans(), shard=SHARD_BYTES)
def test_the_samples_dont_depend_on_how_many_shards_there_are(monkeypatch, large, shard):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 10 if large else 1000)
    one, many_ = Synthetic(monkeypatch, many()), Synthetic(monkeypatch, many(), [30, 60])
    first = one.run()
    monkeypatch.setattr(assigning, "SHARD_BYTES", shard)
    second = many_.run()
    assert first.statistics == second.statistics and first.class_counts == second.class_counts
    for split in ("train", "validation", "test"):
        assert one.features(first, split) == many_.features(second, split)


def test_each_distinct_row_is_there_once(monkeypatch):
    tensors = many(400, 150)
    case = Synthetic(monkeypatch, tensors, [37, 250])
    manifest = case.run()
    rows = {(int(a), int(y)) for a, y in zip(tensors["numbers"][:, 0], tensors["target"], strict=True)}
    kept = [value for split in ("train", "validation", "test") for value in case.features(manifest, split)]
    assert len(kept) == len(rows) == case.report.kept
    assert case.report.duplicates == 400 - len(rows)
    sets = [set(case.features(manifest, split)) for split in ("train", "validation", "test")]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


@ANY
@given(cuts=CUTS, seed=st.integers(0, 99), large=st.booleans(), shard=SHARD_BYTES)
def test_a_group_lies_on_one_side_and_no_duplicate_on_both(monkeypatch, cuts, seed, large, shard):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 10 if large else 1000)
    monkeypatch.setattr(assigning, "SHARD_BYTES", shard)
    group = np.random.default_rng(seed).integers(0, 20, FEW)
    tensors = many(distinct=60, seed=seed, group=group, row=group)
    case = Synthetic(monkeypatch, tensors, cuts, split={"group": "who"})
    manifest = case.run()
    rule = SideRule(SplitConfig(group="who"), 0)
    sides = rule.of(tensors)
    by_side = [set(tensors["numbers"][sides == side, 0].astype(int).tolist()) for side in range(3)]
    train, validation, test = (set(case.features(manifest, split)) for split in ("train", "validation", "test"))
    assert train == by_side[0]
    assert validation == by_side[1] - by_side[0]
    assert test == by_side[2] - by_side[1] - by_side[0]
    left = sum(len(np.unique(tensors["row_hash"][sides == side], axis=0)) for side in range(3))
    kept = sum(manifest.samples.values())
    assert case.report.drops.counts.get("other_split", 0) == left - kept
    for drop in case.report.drops.examples:
        if drop.code == "other_split":
            assert "has the features of 'line " in drop.reason and drop.reason.endswith(" split.")


@ANY
@given(cuts=CUTS, seed=st.integers(0, 99))
def test_the_newest_rows_are_held_out(monkeypatch, cuts, seed):
    time = np.random.default_rng(seed).permutation(FEW).astype(float)
    tensors = samples(range(FEW), LABELS[:FEW], time=time)
    case = Synthetic(monkeypatch, tensors, cuts, split={"time": "when", "validation": 0.2, "test": 0.1})
    manifest = case.run()
    assert manifest.samples == {"train": 70, "validation": 20, "test": 10}
    assert set(case.features(manifest, "test")) == set(np.flatnonzero(time >= 90).tolist())
    assert set(case.features(manifest, "validation")) == set(np.flatnonzero((time >= 70) & (time < 90)).tolist())


def test_the_newest_rows_of_a_large_set_are_about_the_share(monkeypatch):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 100)
    time = np.random.default_rng(5).permutation(20_000).astype(np.int64)
    found = []
    for cuts in ([], [1, 5000, 5001]):
        case = Synthetic(
            monkeypatch, samples(range(20_000), np.arange(20_000) % 2, time=time), cuts, split={"time": "t"}
        )
        found.append(case.run())
        np.testing.assert_allclose(found[-1].samples["test"] / 20_000, 0.15, atol=0.04)
        assert min(time[case.features(found[-1], "test")]) > max(time[case.features(found[-1], "validation")])
    assert found[0] == found[1]


@ANY
@given(cuts=CUTS, seed=st.integers(0, 99))
def test_labels_of_several_classes_are_counted_each(monkeypatch, cuts, seed):
    target = np.random.default_rng(seed).integers(0, 2, (FEW, 3)).astype(np.uint8)
    case = Synthetic(monkeypatch, samples(range(FEW), target), cuts)
    manifest = case.run()
    counts = [sum(by[label] for by in manifest.class_counts.values()) for label in "abc"]
    assert counts == target.sum(axis=0).tolist()
    assert manifest.statistics.classes == manifest.class_counts["train"]


def test_a_label_without_a_training_sample_gets_one(monkeypatch):
    features = np.arange(40)
    held = features[SideRule(SplitConfig(), 0).of(samples(features, LABELS[:40])) == TEST][0]
    target = np.ones((40, 3), np.uint8)
    target[:, 2] = features == held
    case = Synthetic(monkeypatch, samples(features, target))
    manifest = case.run()
    assert held in case.features(manifest, "train") and manifest.class_counts["train"]["c"] == 1


def test_a_rare_class_of_a_large_set_trains_wherever_it_lies(monkeypatch):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 100)
    monkeypatch.setattr(assigning, "SHARD_BYTES", 20_000)
    features = np.arange(5000)
    sides = SideRule(SplitConfig(), 0).of(samples(features, features % 2))
    rare = features[sides == TEST][7]
    case = Synthetic(monkeypatch, samples(features, (features == rare).astype(np.int64)), [999, 2500])
    manifest = case.run()
    assert manifest.class_counts["train"]["p"] == 1 and rare in case.features(manifest, "train")
    assert len(manifest.train) > 2 and case.report.kept == 5000
    assert any("'p' has one sample" in warning for warning in case.report.warnings)
    (move,) = Assignment.decode(case.artifacts.read(KEYS.assignment)).moves
    assert move.unit == hashes(np.array([[rare]])).tobytes().hex()


def test_shards_of_a_large_set_are_about_even(monkeypatch):
    monkeypatch.setattr(assigning, "EXACT_SAMPLES", 100)
    monkeypatch.setattr(assigning, "SHARD_BYTES", 12 * 2000)
    random = np.random.default_rng(0)
    features = np.concatenate([np.arange(60_000), random.integers(0, 60_000, 60_000)])
    case = Synthetic(monkeypatch, samples(features, features % 2), [50_000])
    manifest = case.run()
    sizes = [shard.samples for shard in manifest.train[:-1]]
    assert 19 <= len(sizes) <= 25 and 0.9 * np.mean(sizes) < min(sizes) < max(sizes) < 1.1 * np.mean(sizes)
    assert case.report.kept == 60_000


def test_far_more_samples_than_foreseen_make_several_files(monkeypatch):
    monkeypatch.setattr(packing, "MAX_SHARD_BYTES", 12 * 100)
    case = Synthetic(monkeypatch, samples(range(1000), np.arange(1000) % 2), workers=1)
    manifest = case.run()
    assert [shard.key for shard in manifest.train[:2]] == [KEYS.shard("train", 0), KEYS.shard("train", 0, 1)]
    assert max(shard.samples for shard in manifest.train) <= 100
    assert sorted(
        case.features(manifest, "train") + case.features(manifest, "validation") + case.features(manifest, "test")
    ) == list(range(1000))


@pytest.mark.parametrize("drop", [True, False])
def test_near_duplicates_are_told_and_dropped_if_asked(monkeypatch, drop):
    near = (np.arange(400) // 4)[:, None].astype(np.uint64)
    monkeypatch.setattr(near_duplicates, "near_groups", lambda found: found[:, 0].astype(np.int64))
    found = []
    for cuts in ([], [3, 111, 300]):
        case = Synthetic(
            monkeypatch,
            samples(range(400), LABELS, near_hash=near),
            cuts,
            near_duplicates="drop" if drop else "report",
        )
        found.append(case.run())
    report = case.report.near_duplicates
    assert (report.samples, report.dropped) == (300, drop)
    assert len(report.examples) == 100
    lines = [(int(pair.place[5:]) - 2, int(pair.twin[5:]) - 2) for pair in report.examples]
    assert cuts or all(place // 4 == twin // 4 and place != twin for place, twin in lines)
    assert case.report.kept == (100 if drop else 400)
    assert found[0].train == found[1].train
    kept = [value for split in ("train", "validation", "test") for value in case.features(found[0], split)]
    if drop:
        assert sorted(value // 4 for value in kept) == list(range(100))
        assert case.report.drops.counts == {"near_duplicate": 300}


def test_a_set_too_large_for_near_duplicates_says_so(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_NEAR_SAMPLES", 399)
    near = np.zeros((400, 1), np.uint64)
    case = Synthetic(monkeypatch, samples(range(400), LABELS, near_hash=near), near_duplicates="drop")
    case.run()
    assert case.report.kept == 400 and case.report.near_duplicates is None
    assert any("400 samples are more than the 399" in warning for warning in case.report.warnings)


@ANY
@given(shard=st.integers(0, 9), size=SHARD_BYTES)
def test_a_killed_or_repeated_packer_ends_in_the_same_bytes(monkeypatch, shard, size):
    monkeypatch.setattr(assigning, "SHARD_BYTES", size)
    case = Synthetic(monkeypatch, many(), [10, 60])
    manifest = case.run()
    before = dict(case.artifacts.objects)
    shards = assign_samples(case.artifacts, "set", "v1").shards
    shard %= len(shards)
    # Late: its index is there, and nothing is written.
    pack_shard(case.artifacts, "set", "v1", shard)
    assert case.artifacts.objects == before
    # Killed: its index isn't, and its shard only in part.
    del case.artifacts.objects[KEYS.pack_index(shard)]
    case.artifacts.objects[KEYS.shard(shards[shard].split, shards[shard].index)] = b"half"
    pack_shard(case.artifacts, "set", "v1", shard)
    assert {key: data for key, data in case.artifacts.objects.items() if key in before} == before
    assert Manifest.decode(case.artifacts.read(KEYS.manifest)) == manifest


def test_a_packer_reads_its_range_alone(monkeypatch):
    monkeypatch.setattr(assigning, "SHARD_BYTES", 12 * 500)
    case = Synthetic(monkeypatch, samples(range(20_000), np.arange(20_000) % 2), [5000, 10_000])
    case.write()
    assign_samples(case.artifacts, "set", "v1")
    read = []

    class Counting(MemoryStore):
        def read_range(self, key, start, stop, version=None, etag=None):
            read.append(stop - start)
            return super().read_range(key, start, stop, version, etag)

    store = Counting(case.artifacts.objects)
    index = pack_shard(store, "set", "v1", 3)
    # One request for keys and one for rows per piece, hardly more bytes than the shard's.
    assert len(read) == 6 and 400 < index.samples < 600
    assert sum(read) < 1.5 * index.samples * (12 + 56)


def test_what_isnt_there_is_named(monkeypatch):
    case = Synthetic(monkeypatch, many(400, 150))
    case.write()
    with pytest.raises(NotFound):
        pack_shard(case.artifacts, "set", "v1", 0)
    count = len(assign_samples(case.artifacts, "set", "v1").shards)
    with pytest.raises(NotFound, match=f"no shard {count}"):
        pack_shard(case.artifacts, "set", "v1", count)
    del case.artifacts.objects[KEYS.assignment]
    index = json.loads(case.artifacts.read(KEYS.piece_index(0)))
    index["layout"]["near"] = 5
    other = Synthetic(monkeypatch, many(400, 150), [200])
    other.write()
    other.artifacts.write(KEYS.piece_index(0), json.dumps(index).encode())
    with pytest.raises(BadInput, match="differ in their tensors"):
        assign_samples(other.artifacts, "set", "v1")


@given(st.integers(0, 20_000))
def test_pack_items_cover_all_shards_within_a_maps_limit(shards):
    items = pack_items(shards)
    assert [shard for first, last in items for shard in range(first, last)] == list(range(shards))
    assert 1 <= len(items) <= MAX_PACK_ITEMS
