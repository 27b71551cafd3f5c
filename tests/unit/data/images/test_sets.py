import csv
import gzip
import io
import json
import re
import tracemalloc
from pathlib import Path

import duckdb
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shoal_core.data.images import blocks, encoding, gathering
from shoal_core.data.images.index_rows import IndexRows
from shoal_core.data.images.perceptual import NEAR_WORDS
from shoal_core.data.plan import ArchiveSlice, ObjectSlice
from shoal_core.data.splits import content_hash
from shoal_core.errors import BadArchive, BadConfig, BadDataset, BadTable, TooLarge
from tests.unit.data.images.archive_files import tar_of, zip_of
from tests.unit.data.images.cases import ImageCase, labelled, photo, save, scans

DIGITS = {
    f"digits/{'odd' if index % 2 else 'even'}/{index:02d}.png": save(scans()[index], "PNG") for index in range(40)
}
PACKED = {"set.zip": zip_of(DIGITS), "set.tar": tar_of(DIGITS), "set.tar.gz": tar_of(DIGITS, True)}
SHAPES = [*({name: data} for name, data in PACKED.items()), DIGITS]
IDS = ["zip", "tar", "tar.gz", "loose"]


def table(rows: list[dict[str, object]]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def names(count: int = 40) -> list[str]:
    return [f"{index:02d}.png" for index in range(count)]


def files(count: int = 40, folder: str = "") -> dict[str, bytes]:
    return {f"{folder}{name}": save(scans()[index], "PNG") for index, name in enumerate(names(count))}


@pytest.mark.parametrize("upload", SHAPES, ids=IDS)
def test_class_folders_give_the_pixels_and_classes_of_a_plain_reading(upload):
    case = ImageCase(upload)
    plan = case.plan()
    tensors, drops = case.encode(plan)
    assert plan.spec.target.classes == ("even", "odd") and not drops.total().counts
    order = [name.rpartition("/")[2] for name in tensors["place"].tolist()]
    assert sorted(order) == names()
    for place, image, target in zip(tensors["place"], tensors["image"], tensors["target"], strict=True):
        np.testing.assert_array_equal(image[0], scans()[int(place[-6:-4])])
        assert target == int(place[-6:-4]) % 2
    shape = repr((1, 8, 8)).encode()
    assert tensors["feature_hash"][0].tobytes() == content_hash(b"image", shape, tensors["image"][0].tobytes())
    assert tensors["near_hash"].shape == (40, NEAR_WORDS)


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("upload", SHAPES, ids=IDS)
def test_any_slicing_gives_the_same_samples(upload, data):
    block = data.draw(st.integers(512, 20_000), "block")
    pieces = data.draw(st.integers(1, 40), "pieces")
    batch = data.draw(st.integers(1, 50), "batch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block)
        patch.setattr(encoding, "_BATCH", batch)
        patch.setattr(gathering, "count_items", lambda *_: pieces)
        case = ImageCase(upload)
        plan = case.plan()
        tensors, drops = case.encode(plan)
    expected, _ = ImageCase(upload).run()
    assert not drops.total().counts and (pieces < 2 or len(plan.items) > 1)
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array, err_msg=name)


def test_many_archives_make_no_more_items_than_there_may_be(monkeypatch):
    upload = {
        f"{name}.zip": zip_of({f"{name}/{index}.png": save(scans()[index], "PNG") for index in range(9)})
        for name in "abcd"
    }
    monkeypatch.setattr(gathering, "count_items", lambda *_: 6)
    monkeypatch.setattr(gathering, "MAX_ITEMS", 6)
    plan = ImageCase(upload).plan()
    assert len(plan.items) <= 6 and {item.file for item in plan.items} == {0, 1, 2, 3}
    monkeypatch.setattr(gathering, "MAX_ITEMS", 3)
    with pytest.raises(TooLarge, match="has samples in 4 archives, and a work item, of which there are at most 3"):
        ImageCase(upload).plan()


def test_a_tar_gz_is_re_packed_in_bounded_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4000)
    case = ImageCase({"set.tar.gz": PACKED["set.tar.gz"]})
    plan = case.plan()
    sizes = [len(data) for data in case.artifacts.objects.values()]
    assert len(sizes) > 8 and max(sizes) <= 4000 + 2 * 1024 + 1024
    # Every item begins where its own first image lies.
    assert len({(item.block, item.offset) for item in plan.items}) == len(plan.items)


