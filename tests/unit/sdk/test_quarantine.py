import json

import pytest

import shoal
from shoal.errors import BadRequest, NotFound


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("shoal.client.POLL_SECONDS", 0.01)


@pytest.fixture
def dataset(cloud, api, tmp_path):
    path = tmp_path / "pets.zip"
    path.write_bytes(b"1")
    client = shoal.connect()
    client.push(path)
    api.script = [{"status": "running"}]
    return client.dataset("pets")


def sample(place, row=None, key=None, file="pets.zip"):
    entry = {"file": file, "place": place, "code": "bad_image", "reason": "It doesn't decode.", "fix": "Replace it."}
    return {**entry, **({"row": row} if row is not None else {}), **({"key": key} if key else {})}


def test_all_pages_are_read(dataset, api):
    api.quarantine = [sample(f"cats/{number}.png") for number in range(5)]
    assert [found["place"] for found in dataset.quarantine()] == [f"cats/{number}.png" for number in range(5)]
    with pytest.raises(NotFound):
        dataset.quarantine("none")


def test_the_page_is_bytes(dataset):
    assert dataset.report_page() == b"<!doctype html><title>r</title>"


def test_files_are_saved_under_their_names_and_never_outside(dataset, api, tmp_path):
    places = ("cats/1.png", "../../evil.png", "/abs.png", "cats\\2.png", "..", "cats/1.png")
    api.quarantine = [
        sample(place, key=f"quarantine/pets/v/item-00000/{number:04d}.png") for number, place in enumerate(places)
    ]
    folder = tmp_path / "out" / "bad"
    saved = dataset.save_quarantine(folder)
    assert all(path.resolve().is_relative_to(folder.resolve()) for path in saved)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in saved[:-1]}
    assert found == {
        "cats/1.png": b"bytes of item-00000/0000.png",
        "evil.png": b"bytes of item-00000/0001.png",
        "abs.png": b"bytes of item-00000/0002.png",
        "cats/2.png": b"bytes of item-00000/0003.png",
        "pets/v/item-00000/0004.png": b"bytes of item-00000/0004.png",
        "cats/1-2.png": b"bytes of item-00000/0005.png",
    }
    lines = (folder / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["place"] for line in lines] == list(places)
    with pytest.raises(BadRequest, match="isn't empty"):
        dataset.save_quarantine(folder)


def test_rows_become_a_table_with_the_header_of_the_source(dataset, api, tmp_path):
    api.report = {"settings": {"delimiter": ";"}, "columns": [{"name": "a"}, {"name": "b;c"}]}
    api.quarantine = [
        sample("line 3", row="1;2;3\r\n", file="t.csv"),
        sample("line 9", row='{"a": "4", "b;c": null}', file="t.csv"),
        sample("line 4", row="5;6;7", file="plain.csv"),
        sample("line 2", row='{"a": ', file="lines.jsonl"),
        sample("gone.png"),
    ]
    saved = dataset.save_quarantine(tmp_path / "bad")
    assert {path.name: path.read_bytes() for path in saved[:-1]} == {
        "t-mended.csv": b'a;"b;c"\n1;2;3\n4;\n',
        "plain-mended.csv": b'a;"b;c"\n5;6;7\n',
        "lines-mended.jsonl": b'{"a":\n',
    }


def test_mended_files_are_uploaded_before_the_file_that_commits_them(dataset, api, tmp_path):
    folder = tmp_path / "mended"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats/1.png").write_bytes(b"good")
    (folder / "quarantine.jsonl").write_text("{}")
    (folder / ".hidden").write_text("")
    extra = tmp_path / "dogs.png"
    extra.write_bytes(b"dog")
    run = shoal.connect().replay("pets", folder, extra)
    (source,) = run.document["source"]
    prefix = source["key"].removesuffix("replay.yaml")
    assert prefix.startswith("datasets/pets/replay/")
    stored = api.s3.list_objects_v2(Bucket=api.bucket, Prefix=prefix)["Contents"]
    assert [item["Key"].removeprefix(prefix) for item in stored] == ["cats/1.png", "dogs.png", "replay.yaml"]
    text = api.s3.get_object(Bucket=api.bucket, Key=source["key"])["Body"].read()
    assert text == f"version: '{dataset.latest_version}'\n".encode()
    again = shoal.connect().replay("pets", folder, extra)
    assert again.document["source"][0]["key"] == source["key"]


def test_without_files_the_version_runs_again_each_time(dataset):
    client = shoal.connect()
    keys = {client.replay("pets").document["source"][0]["key"] for _ in range(2)}
    assert len(keys) == 2


def test_what_cant_be_replayed_is_told_before_anything_is_uploaded(dataset, api, tmp_path):
    client = shoal.connect()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").write_bytes(b"1")
    (tmp_path / "x.png").write_bytes(b"2")
    for paths, reason in (
        ([tmp_path / "none"], "doesn't exist"),
        ([tmp_path / "empty"], "holds no files"),
        ([tmp_path / "a", tmp_path / "x.png"], "Two files are called 'x.png'"),
    ):
        with pytest.raises(BadRequest, match=reason):
            client.replay("pets", *paths)
    assert "Contents" not in api.s3.list_objects_v2(Bucket=api.bucket, Prefix="datasets/pets/replay/")
    with pytest.raises(NotFound):
        client.replay("nobody")
