"""Bringing a model: what is uploaded where, and what is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import shoal
from shoal._imports import plan_import, put_import, run_of
from shoal.errors import BadRequest, RunFailed
from shoal_core.importing.bringing import run_of as run_of_server
from shoal_core.importing.describing import ModelDescription, read_description
from tests.unit.sdk.fake_api import FakeApi


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "My model.onnx"
    path.write_bytes(b"onnx")
    return path


def stored(api: FakeApi, name: str) -> dict[str, bytes]:
    listed = api.s3.list_objects_v2(Bucket=api.bucket, Prefix=f"models/{name}/").get("Contents", [])
    body: dict[str, Any] = {
        key: api.s3.get_object(Bucket=api.bucket, Key=key)["Body"] for key in (i["Key"] for i in listed)
    }
    return {key.rpartition("/")[2]: stream.read() for key, stream in body.items()}


def test_the_model_goes_last_beside_its_description(
    api: FakeApi, cloud: dict[str, str], model: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\n")
    run = shoal.import_model(model, labels=labels, image={"size": 224, "mean": [0.5, 0.5, 0.5]}, production=True).wait()
    assert run.model == {"name": "My-model", "version": 1}
    files = stored(api, "My-model")
    assert files["My model.onnx"] == b"onnx"
    assert files["labels.txt"] == b"a\nb\n"
    found = read_description(files["model.yaml"], lambda name: files[name])
    assert (found.labels, found.production) == (("a", "b"), True)
    assert found.image is not None
    assert found.image.size == (224, 224)


def test_each_content_has_a_folder_of_its_own(model: Path) -> None:
    plain, described = plan_import(model, name="m"), plan_import(model, name="m", description={"columns": ["a"]})
    assert plain.yaml == b""
    assert plain.folder == plan_import(model, name="m").folder != described.folder
    assert plain.folder.startswith("models/m/")


def test_a_config_brings_the_files_that_it_names(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "model.yaml"
    config.write_text("text: {vocabulary: words.txt, length: 4}\nlabels: classes.txt\ntask: regression\n")
    (tmp_path / "words.txt").write_text("good\n")
    (tmp_path / "classes.txt").write_text("x\n")
    plan = plan_import(model, config=config, description={"task": "classification", "output": None})
    assert set(plan.files) == {"words.txt", "classes.txt"}
    assert yaml.safe_load(plan.yaml)["task"] == "classification"


PIPELINE = """
input: {text: {vocabulary: vocab.txt}}
nodes: {tokens: {pieces: input}}
output: tokens
"""


def test_a_pipeline_goes_last_beside_its_vocabulary(api: FakeApi, cloud: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "find words"
    folder.mkdir()
    path, other = folder / "my.yaml", tmp_path / "other.txt"
    path.write_text(PIPELINE)
    (folder / "vocab.txt").write_text("[CLS]\n")
    other.write_text("[SEP]\n")
    run_id = put_import(shoal.connect().connection, plan_import(path))
    assert run_id.startswith("import-")
    assert stored(api, "find-words") == {"pipeline.yaml": PIPELINE.encode(), "vocab.txt": b"[CLS]\n"}
    plain, named = plan_import(path, name="m"), plan_import(path, name="m", vocabulary=other)
    assert named.files == {"vocab.txt": b"[SEP]\n"}
    assert plain.folder != named.folder


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        (PIPELINE, {}, "vocab.txt can't be read"),
        (PIPELINE.replace("vocab.txt", "../secret.txt"), {}, "names the file '../secret.txt'"),
        (PIPELINE.replace("vocab.txt", ".netrc"), {}, "names the file '.netrc'"),
        (PIPELINE, {"task": "regression"}, "says itself what it takes"),
        ("- input", {}, "isn't a pipeline"),
        ("input: [", {}, "isn't a pipeline"),
    ],
)
def test_a_pipeline_that_cant_be_imported_is_refused_before_anything_is_uploaded(
    tmp_path: Path, text: str, options: dict[str, Any], named: str
) -> None:
    (tmp_path / "secret.txt").write_text("key")
    path = tmp_path / "p" / "pipeline.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BadRequest, match=named):
        plan_import(path, description=options)


@pytest.mark.parametrize("text", ["labels: ../secret.txt\n", "text: {vocabulary: /etc/hostname}\n"])
def test_a_config_names_files_beside_it_only(model: Path, tmp_path: Path, text: str) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(text)
    with pytest.raises(BadRequest, match="Name a file beside"):
        plan_import(model, config=config)


def test_a_config_whose_text_is_no_description_is_left_to_the_server(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "model.yaml"
    config.write_text("text: words.txt\n")
    assert plan_import(model, config=config).files == {}


def test_both_sides_name_an_import_alike() -> None:
    assert run_of("models/m/x.onnx", "v") == run_of_server("models/m/x.onnx", "v")


def test_the_fields_are_those_of_the_server() -> None:
    from shoal._imports import FIELDS

    assert set(ModelDescription.model_fields) == FIELDS


def test_what_cant_be_imported_is_refused_before_anything_is_uploaded(
    api: FakeApi, cloud: dict[str, str], model: Path, tmp_path: Path
) -> None:
    keras = tmp_path / "net.h5"
    keras.write_bytes(b"x")
    for path, options, named in (
        (keras, {}, "isn't an ONNX file"),
        (tmp_path / "none.onnx", {}, "doesn't exist"),
        (model, {"colour": "red"}, "no field 'colour'"),
        (model, {"labels": tmp_path / "none.txt"}, "can't be read"),
        (model, {"name": "../up"}, "can't be a dataset's name"),
    ):
        with pytest.raises(BadRequest, match=named):
            shoal.import_model(path, **options)
    assert not api.s3.list_objects_v2(Bucket=api.bucket).get("Contents")


def test_a_refused_model_fails_its_run(api: FakeApi, cloud: dict[str, str], model: Path) -> None:
    with pytest.raises(RunFailed, match="It is bad"):
        shoal.import_model(model, name="bad").wait()