def test_without_near_duplicates_there_are_no_perceptual_hashes():
    tensors, _ = ImageCase(DIGITS, near_duplicates="off").run()
    assert "near_hash" not in tensors


@pytest.mark.parametrize("upload", [PACKED["set.zip"], PACKED["set.tar"], PACKED["set.tar.gz"]], ids=IDS[:3])
def test_archives_and_loose_files_are_one_set(upload):
    suffix = "zip" if upload is PACKED["set.zip"] else "tar" if upload is PACKED["set.tar"] else "tar.gz"
    loose = {f"digits/odd/x{index}.png": save(scans()[index], "PNG") for index in range(45, 50)}
    more = {f"digits/even/y{index}.png": save(scans()[index], "PNG") for index in range(50, 55)}
    case = ImageCase({f"a.{suffix}": upload, "b.zip": zip_of(more), **loose})
    plan = case.plan()
    assert [file.key for file in plan.sources] == [f"datasets/set/a.{suffix}", "datasets/set/b.zip"]
    assert {type(item) for item in plan.items} == {ArchiveSlice, ObjectSlice}
    tensors, drops = case.encode(plan)
    found = labelled(tensors, plan)
    assert len(found) == 50 and not drops.total().counts
    assert found["digits/odd/x45.png"] == "odd" and found["digits/even/y50.png"] == "even"


def test_archives_without_folders_are_classes():
    case = ImageCase({"cats.zip": zip_of(files(20)), "dogs.tar.gz": tar_of(files(20), True)})
    plan = case.plan()
    tensors, _ = case.encode(plan)
    assert plan.spec.target.classes == ("cats", "dogs") and tensors["target"].tolist() == [0] * 20 + [1] * 20
    assert tensors["place"][0] == "cats/00.png" and tensors["place"][-1] == "dogs/19.png"


def test_archives_in_folders_are_in_those_classes():
    case = ImageCase({"cats/part 1.zip": zip_of(files(5)), "cats/part 2.zip": zip_of(files(5)), **files(9, "dogs/")})
    plan = case.plan()
    assert case.encode(plan)[0]["target"].tolist().count(0) == 10
    assert plan.spec.target.classes == ("cats", "dogs")


def rows_of(kind: str) -> list[dict[str, object]]:
    return [{"file": name, "label": "odd" if index % 2 else "even"} for index, name in enumerate(names())]


def parquet_of(rows: list[dict[str, object]], folder: Path) -> bytes:
    """Rows as Parquet, in small row groups."""
    lines, path = folder / "rows.jsonl", folder / "rows.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with duckdb.connect() as database:
        database.read_json(str(lines)).write_parquet(str(path), row_group_size=2048)
    return path.read_bytes()


def written_as(kind: str, rows: list[dict[str, object]], folder: Path) -> bytes:
    """A table in one of the formats that an index may have."""
    plain, _, packing = kind.partition(".")
    lines = [json.dumps(row) for row in rows]
    if plain == "parquet":
        return parquet_of(rows, folder)
    if plain == "json":
        data = f"[{', '.join(lines)}]".encode()
    elif plain == "jsonl":
        data = "".join(f"{line}\n" for line in lines).encode()
    else:
        data = table(rows).replace(b",", b"\t") if plain == "tsv" else table(rows)
    return {"gz": gzip.compress, "zst": zstandard.compress}.get(packing, bytes)(data)


@pytest.mark.parametrize(
    "written", ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz", "tsv.zst", "jsonl.gz", "jsonl.zst", "json.gz"]
)
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "loose", "beside"])
def test_an_index_names_files_and_labels(kind, written, tmp_path):
    rows = rows_of(kind)
    text = written_as(written, rows, tmp_path)
    members = {**files(40, "images/"), f"labels.{written}": text}
    uploads = {
        "zip": {"a.zip": zip_of(members)},
        "tar": {"a.tar": tar_of(members)},
        "tar.gz": {"a.tar.gz": tar_of(members, True)},
        "loose": members,
        "beside": {"a.zip": zip_of(files(40, "images/")), f"labels.{written}": text},
    }
    case = ImageCase(uploads[kind])
    plan = case.plan()
    tensors, drops = case.encode(plan)
    assert not drops.total().counts and plan.labelled and plan.spec.target.column == "label"
    assert len(tensors["target"]) == 40
    for place, label in labelled(tensors, plan).items():
        assert label == ("odd" if int(place[-6:-4]) % 2 else "even")


