import time
from types import SimpleNamespace

import pytest
import yaml

import shoal
from shoal import BadRequest
from shoal._settings import SETTINGS, parse_settings
from shoal.uploads import SINGLE_PUT_BYTES, Uploader, clean_name, plan_source, plan_upload
from shoal_core.data.config import DatasetConfig, parse_config
from shoal_core.registry.names import parse_upload_key


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "cats and dogs"
    for name in ("cat/1.png", "cat/2.JPG", "dog/1.png", ".git/3.png", "dog/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def keys(api):
    return [item["Key"] for item in api.s3.list_objects_v2(Bucket=api.bucket).get("Contents", [])]


@pytest.fixture
def client(cloud):
    """A client that notes the keys it puts, in `client.puts`."""
    client = shoal.connect()
    client.puts = []
    events = client.connection.s3.meta.events
    events.register("provide-client-params.s3.PutObject", lambda params, **_: client.puts.append(params["Key"]))
    return client


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("digits.zip", "digits"),
        ("My data (1).tar.gz", "My-data-1"),
        ("v1.2.csv", "v1.2"),
        ("_x_.csv", "x"),
        ("é" + "a" * 90 + ".zip", "a" * 64),
    ],
)
def test_the_name_comes_from_the_file(tmp_path, file, name):
    (tmp_path / file).touch()
    assert clean_name(tmp_path / file) == name


def test_a_name_without_a_letter_has_to_be_given(tmp_path):
    (tmp_path / "数据.zip").touch()
    with pytest.raises(BadRequest, match="--name"):
        plan_upload(tmp_path / "数据.zip")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "é", "a" * 65, "a\n"])
def test_a_bad_name_is_refused_before_the_upload(client, api, tmp_path, name):
    (tmp_path / "x.zip").write_bytes(b"1")
    with pytest.raises(BadRequest, match="can't be a dataset's name"):
        client.push(tmp_path / "x.zip", name=name)
    assert keys(api) == []


@pytest.mark.parametrize("file", ["x.txt", "x", "x.zip.bak", "x.gz"])
def test_a_file_that_is_no_dataset_is_refused(tmp_path, file):
    (tmp_path / file).touch()
    with pytest.raises(BadRequest, match="neither an archive nor a table"):
        plan_upload(tmp_path / file)


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(BadRequest, match="doesn't exist"):
        plan_upload(tmp_path / "nowhere")
    with pytest.raises(BadRequest, match="holds no images"):
        plan_upload(tmp_path)


def test_every_field_of_dataset_yaml_is_a_setting():
    assert sorted(SETTINGS) == sorted(DatasetConfig.model_fields)


@pytest.mark.parametrize(
    ("file", "loose"),
    [
        ("a.csv.gz", False), ("a.jsonl.zst", False), ("a.JSON", False), ("a.parquet", False), ("a.uris", False),
        ("labels.csv", True), ("metadata.jsonl.gz", True), ("labels.zip", False),
    ],
)  # fmt: skip
def test_what_starts_by_itself_is_what_ingesting_says(tmp_path, file, loose):
    (tmp_path / file).write_bytes(b"1")
    upload = plan_upload(tmp_path / file, name="data")
    assert upload.loose is loose
    (key,) = upload.files
    parsed = parse_upload_key(key)
    assert parsed is not None and parsed.is_container is not loose


def files_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    upload = plan_upload(folder, name="data")
    assert upload.loose
    assert all(not parse_upload_key(key).is_container for key in upload.files)
    return [key.removeprefix("datasets/data/") for key in upload.files], upload.config


def test_a_folder_of_texts_partitions_or_labelled_images_waits_for_its_dataset_yaml(tmp_path):
    names = ["bad/2.txt", "good/1.txt"]
    assert files_of(tmp_path / "texts", *names, ".hidden/3.txt", "good/notes.pdf")[0] == names
    names = ["year=2025/a.parquet", "year=2026/a.parquet"]
    assert files_of(tmp_path / "lake", *names)[0] == names
    names = ["1.png", "labels.csv"]
    assert files_of(tmp_path / "labelled", *names)[0] == names


