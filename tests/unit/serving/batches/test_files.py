"""Images and texts through a model: loose, in zip and tar, with everything that isn't one told."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shoal_core.errors import BadArchive, BadInput, NotFound
from shoal_core.serving.prediction import predict
from tests.unit.serving.batches.jobs import Job, served

Files = dict[str, bytes]


def png(seed: int, mode: str = "L") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8) if mode == "L" else (9, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def images(count: int) -> Files:
    return {f"set/{index:03d}.png": png(index, "L" if index % 5 else "RGB") for index in range(count)}


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def tarred(files: Files, mode: str = "w", link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo("link.png")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    return buffer.getvalue()


def test_images_keep_their_order_and_get_the_answers_of_the_predict_function() -> None:
    sent = images(70)
    job = Job("drawings", {"photos.zip": zipped(sent)}, piece_records=16)
    manifest = job.run()
    found = job.lines()
    assert [line["file"] for line in found] == list(sent)
    assert len(manifest.parts) > 3
    for line in found:
        (expected,) = predict(served("drawings"), sent[line["file"]], "image/png")["predictions"]
        assert line["prediction"]["label"] == expected["label"]
        assert line["prediction"]["probability"] == pytest.approx(expected["probability"], abs=1e-6)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_what_is_no_image_is_an_error_record_in_its_place(kind: str) -> None:
    sent = images(12)
    files = {**sent, "set/bad.png": b"no image", "note.md": b"hello", ".hidden.png": b"x", "../out.png": png(1)}
    files["set/last.png"] = png(99)
    archive = {"zip": zipped(files), "tar": tarred(files, "w", True), "tar.gz": tarred(files, "w:gz", True)}[kind]
    job = Job("drawings", {f"photos.{kind}": archive}, piece_records=5)
    manifest = job.run()
    found = job.lines()
    names = [*sent, "set/bad.png", "note.md", "../out.png", "set/last.png"]
    assert [line["file"] for line in found] == names + (["link.png"] if kind != "zip" else [])
    errors = {line["file"]: line["error"]["code"] for line in found if "error" in line}
    expected = {"set/bad.png": "bad_image", "note.md": "not_an_image", "../out.png": "unsafe_name"}
    assert errors == {**expected, **({"link.png": "link"} if kind != "zip" else {})}
    assert all(line["error"]["fix"] for line in found if "error" in line)
    assert manifest.records == len(found) and manifest.errors == len(errors)


@settings(max_examples=15, deadline=None)
@given(pieces=st.integers(1, 30), bad=st.sets(st.integers(0, 39)), kind=st.sampled_from(["zip", "tar.gz", "loose"]))
def test_the_same_bytes_wherever_it_is_cut(pieces: int, bad: set[int], kind: str) -> None:
    files = {name: b"?" if index in bad else data for index, (name, data) in enumerate(images(40).items())}
    packed = {"zip": {"a.zip": zipped(files)}, "tar.gz": {"a.tar.gz": tarred(files, "w:gz")}, "loose": files}[kind]
    whole, cut = Job("drawings", packed), Job("drawings", packed, piece_records=pieces)
    whole.run()
    manifest = cut.run()
    assert cut.output() == whole.output()
    assert (manifest.records, manifest.errors) == (40, len(bad))


def test_loose_images_and_archives_are_one_job() -> None:
    files = {"b.png": png(1), "a.zip": zipped(images(5)), "c/d.png": png(2)}
    job = Job("drawings", files, files=("**",))
    job.run()
    assert [line["file"] for line in job.lines()] == [*(f"a.zip/{name}" for name in images(5)), "b.png", "c/d.png"]


def test_texts_are_answered_one_file_each() -> None:
    job = Job(
        "reviews", {"a.txt": b"word1 word2", "b/c.txt": b"\0\1\0\1\2", "b/d.md": b"x", "e.txt": "w\u00f6rd3".encode()}
    )
    assert job.run().codes == {"bad_text": 1, "not_a_text": 1}
    found = job.lines()
    assert [line["file"] for line in found] == ["a.txt", "b/c.txt", "b/d.md", "e.txt"]
    (expected,) = predict(served("reviews"), b"word1 word2", "text/plain")["predictions"]
    assert found[0]["prediction"]["label"] == expected["label"]


def test_texts_in_an_archive() -> None:
    files = {f"t/{index}.txt": f"word{index % 9} word2".encode() for index in range(40)}
    job = Job("reviews", {"texts.tar": tarred(files)}, piece_records=9)
    assert job.run().errors == 0
    assert [line["file"] for line in job.lines()] == list(files)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.zip", b"no archive", BadArchive),
        ("a.zip", zipped({}), BadArchive),
        ("a.zip", zipped({".x": b"1"}), BadInput),
    ],
)
def test_an_archive_that_can_not_be_read_says_why(name: str, data: bytes, error: type) -> None:
    with pytest.raises(error) as caught:
        Job("drawings", {name: data}).plan()
    assert caught.value.fix


@pytest.mark.parametrize(
    ("files", "settings", "names"),
    [
        (
            {"list.uris": b"s3://lake/set/001.png\ns3://lake/set/000.png\n"},
            {},
            ["lake/set/000.png", "lake/set/001.png"],
        ),
        ({"batch.yaml": b"-"}, {"source": "s3://lake/set/"}, [name.removeprefix("set/") for name in images(4)]),
        ({"batch.yaml": b"-"}, {"source": "s3://lake/set", "files": ("**/*1.png",)}, ["set/001.png"]),
    ],
)
def test_a_list_of_uris_and_a_prefix_are_read_where_they_are(
    files: Files, settings: dict[str, object], names: list[str]
) -> None:
    job = Job("drawings", files, **settings)
    job.uploads.in_bucket("lake").objects.update({**images(4), "set/_SUCCESS": b"", "other.png": png(1)})
    assert job.run().errors == 0
    assert [line["file"] for line in job.lines()] == names


def test_a_prefix_that_holds_nothing_is_told() -> None:
    with pytest.raises(NotFound, match="Nothing lies under 's3://lake/none/'"):
        Job("drawings", {"batch.yaml": b"-"}, source="s3://lake/none/").plan()