@pytest.mark.parametrize("written", ["json", "parquet", "csv.gz", "jsonl.zst"])
def test_whatever_an_index_is_written_as_says_the_same(written, tmp_path):
    rows = [
        {"file": name, "score": 20.5 + index, "who": index % 7, "when": f"2026-01-{1 + index // 2:02d}T00:00:00"}
        for index, name in enumerate(names())
    ]
    rows[3] |= {"score": None}
    rows[5] |= {"file": "gone.png"}
    rows[6] |= {"who": None, "when": None}
    for split in ({"group": "who"}, {"time": "when"}):
        expected, lost = ImageCase({**files(), "l.csv": table(rows)}, target="score", split=split).run()
        data = written_as(written, rows, tmp_path)
        found, drops = ImageCase({**files(), f"l.{written}": data}, target="score", split=split).run()
        assert drops.total().counts == lost.total().counts and drops.total().counts["no_file"] == 1
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        (told,) = [drop for drop in drops.total().examples if drop.code == "missing_target"]
        assert told.place == ("row 4" if written in ("json", "parquet") else "line 5" if "csv" in written else "line 4")


def test_an_index_is_read_in_bounded_memory():
    rows = "file,label,note\n" + "".join(f"{index % 40:02d}.png,{index % 2},{'x' * 600}\n" for index in range(20_000))
    data = gzip.compress(rows.encode(), 1)
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        found = IndexRows(stream, "l.csv.gz")
        assert sum(1 for _ in found) == 20_000 and found.columns == ("file", "label", "note")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024**2 < len(rows)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.csv.gz", b"no gzip"),
        ("l.csv.gz", gzip.compress(b"file,label\n" + b"00.png,a\n" * 9999, mtime=0)[:-40]),
        ("l.jsonl.zst", b"no zstandard"),
        ("l.parquet", b"PAR1 and no more"),
        ("l.json", b'[{"file": "00.png"'),
    ],
)
def test_a_damaged_index_is_refused_when_it_is_named(name, data):
    assert ImageCase({**DIGITS, name: data}).plan().drops.counts == {"not_an_image": 1}
    with pytest.raises(BadTable, match=re.escape(name)) as caught:
        ImageCase({**DIGITS, name: data}, labels={"file": name}).plan()
    assert caught.value.fix


@pytest.mark.parametrize(
    "write",
    [
        lambda name: name,
        lambda name: f"images/{name}",
        lambda name: f"./images/{name}",
        lambda name: f"set/images/{name}",
        lambda name: f"images\\{name}",
        lambda name: f"elsewhere/{name}",
        lambda name: name.removesuffix(".png"),
    ],
)
def test_a_file_is_named_by_path_by_name_or_by_stem(write):
    rows = [{"id": write(name), "class": index % 2} for index, name in enumerate(names())]
    case = ImageCase({"a.zip": zip_of({**files(40, "set/images/"), "set/train.csv": table(rows)})})
    plan = case.plan()
    tensors, drops = case.encode(plan)
    assert not drops.total().counts and plan.spec.target.classes == ("0", "1") and len(tensors["target"]) == 40