def test_tables_at_the_top_of_a_folder_go_into_a_folder_since_they_would_start_by_themselves(tmp_path):
    (tmp_path / "dataset.yaml").write_text("labels: {file: truth.csv, column: name}\nseed: 1\n")
    names, config = files_of(tmp_path, "truth.csv", "cats/1.png")
    assert names == ["files/cats/1.png", "files/truth.csv"]
    assert parse_config(config) == parse_config(b"labels: {file: files/truth.csv, column: name}\nseed: 1")


@pytest.mark.parametrize(
    ("uri", "name", "source"),
    [
        ("s3://lake/pets/cats/", "cats", {"s3": "s3://lake/pets/cats/"}),
        ("s3://lake", "lake", {"s3": "s3://lake"}),
        ("dynamodb://Things", "Things", {"dynamodb": "Things"}),
    ],
)
def test_a_source_is_a_dataset_yaml(uri, name, source):
    upload = plan_source(uri, settings={"schedule": "rate(1 day)", "target": None})
    assert (upload.dataset, upload.files, upload.source) == (name, {}, uri)
    config = parse_config(upload.config)
    assert config.source.model_dump(exclude_none=True) == source
    assert config.schedule == "rate(1 day)"
    with pytest.raises(BadRequest, match="names nothing"):
        plan_source("s3://")


def test_settings_of_the_command_line_are_yaml():
    assert parse_settings(["split.test=0.2", "split.validation=0", "files=['a', 'b']", "target=x=y"]) == {
        "split": {"test": 0.2, "validation": 0},
        "files": ["a", "b"],
        "target": "x=y",
    }
    for wrong in (["x"], ["=1"], ["a.=1"], ["a=1", "a=2"], ["a=1", "a.b=2"], ["a={"]):
        with pytest.raises(BadRequest):
            parse_settings(wrong)


def test_pushing_a_source_waits_while_it_is_read(client, api, monkeypatch):
    """As long as the note says that it is read, however long; then the run appears, made from the dataset.yaml."""
    monkeypatch.setattr("shoal.client.READ_SECONDS", 0.5)
    run = client.push("s3://lake/pets/", seed=3)
    assert client.puts == ["datasets/pets/dataset.yaml"]
    assert run.dataset == "pets"


def test_an_unknown_setting_is_refused(tmp_path):
    (tmp_path / "x.csv").touch()
    with pytest.raises(BadRequest, match="no setting 'wrokers'"):
        plan_upload(tmp_path / "x.csv", settings={"wrokers": 2})


def test_settings_go_over_the_config_file(tmp_path):
    (tmp_path / "x.csv").touch()
    (tmp_path / "c.yaml").write_text("target: a\nrounds: 3\n")
    upload = plan_upload(tmp_path / "x.csv", config=tmp_path / "c.yaml", settings={"target": "b", "task": None})
    assert yaml.safe_load(upload.config) == {"target": "b", "rounds": 3}


def test_a_config_file_alone_is_uploaded_as_it_is(tmp_path):
    (tmp_path / "x.csv").touch()
    (tmp_path / "c.yaml").write_text("# mine\ntarget: a\n")
    assert plan_upload(tmp_path / "x.csv", config=tmp_path / "c.yaml").config == b"# mine\ntarget: a\n"


@pytest.mark.parametrize("text", ["a: [", "- 1\n"])
def test_a_config_file_that_isnt_one_is_refused(tmp_path, text):
    (tmp_path / "x.csv").touch()
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadRequest, match=r"c\.yaml"):
        plan_upload(tmp_path / "x.csv", config=tmp_path / "c.yaml", settings={"target": "b"})


def test_an_archive_starts_a_run(client, api, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"1")
    run = client.push(tmp_path / "x.zip")
    assert run.dataset == "x" and not run.unchanged
    assert keys(api) == ["datasets/x/x.zip"]


def test_the_same_bytes_give_the_earlier_run_without_an_upload(client, api, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"1")
    first = client.push(tmp_path / "x.zip")
    again = client.push(tmp_path / "x.zip")
    assert (again.id, again.unchanged) == (first.id, True)
    assert len(client.puts) == 1


def test_other_bytes_make_a_new_run(client, api, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"1")
    first = client.push(tmp_path / "x.zip")
    (tmp_path / "x.zip").write_bytes(b"2")
    second = client.push(tmp_path / "x.zip")
    assert second.id != first.id and not second.unchanged


