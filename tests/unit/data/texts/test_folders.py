"""Text files by class: archives and loose objects, good files and bad ones, from upload to shards."""

import numpy as np
import pytest

from shoal_core.data.pieces import decode_piece
from shoal_core.data.texts import planning
from shoal_core.data.texts.tokens import encode_texts
from shoal_core.data.writing import write_shard
from shoal_core.errors import BadArchive, BadConfig, BadDataset
from tests.unit.data.builders import KEYS, Case, grey_png, tar_of, zip_of

GOOD = ["a fine film", "lovely, warm and funny", "great acting", "I would see it again", "a joy"]
BAD = ["a dull film", "boring and far too long", "poor acting", "never again", "a waste of time"]


def review_files(per_class: int = 40) -> dict[str, bytes]:
    return {
        f"reviews/{label}/{number:03d}.txt": f"{texts[number % 5]} ({label} number {number})".encode()
        for label, texts in (("good", GOOD), ("bad", BAD))
        for number in range(per_class)
    }


def pieces(case: Case) -> dict[str, np.ndarray]:
    parts = []
    for item in range(len(case.plan().items)):
        index = write_shard(case.uploads, case.artifacts, "set", "v1", item)
        if index.file is not None:
            parts.append(decode_piece(case.artifacts.read(index.file.key), index.layout))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drops(case: Case) -> dict[str, int]:
    total: dict[str, int] = dict(case.plan().drops.counts)
    for item in range(len(case.plan().items)):
        for code, count in write_shard(case.uploads, case.artifacts, "set", "v1", item).drops.counts.items():
            total[code] = total.get(code, 0) + count
    return total


def by_content(tensors: dict[str, np.ndarray]) -> dict[str, list]:
    order = sorted(range(len(tensors["target"])), key=lambda row: tensors["row_hash"][row].tobytes())
    return {name: array[order].tolist() for name, array in tensors.items()}


def test_the_plan_is_a_table_of_one_text_column():
    plan = Case({"r.zip": zip_of(review_files())}).plan()
    assert plan.spec.kind == "table" and plan.spec.table is not None
    (column,) = plan.spec.table.texts
    assert column.name == "text" and "film" in column.vocabulary
    assert plan.spec.target.classes == ("bad", "good") and plan.spec.target.column is None
    assert plan.root == "reviews" and len(plan.items) > 1
    assert "text.length" in plan.inferred
    (report,) = plan.columns
    assert (report.name, report.role, report.distinct) == ("text", "text", 80)


def test_every_way_to_pack_files_gives_the_same_samples():
    files = review_files()
    found = [
        by_content(pieces(case))
        for case in (
            Case({"r.zip": zip_of(files)}),
            Case({"r.tar": tar_of(files)}),
            Case({"r.tar.gz": tar_of(files, packed=True)}),
            Case(files),
            Case(files, workers=8),
        )
    ]
    for other in found[1:]:
        for name in ("tokens", "target", "feature_hash", "row_hash", "near_hash", "position"):
            assert other[name] == found[0][name], name


def test_shards_hold_what_predict_encodes():
    files = review_files()
    case = Case({"r.zip": zip_of(files)}, split={"validation": 0.1, "test": 0.1})
    manifest = case.run()
    spec = manifest.spec
    texts = [data.decode() for data in files.values()]
    targets = [0 if "/bad/" in name else 1 for name in files]
    expected = {
        (tuple(ids), target)
        for ids, target in zip(encode_texts(texts, spec.table.texts[0]).tolist(), targets, strict=True)
    }
    assert {
        (tuple(ids), target)
        for text, target in zip(texts, targets, strict=True)
        for ids in spec.encode_rows([{"text": text}])["tokens"].tolist()
    } == expected
    found = set()
    for split in ("train", "validation", "test"):
        tensors = case.tensors(manifest, split)
        found |= {
            (tuple(ids), target)
            for ids, target in zip(*(tensors[n].tolist() for n in ("tokens", "target")), strict=True)
        }
    assert found == expected and sum(manifest.samples.values()) == 80


def test_bad_files_are_dropped_with_a_reason_each():
    files = {
        **review_files(8),
        "reviews/good/binary.txt": b"\x89PNG\x00\x01\x02\x03" * 50,
        "reviews/good/nul.txt": b"text with\x00 a zero",
        "reviews/good/empty.txt": b"",
        "reviews/bad/blank.txt": b" \n\t\xe3\x80\x80\n",
        "reviews/bad/broken.txt": b"\xff\xfe\x00\xd8",
        "reviews/bad/old.txt": "très bon café".encode("cp1252"),
        "reviews/bad/wide.txt": "﻿mauvais".encode("utf-16"),
        "reviews/good/scan.pdf": b"%PDF",
        "reviews/readme.txt": b"what this is",
        "reviews/.DS_Store": b"x",
    }
    for case in (Case({"r.zip": zip_of(files)}), Case({"r.tar.gz": tar_of(files, packed=True)}), Case(files)):
        assert drops(case) == {"bad_text": 3, "empty_text": 2, "not_a_text": 1, "no_class_folder": 1}
        assert case.plan().drops.ignored == 1
        assert len(pieces(case)["target"]) == 18
        assert any("lie outside class folders" in warning for warning in case.plan().warnings)