def test_paths_tell_files_of_one_name_apart():
    rows = [{"file": f"{folder}/{name}", "label": folder} for folder in ("a", "b") for name in names(10)]
    members = {f"{folder}/{name}": data for folder in ("a", "b") for name, data in files(10).items()}
    case = ImageCase({**members, "labels.csv": table(rows)})
    plan = case.plan()
    assert labelled(case.encode(plan)[0], plan) == {name: name[0] for name in members}
    short = [{"file": name, "label": "x" if index % 2 else "y"} for index, name in enumerate(names(10))]
    _, drops = ImageCase(
        {
            **members,
            "c.png": save(photo(), "PNG"),
            "d.png": save(photo() // 2, "PNG"),
            "labels.csv": table([*short, {"file": "c.png", "label": "x"}, {"file": "d.png", "label": "y"}]),
        },
        labels={"file": "labels.csv"},
    ).run()
    assert drops.total().counts == {"ambiguous_file": 10, "no_label": 20}


def test_labels_without_a_file_and_files_without_a_label_are_told():
    rows = [{"file": name, "label": str(index % 2)} for index, name in enumerate(names(30))]
    rows += [{"file": "gone.png", "label": "1"}, {"file": "", "label": "1"}, {"file": "31.png", "label": ""}]
    rows += [{"file": "32.png", "label": "0"}, {"file": "32.png", "label": "1"}, {"file": "00.png", "label": "0"}]
    for upload in ({"a.zip": zip_of({**files(36), "l.csv": table(rows)})}, {**files(36), "l.csv": table(rows)}):
        tensors, drops = ImageCase(upload).run()
        assert len(tensors["target"]) == 30
        total = drops.total()
        assert total.counts == {"no_file": 2, "missing_target": 1, "ambiguous_label": 1, "no_label": 4}
        told = {drop.code: drop for drop in total.examples}
        assert told["no_file"].file == "l.csv" and told["missing_target"].place == "line 34"
        assert told["ambiguous_label"].place == "32.png" and told["no_label"].fix


def test_numbers_are_a_regression():
    rows = [{"file": name, "age": 20.5 + index} for index, name in enumerate(names())]
    case = ImageCase({**files(), "labels.csv": table(rows)})
    plan = case.plan()
    tensors, _ = case.encode(plan)
    assert plan.spec.target.task == "regression" and tensors["target"].dtype == np.float32
    assert labelled(tensors, plan) == {name: 20.5 + index for index, name in enumerate(names())}
    rows[3]["age"] = "old"
    tensors, drops = ImageCase({**files(), "labels.csv": table(rows)}).run()
    assert drops.total().counts == {"bad_value": 1} and len(tensors["target"]) == 39


@pytest.mark.parametrize("separator", ["|", ";", ","])
def test_several_labels(separator):
    sets = [("a",), ("a", "b"), ("b", "c"), ("c",)]
    rows = [{"file": name, "tags": separator.join(sets[index % 4])} for index, name in enumerate(names())]
    case = ImageCase({**files(), "labels.csv": table(rows)}, task="multilabel")
    plan = case.plan()
    tensors, _ = case.encode(plan)
    assert plan.spec.target.classes == ("a", "b", "c") and tensors["target"].dtype == np.uint8
    assert plan.spec.target.separator == separator
    assert labelled(tensors, plan) == {name: sets[index % 4] for index, name in enumerate(names())}
    lines = [json.dumps({"file": name, "tags": sets[index % 4]}) for index, name in enumerate(names())]
    other = ImageCase({**files(), "labels.jsonl": "\n".join(lines).encode()})
    listed = other.plan()
    assert listed.spec.target.task == "multilabel"
    np.testing.assert_array_equal(other.encode(listed)[0]["target"], tensors["target"])


def test_the_settings_say_which_table_and_columns():
    one = [
        {"picture": name, "also": names()[-1 - index], "a": index % 2, "b": index % 3}
        for index, name in enumerate(names())
    ]
    other = [{"name": name, "label": "z" if index % 2 else "w"} for index, name in enumerate(names())]
    upload = {**files(), "one.csv": table(one), "other.csv": table(other)}
    with pytest.raises(BadDataset, match="several tables"):
        ImageCase(upload).plan()
    case = ImageCase(upload, labels={"file": "one.csv", "column": "also"}, target="b")
    plan = case.plan()
    assert plan.spec.target.classes == ("0", "1", "2")
    assert labelled(case.encode(plan)[0], plan)["39.png"] == "0"
    assert plan.drops.counts == {"not_an_image": 1}
    for config, words in (
        ({"labels": {"file": "none.csv"}}, "no table 'none.csv'"),
        ({"labels": {"file": "one.csv", "column": "c"}}, "no column 'c'"),
        ({"labels": {"file": "one.csv", "column": "b"}}, "aren't names"),
        ({"labels": {"file": "one.csv"}, "target": "c"}, "no column 'c'"),
        ({"labels": {"file": "one.csv"}, "target": "picture", "task": "regression"}, "picture"),
    ):
        with pytest.raises(BadConfig, match=words) as caught:
            ImageCase(upload, **config).plan()
        assert caught.value.fix


def test_class_folders_go_before_a_table_without_labels():
    rows = [{"file": name, "bytes": len(data), "checksum": hash(name)} for name, data in DIGITS.items()]
    case = ImageCase({**DIGITS, "files.csv": table(rows)})
    plan = case.plan()
    assert plan.spec.target.classes == ("even", "odd") and plan.drops.counts == {"not_an_image": 1}
    rows = [{"file": name, "label": "left" if index < 20 else "right"} for index, name in enumerate(DIGITS)]
    assert ImageCase({**DIGITS, "files.csv": table(rows)}).plan().spec.target.classes == ("left", "right")


def test_a_table_that_cannot_be_read_is_no_index():
    for notes in (b"\xff\xfe\0\xd8\0", b"", b"\0\1\2", b"a,a\n1,2\n"):
        assert ImageCase({**DIGITS, "notes.csv": notes}).plan().drops.counts == {"not_an_image": 1}
        with pytest.raises(BadTable):
            ImageCase({**DIGITS, "notes.csv": notes}, labels={"file": "notes.csv"}).plan()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_an_index(encoding):
    rows = [{"Datei": name, "label": "grün" if index % 2 else "blau"} for index, name in enumerate(names())]
    case = ImageCase({**files(), "labels.csv": table(rows).decode().encode(encoding)})
    plan = case.plan()
    assert plan.spec.target.classes == ("blau", "grün") and len(case.encode(plan)[0]["target"]) == 40


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"target": "x"}, "no column"),
        ({"task": "regression"}, "task"),
        ({"labels": {}}, "no table"),
        ({"split": {"group": "x"}}, "split.group"),
        ({"sequence": {"time": "x"}}, "sequence"),
    ],
)
def test_settings_that_do_not_fit_folders(config, words):
    with pytest.raises(BadConfig, match=words):
        ImageCase(DIGITS, **config).plan()


