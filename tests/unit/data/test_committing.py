import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data import assigning, cutting
from shoal_core.data.committing import commit_dataset
from shoal_core.data.manifest import Manifest
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan, TableSlice
from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadDataset, NotFound
from tests.unit.data.builders import (
    KEYS,
    Case,
    csv_of,
    csv_rows,
    grey_png,
    image_members,
    jsonl_of,
    tar_of,
    zip_of,
)


def recut(case: Case, cuts: list[int]) -> None:
    """Replace the plan's work items by others that cover the same samples."""
    plan = case.plan()
    first = plan.items[0]
    if isinstance(first, TableSlice):
        lines = case.uploads.read(plan.source.key).splitlines(keepends=True)
        # The header goes with the first rows.
        places = sorted({0, *(2 + cut % (len(lines) - 2) for cut in cuts), len(lines)})
        ends = [0, *itertools.accumulate(map(len, lines))]
        items = [
            TableSlice(start=ends[start], stop=ends[stop], line=start) for start, stop in itertools.pairwise(places)
        ]
    else:
        end = plan.items[-1].last
        places = sorted({0, *(cut % end for cut in cuts), end})
        pairs = list(itertools.pairwise(places))
        items = [
            ArchiveSlice(first=start, last=stop, offset=0)
            if isinstance(first, ArchiveSlice)
            else ObjectSlice(first=start, last=stop)
            for start, stop in pairs
        ]
    case.artifacts.write(KEYS.plan, plan.model_copy(update={"items": tuple(items)}).encode())


UPLOADS = {
    "zip": {"d.zip": zip_of({**image_members(12), "digits/0/twin.png": image_members(1)["digits/0/000.png"]})},
    "tar.gz": {"d.tar.gz": tar_of(image_members(12), packed=True)},
    "loose": image_members(12),
    "csv": {"t.csv": csv_of(csv_rows(60) + csv_rows(7))},
    "jsonl": {"t.jsonl": jsonl_of(csv_rows(60))},
}


@pytest.mark.parametrize("kind", UPLOADS)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_any_cut_into_work_items_gives_the_same_manifest(kind, cuts):
    whole, other = Case(UPLOADS[kind]), Case(UPLOADS[kind])
    recut(other, cuts)
    assert other.run().digest == whole.run().digest
    assert other.report.kept == whole.report.kept