def test_huge_files_are_left_out(monkeypatch):
    monkeypatch.setattr("shoal_core.data.texts.decoding.MAX_TEXT_BYTES", 100)
    files = {**review_files(8), "reviews/good/huge.txt": b"a " * 60}
    for case in (Case({"r.zip": zip_of(files)}), Case(files)):
        assert drops(case) == {"too_large": 1} and len(pieces(case)["target"]) == 16


def test_growing_sets_keep_hashes_and_sides():
    less, more = pieces(Case(review_files(20))), pieces(Case(review_files(60)))
    side = {row.tobytes(): position for row, position in zip(more["row_hash"], more["position"], strict=True)}
    assert all(
        side[row.tobytes()] == position for row, position in zip(less["row_hash"], less["position"], strict=True)
    )


def test_only_what_the_model_sees_counts_for_the_hash():
    files = {"a/1.txt": b"Good,  film!", "a/2.txt": b"good , FILM !\n", "a/3.txt": b"other", "b/1.txt": b"good, film!"}
    found = by_content(pieces(Case(files)))
    features = [tuple(row) for row in found["feature_hash"]]
    rows = {tuple(row) for row in found["row_hash"]}
    assert len(set(features)) == 2 and len(rows) == 3


def test_a_killed_call_ends_in_the_same_bytes():
    case = Case({"r.tar.gz": tar_of(review_files(), packed=True)})
    pieces(case)
    before = dict(case.artifacts.objects)
    for key in [key for key in before if "/pieces/" in key or key == KEYS.plan or "/blocks/" in key]:
        del case.artifacts.objects[key]
    pieces(case)
    assert case.artifacts.objects == before


def test_hashing_needs_no_vocabulary():
    case = Case(review_files(), text={"buckets": 50, "length": 9, "ngrams": 2})
    (column,) = case.plan().spec.table.texts
    assert column.vocabulary == () and column.buckets == 50 and column.ngrams == 2
    tokens = pieces(case)["tokens"]
    assert tokens.shape[1] == 9 and tokens.max() < 52


def test_a_sample_teaches_the_vocabulary_of_a_large_set(monkeypatch):
    monkeypatch.setattr("shoal_core.data.texts.planning.SAMPLE_TEXTS", 10)
    for files in ({"r.zip": zip_of(review_files())}, review_files(), {"r.tgz": tar_of(review_files(), packed=True)}):
        assert "The vocabulary comes from 10 of 80 texts." in Case(files).plan().warnings


def test_several_archives_and_loose_files_are_one_set():
    files = review_files()
    names = sorted(files)
    parts = [{name: files[name] for name in names[start::4]} for start in range(4)]
    whole = Case({"r.zip": zip_of(files)})
    case = Case({"a.zip": zip_of(parts[0]), "b.tar": tar_of(parts[1]), "c.tar.gz": tar_of(parts[2], True), **parts[3]})
    assert case.plan().spec == whole.plan().spec and case.plan().source_name == "set"
    assert [source.key.rpartition("/")[2] for source in case.plan().sources] == ["a.zip", "b.tar", "c.tar.gz"]
    assert case.plan().warnings == whole.plan().warnings == ()
    found, expected = by_content(pieces(case)), by_content(pieces(whole))
    assert found == expected
    manifest, other = case.run(), whole.run()
    assert manifest.statistics == other.statistics and manifest.class_counts == other.class_counts
    for split in ("train", "validation", "test"):
        for name, array in whole.tensors(other, split).items():
            np.testing.assert_array_equal(case.tensors(manifest, split)[name], array)
    kept = {file.file: file.kept for file in case.report.files}
    assert kept == {"a.zip": 20, "b.tar": 20, "c.tar.gz": 20, "set": 20}


@pytest.mark.parametrize("packed", [False, True])
def test_archives_without_folders_are_classes(packed):
    files = review_files(20)
    by_class = {
        label: {name.rpartition("/")[2]: data for name, data in files.items() if f"/{label}/" in name}
        for label in ("good", "bad")
    }
    ending = "tar.gz" if packed else "zip"
    pack = (lambda members: tar_of(members, True)) if packed else zip_of
    case = Case({f"{label}.{ending}": pack(members) for label, members in by_class.items()})
    assert case.plan().spec.target.classes == ("bad", "good")
    found = pieces(case)
    assert found["target"].tolist().count(0) == found["target"].tolist().count(1) == 20
    case.run()
    assert case.report.kept == 40 and not case.report.drops.counts