def test_the_settings_of_images_are_in_the_spec():
    upload = {f"{index % 2}/{index}.png": save(np.roll(photo(), index, 0), "PNG") for index in range(10)}
    config = {"image": {"fit": "cover", "color": "hsv", "crop": 0.5}, "image_size": 16}
    plan = ImageCase(upload, **config).plan()
    assert plan.spec.image.model_dump() == {
        "height": 16, "width": 16, "channels": 3, "color": "hsv", "fit": "cover", "crop": 0.5,
    }  # fmt: skip
    tensors, _ = ImageCase(upload, **config).run()
    np.testing.assert_array_equal(tensors["image"][0], plan.spec.encode_image(upload["0/0.png"]))
    assert ImageCase(upload, image={"color": "grey"}).plan().spec.image.channels == 1
    assert ImageCase(DIGITS, image={"color": "rgb"}).plan().spec.image.channels == 3


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "loose"])
def test_bad_files_are_told_and_the_rest_goes_on(kind):
    bad = {
        "digits/odd/empty.png": b"",
        "digits/odd/cut.png": DIGITS["digits/odd/01.png"][:50],
        "digits/even/text.jpg": b"hello",
        "digits/even/jpeg.png": save(photo(), "JPEG"),
        "digits/readme.txt": b"hello",
        "digits/outside.png": save(photo(), "PNG"),
    }
    members = {**DIGITS, **bad}
    packed = {"zip": zip_of(members), "tar": tar_of(members), "tar.gz": tar_of(members, True)}
    tensors, drops = ImageCase(members if kind == "loose" else {f"a.{kind}": packed[kind]}).run()
    assert drops.total().counts == {"bad_image": 3, "not_an_image": 1, "no_class_folder": 1}
    assert len(tensors["target"]) == 41


def test_a_damaged_tar_gz_is_refused_as_a_whole():
    data = bytearray(PACKED["set.tar.gz"])
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadArchive):
        ImageCase({"a.tar.gz": bytes(data)}).plan()


def test_planning_and_encoding_twice_write_the_same():
    rows = rows_of("")
    upload = {"a.tar.gz": tar_of({**files(), "labels.csv": table(rows)}, True)}
    one, two = ImageCase(upload), ImageCase(upload)
    first = one.plan()
    assert one.plan() == first == two.plan()
    assert one.artifacts.objects == two.artifacts.objects
    assert {key.split("/")[3] for key in one.artifacts.objects} == {"blocks", "labels"}


def test_memory_is_bounded_by_the_item():
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (64, 64), np.uint8)) for _ in range(64)]
    data = [save(image, "PNG") for image in images]
    members = {f"set/{index % 2}/{index}.png": data[index % 64] for index in range(4000)}
    case = ImageCase({"a.zip": zip_of(members, stored=True)}, image={"color": "rgb"}, workers=16)
    tracemalloc.start()
    try:
        plan = case.plan()
        case.encode_one(plan, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    item = plan.items[0]
    assert peak < (item.last - item.first) * 3 * 64 * 64 + 24 * 1024**2