def test_bytes_of_an_older_version_give_its_run(client, api, tmp_path):
    runs = []
    for data in (b"1", b"2", b"1"):
        (tmp_path / "x.zip").write_bytes(data)
        runs.append(client.push(tmp_path / "x.zip"))
    assert (runs[2].id, runs[2].unchanged) == (runs[0].id, True)


def test_time_that_runs_out_during_a_look_loses_no_run(client, api, tmp_path, monkeypatch):
    (tmp_path / "x.zip").write_bytes(b"1")
    failed = client.push(tmp_path / "x.zip")
    api.runs[0]["status"] = "failed"
    early = iter([0.0, 0.01])
    monkeypatch.setattr("shoal.client.time", SimpleNamespace(monotonic=lambda: next(early, 99.0), sleep=time.sleep))
    again = client.push(tmp_path / "x.zip")
    assert (again.id, again.unchanged) == (failed.id, True)


def test_settings_go_before_a_table_and_only_when_they_differ(client, api, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,2\n")
    first = client.push(tmp_path / "x.csv", target="a")
    assert client.puts == ["datasets/x/dataset.yaml", "datasets/x/x.csv"]
    assert client.push(tmp_path / "x.csv", target="a").unchanged
    other = client.push(tmp_path / "x.csv", target="b", rounds=3)
    assert other.id != first.id and not other.unchanged
    stored = api.s3.get_object(Bucket=api.bucket, Key="datasets/x/dataset.yaml")["Body"].read()
    assert yaml.safe_load(stored) == {"target": "b", "rounds": 3}


def test_loose_files_are_committed_by_dataset_yaml_last(client, api, images):
    run = client.push(images)
    assert run.dataset == "cats-and-dogs"
    prefix = "datasets/cats-and-dogs/"
    assert keys(api) == [prefix + name for name in ("cat/1.png", "cat/2.JPG", "dataset.yaml", "dog/1.png")]
    assert client.puts[-1] == f"{prefix}dataset.yaml"


def test_of_loose_files_only_changed_ones_are_uploaded_again(client, api, images):
    first = client.push(images)
    assert client.push(images).unchanged
    (images / "dog" / "1.png").write_bytes(b"another dog")
    second = client.push(images)
    assert second.id != first.id and not second.unchanged
    prefix = "datasets/cats-and-dogs/"
    assert client.puts[4:] == [f"{prefix}dog/1.png", f"{prefix}dataset.yaml"]


def test_a_dataset_yaml_in_the_folder_is_used(client, api, images):
    (images / "dataset.yaml").write_text("workers: 3\n")
    client.push(images)
    stored = api.s3.get_object(Bucket=api.bucket, Key="datasets/cats-and-dogs/dataset.yaml")["Body"].read()
    assert stored == b"workers: 3\n"


def test_a_large_file_goes_in_parts_and_is_known_again(client, api, tmp_path):
    path = tmp_path / "big.zip"
    path.write_bytes(b"x" * (SINGLE_PUT_BYTES + 1))
    seen = []
    uploader = Uploader(client.connection, plan_upload(path), lambda done, total: seen.append((done, total)))
    ((key, version),) = uploader.put().written
    head = api.s3.head_object(Bucket=api.bucket, Key=key)
    assert "-" in head["ETag"] and head["VersionId"] == version
    assert seen[-1] == (SINGLE_PUT_BYTES + 1, SINGLE_PUT_BYTES + 1)
    assert uploader.unchanged().kept == {(key, version)}


def test_a_missing_bucket_is_an_error_with_a_fix(client, api, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"1")
    api.s3.delete_bucket(Bucket=api.bucket)
    with pytest.raises(shoal.NotFound, match=api.bucket):
        Uploader(client.connection, plan_upload(tmp_path / "x.zip")).put()


def test_an_upload_that_starts_no_run_is_told(client, api, tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.client.APPEAR_SECONDS", 0.1)
    api.ingesting = False
    (tmp_path / "x.zip").write_bytes(b"1")
    with pytest.raises(shoal.ServiceFailed, match=r"no run has started.*shoal logs ingest_upload"):
        client.push(tmp_path / "x.zip")