def test_texts_are_split_by_a_part_of_their_names():
    files = {
        name.replace(".txt", f" by author {number % 17}.txt"): data
        for number, (name, data) in enumerate(review_files().items())
    }
    for upload in ({"a.zip": zip_of(files)}, {"a.tgz": tar_of(files, True)}, files):
        case = Case(upload, split={"group": "**/* by {group}.txt", "validation": 0.3, "test": 0.3})
        manifest = case.run()
        groups = {}
        for number in range(len(case.plan().items)):
            item = decode_piece(case.artifacts.read(KEYS.piece(number)), case.index(number).layout)
            for row, text in zip(item["group"], item["tokens"], strict=True):
                groups[text.tobytes()] = row.tobytes()
        sides = {
            split: {groups[text.tobytes()] for text in case.tensors(manifest, split)["tokens"]}
            for split in ("train", "validation", "test")
        }
        assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 17
    dated = {f"r/{label}/{number:03d}.txt": f"{label} {number}".encode() for label in "ab" for number in range(30)}
    case = Case(dated, split={"time": "**/{time}.txt", "validation": 0.2, "test": 0.2})
    assert case.run().samples == {"train": 36, "validation": 12, "test": 12}


def test_bad_files_of_several_archives_are_told_with_their_archive():
    files = review_files(20)
    bad = {"reviews/good/zeros.txt": b"\0\1\2\3" * 9, "reviews/good/nothing.txt": b" ", "reviews/good/x.pdf": b"%PDF"}
    case = Case({"a.zip": zip_of({**files, **bad}), "b.tar.gz": tar_of({"reviews/bad/z.txt": b"\0\1\2"}, True)})
    case.run()
    told = {(drop.file, drop.place, drop.code) for drop in case.report.drops.examples}
    assert told == {
        ("a.zip", "reviews/good/zeros.txt", "bad_text"),
        ("a.zip", "reviews/good/nothing.txt", "empty_text"),
        ("a.zip", "reviews/good/x.pdf", "not_a_text"),
        ("b.tar.gz", "reviews/bad/z.txt", "bad_text"),
    }


def test_every_archive_teaches_its_share_of_the_vocabulary(monkeypatch):
    monkeypatch.setattr(planning, "SAMPLE_TEXTS", 40)
    files = review_files()
    names = sorted(files)
    parts = [{name: files[name] for name in names[start::2]} for start in range(2)]
    for upload in (
        {"a.zip": zip_of(parts[0]), "b.zip": zip_of(parts[1])},
        {"a.tar.gz": tar_of(parts[0], True), "b.tar.gz": tar_of(parts[1], True)},
        {"a.tar.gz": tar_of(parts[0], True), **parts[1]},
    ):
        plan = Case(upload).plan()
        (warning,) = plan.warnings
        learnt = int(warning.split()[4])
        assert 38 <= learnt <= 42 and warning.endswith("of 80 texts.")
        assert {"film", "poor"} & set(plan.spec.table.texts[0].vocabulary)


def test_images_beside_texts_are_images():
    files = {f"d/{label}/{n}.png": grey_png(n + 100 * (label == "a")) for label in "ab" for n in range(9)}
    assert Case({**files, "d/a/notes.txt": b"x"}).plan().spec.kind == "image"
    assert Case({"d.zip": zip_of({"d/a/a.txt": b"x", **files})}).plan().spec.kind == "image"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"target": "x"}, "target"),
        ({"task": "regression"}, "task"),
        ({"image_size": 8}, "image_size"),
        ({"recipe": "cnn"}, "recipe"),
        ({"sequence": {"time": "t"}}, "sequence"),
        ({"split": {"group": "author"}}, "split.group: no table of 'set' names its files"),
        ({"split": {"time": "{time}"}}, "split.time: no file of 'set' has a name like"),
    ],
)
def test_what_texts_cannot_give_is_refused(config, field):
    with pytest.raises(BadConfig, match=field):
        Case(review_files(), **config).plan()


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"a/1.txt": b"x", "a/2.txt": b"y"}, BadDataset, "one class only"),
        ({"a/1.txt": b"\0\0", "b/1.txt": b"\0"}, BadDataset, "None of the files"),
        ({"r.zip": zip_of({"a/1.txt": b"x"})}, BadDataset, "one class only"),
        ({"r.tar.gz": tar_of(review_files(), packed=True)[:-300]}, BadArchive, "damaged"),
    ],
)
def test_sets_that_nothing_can_be_learnt_from(files, error, message):
    with pytest.raises(error, match=message) as found:
        Case(files).plan()
    assert found.value.fix


def test_expectations_look_at_every_text():
    case = Case(review_files(), expect=[{"column": "text", "unique": True}, {"column": "text", "pattern": ".*film.*"}])
    for item in range(len(case.plan().items)):
        findings = write_shard(case.uploads, case.artifacts, "set", "v1", item).findings
        assert findings is not None