@pytest.mark.parametrize("kind", UPLOADS)
def test_shards_are_as_the_manifest_says(kind):
    case = Case(UPLOADS[kind], workers=3)
    manifest = case.run()
    assert len(manifest.train) == 3
    for split in ("train", "validation", "test"):
        for shard in manifest.shards(split):
            data = case.artifacts.read(shard.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
            tensors = decode_shard(data)
            assert tensors.keys() == {*manifest.spec.tensor_shapes(), "target"}
            assert {len(array) for array in tensors.values()} == {shard.samples}
    sizes = [shard.samples for shard in manifest.train]
    assert max(sizes) - min(sizes) <= 1
    assert manifest.statistics.samples == manifest.samples["train"] == sum(sizes)
    assert Manifest.decode(case.artifacts.read(KEYS.manifest)) == manifest
    assert commit_dataset(case.artifacts, "set", "v1") == manifest


def test_every_image_arrives_unchanged():
    members = image_members()
    case = Case({"d.zip": zip_of(members)})
    manifest = case.run()
    found = {}
    for split in ("train", "validation", "test"):
        tensors = case.tensors(manifest, split)
        for image, label in zip(tensors["image"], tensors["target"], strict=True):
            found[image.tobytes()] = manifest.spec.target.classes[label]
    expected = {manifest.spec.encode_image(data).tobytes(): name.split("/")[1] for name, data in members.items()}
    assert found == expected
    train = case.tensors(manifest, "train")["image"].astype(float)
    summary = manifest.statistics.channels[0]
    np.testing.assert_allclose([summary.mean, summary.std], [train.mean(), train.std()])


def test_statistics_of_a_table_are_those_of_its_training_split():
    case = Case({"t.csv": csv_of(csv_rows(400))})
    manifest = case.run()
    train = case.tensors(manifest, "train")
    for place, column in enumerate(manifest.spec.table.numbers):
        values = train["numbers"][:, place].astype(float)
        summary = manifest.statistics.numbers[column.name]
        assert summary.missing == np.isnan(values).sum()
        np.testing.assert_allclose([summary.mean, summary.std], [np.nanmean(values), np.nanstd(values)])
    assert manifest.statistics.categories["colour"].cardinality == 4
    assert sum(manifest.statistics.classes.values()) == len(train["target"])


def test_a_regression():
    rows = [{"a": n % 50, "b": n / 7, "y": n * 0.25} for n in range(200)]
    case = Case({"t.csv": csv_of(rows)}, target="y")
    manifest = case.run()
    train = case.tensors(manifest, "train")
    assert train["target"].dtype == np.float32
    np.testing.assert_allclose(manifest.statistics.target.mean, train["target"].mean(), rtol=1e-6)
    assert case.report.class_counts == {} and manifest.statistics.classes == {}


def sides(case: Case) -> dict[bytes, str]:
    manifest = case.run()
    name = "image" if manifest.spec.kind == "image" else "numbers"
    return {
        row.tobytes(): split for split in ("train", "validation", "test") for row in case.tensors(manifest, split)[name]
    }


def test_growing_data_moves_no_sample():
    small = sides(Case({"d.zip": zip_of(image_members(30))}))
    large = sides(Case({"d.tar": tar_of({**image_members(60), "digits/new/1.png": grey_png(77_777)})}))
    assert small.items() <= large.items()
    few, many = (sides(Case({"t.csv": csv_of(csv_rows(count))})) for count in (150, 400))
    assert few.items() <= many.items()


def test_equal_features_never_lie_on_both_sides():
    rows = [{"a": n % 40, "b": (n % 40) * 2.5, "y": "pq"[n % 3 == 0]} for n in range(400)]
    case = Case({"t.csv": csv_of(rows)})
    manifest = case.run()
    seen: dict[bytes, set[str]] = {}
    for split in ("train", "validation", "test"):
        for row in case.tensors(manifest, split)["numbers"]:
            seen.setdefault(row.tobytes(), set()).add(split)
    assert all(len(found) == 1 for found in seen.values())
    assert len(seen) == 40
    # Equal features with different targets are normal in a table: both stay, once each.
    assert sum(manifest.samples.values()) == 80 and case.report.duplicates == 320


def test_duplicates_across_work_items_and_conflicting_labels():
    members = image_members(40)
    members["digits/0/copy.png"] = members["digits/0/000.png"]
    members["digits/9/000 again.png"] = members["digits/9/005.png"]
    members["digits/10/liar.png"] = members["digits/1/007.png"]
    case = Case({"d.zip": zip_of(members)})
    manifest = case.run()
    assert len(case.plan().items) > 1
    assert case.report.files[0].dropped == {"conflicting_label": 2, "duplicate": 2}
    assert sum(manifest.samples.values()) == 159 == case.report.kept
    left = {drop.place: (drop.code, drop.reason) for drop in case.report.drops.examples}
    assert left == {
        "digits/1/007.png": ("conflicting_label", "'digits/1/007.png' lies in two classes with equal content."),
        "digits/10/liar.png": ("conflicting_label", "'digits/10/liar.png' lies in two classes with equal content."),
        "digits/0/copy.png": ("duplicate", "'digits/0/copy.png' equals 'digits/0/000.png', which is kept."),
        "digits/9/000 again.png": ("duplicate", "'digits/9/000 again.png' equals 'digits/9/005.png', which is kept."),
    }


def test_a_repeated_row_is_named_by_its_line():
    rows = [f"{number},{'ab'[number % 2]}" for number in range(30)]
    case = Case({"t.csv": "\n".join(["x,label", *rows, rows[4]]).encode()})
    case.run()
    (drop,) = case.report.drops.examples
    assert (drop.place, drop.reason) == ("line 32", "'line 32' equals 'line 6', which is kept.")


def test_the_report_tells_everything():
    members = {**image_members(20), "digits/0/bad.png": b"x", "notes.md": b"", ".DS_Store": b""}
    case = Case({"d.zip": zip_of(members)}, seed=3)
    manifest = case.run()
    report = case.report
    assert (report.kept, report.dropped) == (80, 2)
    assert report.drops.counts == {"bad_image": 1, "not_an_image": 1} and report.drops.ignored == 1
    assert report.settings["image_size"] == [8, 8] and report.settings["seed"] == 3
    assert set(report.inferred) <= set(report.settings)
    assert report.samples == manifest.samples and report.class_counts == manifest.class_counts


def test_a_class_with_one_sample_trains():
    case = Case({"d.zip": zip_of({**image_members(30), "digits/rare/1.png": grey_png(99_999)})})
    manifest = case.run()
    assert manifest.class_counts["train"]["rare"] == 1
    assert any("'rare' has one sample" in warning for warning in case.report.warnings)


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_tiny_sets_fill_their_splits_when_they_can(count):
    case = Case({"d.zip": zip_of(image_members(count, ("a", "b")))})
    manifest = case.run()
    assert all(manifest.class_counts["train"].values())
    assert manifest.samples["test"] >= 1
    if count > 2:
        assert manifest.samples["validation"] >= 1


def test_two_samples_are_enough_to_train_and_the_rest_is_told():
    case = Case({"d.zip": zip_of(image_members(1, ("a", "b")))})
    assert case.run().samples == {"train": 2, "validation": 0, "test": 0}
    assert sum("split is empty" in warning for warning in case.report.warnings) == 2


def test_no_shares_no_held_out_samples():
    case = Case({"d.zip": zip_of(image_members(10))}, split={"validation": 0, "test": 0})
    assert case.run().samples == {"train": 40, "validation": 0, "test": 0}


def test_one_class_left():
    members = {**image_members(10, ("a",)), "digits/b/1.png": b"broken"}
    case = Case({"d.zip": zip_of(members)})
    with pytest.raises(BadDataset) as caught:
        case.run()
    assert "one class only: 'a'" in caught.value.reason and "digits/b/1.png" in caught.value.reason
    assert case.report.kept == 10
    assert not case.artifacts.exists(KEYS.manifest)


def test_no_samples_left():
    same = grey_png(1)
    case = Case({"d.zip": zip_of({"a/1.png": same, "b/1.png": same})})
    with pytest.raises(BadDataset, match="2 conflicting label"):
        case.run()
    lines = b"a,b,y\n" + b"1,2\n" * 200 + b"1,2,x\n2,3,y\n"
    assert Case({"t.csv": lines}).run().samples["train"] == 2


def test_a_missing_piece():
    case = Case({"d.zip": zip_of(image_members(4))})
    case.plan()
    with pytest.raises(NotFound, match="Work item 0"):
        commit_dataset(case.artifacts, "set", "v1")


def test_large_sets_are_cut_into_even_shards(monkeypatch):
    monkeypatch.setattr(assigning, "SHARD_BYTES", 72 * 20)
    monkeypatch.setattr(cutting, "ITEM_BYTES", 3000)
    case = Case({"d.zip": zip_of(image_members(40))})
    manifest = case.run()
    assert len(case.plan().items) > 10
    sizes = [shard.samples for shard in manifest.train]
    assert len(sizes) == -(-sum(sizes) // 20) and max(sizes) - min(sizes) <= 1
    assert Plan.decode(case.artifacts.read(KEYS.plan)).items


def test_a_killed_commit_ends_in_the_same_bytes():
    case = Case({"d.zip": zip_of(image_members(20))})
    manifest = case.run()
    before = dict(case.artifacts.objects)
    # Each stage in turn was killed before its index: what it had written is written again.
    for index, half in (
        (KEYS.manifest, KEYS.report),
        (KEYS.pack_index(0), manifest.train[0].key),
        (KEYS.assignment, KEYS.assignment_tables),
    ):
        del case.artifacts.objects[index]
        case.artifacts.objects[half] = b"half"
        assert case.run() == manifest
        assert case.artifacts.objects == before
