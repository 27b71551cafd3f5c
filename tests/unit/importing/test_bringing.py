"""An uploaded model's way to a version that serves: the function itself, over S3 and DynamoDB in the test's process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from shoal_core.errors import NotFound
from tests.support.aws import REGION, ROOT, invoke, stack
from tests.support.backbones import image_network
from tests.unit.importing import hostile, models

EVENT = (ROOT / "events/import_model.json").read_text()


@pytest.fixture
def cloud() -> Iterator[None]:
    with stack():
        yield


def write(key: str, data: bytes) -> dict[str, Any]:
    """Write an object; the event that S3 would send."""
    answer = boto3.client("s3", region_name=REGION).put_object(Bucket="uploads", Key=key, Body=data)
    event = json.loads(EVENT)
    event["Records"][0]["s3"]["object"] |= {"key": key, "versionId": answer["VersionId"], "size": len(data)}
    return dict(event)


def send(event: dict[str, Any]) -> dict[str, Any]:
    (outcome,) = invoke("import_model", event)["outcomes"]
    return dict(outcome)


def upload(key: str, data: bytes) -> dict[str, Any]:
    return send(write(key, data))


def queries() -> Any:
    from shoal_core.aws.handler import artifacts, catalog
    from shoal_core.registry.queries import Queries

    return Queries(catalog(), artifacts(), "x86_64")


def test_a_model_is_served_and_its_origin_is_kept(cloud):
    outcome = upload("models/scores/v1/linear.onnx", models.linear_classifier())
    run = queries().run(outcome["run_id"])
    assert (run.status, run.model.name, run.model.version) == ("succeeded", "scores", 1)
    assert [stage.name for stage in run.stages] == ["Import Model"]
    model = queries().model("scores", "http://api")
    assert model.aliases["production"] == 1
    (version,) = model.versions
    assert version.task == "tensors"
    assert version.signature["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}]
    assert version.lineage["upload"]["key"] == "models/scores/v1/linear.onnx"
    assert version.lineage["file"]["operators"] == {"Identity": 1, "ai.onnx.ml.LinearClassifier": 1}
    from shoal_core.aws.audit import Audit

    (entry,) = Audit().entries()
    assert (entry.action, entry.subject) == ("model.imported", "scores/1")


def test_the_same_event_and_the_same_bytes_change_nothing(cloud):
    event = write("models/m/a.onnx", models.linear_classifier())
    assert [send(event)["status"], send(event)["status"]] == ["started", "unchanged"]
    assert upload("models/m/b.onnx", models.linear_classifier())["status"] == "started"
    assert [version.version for version in queries().model("m", "").versions] == [1]


def test_a_later_version_waits_unless_it_is_asked_for(cloud):
    upload("models/m/1/m.onnx", models.linear_classifier())
    upload("models/m/2/m.onnx", models.one_probability())
    assert queries().model("m", "").aliases == {"production": 1, "candidate": 2}
    upload("models/m/3/model.yaml", b"production: true\ncolumns: [a, b]\n")
    upload("models/m/3/m.onnx", models.linear_classifier())
    model = queries().model("m", "")
    assert model.aliases["production"] == 3
    assert model.versions[0].task == "classification"
    assert [column["name"] for column in model.inputs["numbers"]] == ["a", "b"]


def test_a_description_may_come_behind_its_model(cloud):
    assert upload("models/m/model.yaml", b"columns: [a, b]\nlabels: labels.txt\n")["status"] == "waiting"
    assert upload("models/m/labels.txt", b"x\ny\nz\n")["status"] == "ignored"
    assert upload("models/m/m.onnx", models.linear_classifier())["status"] == "started"
    assert queries().model("m", "").classes == ["x", "y", "z"]
    again = upload("models/m/model.yaml", b"columns: [a, b]\nlabels: ['1', '2', '3']\n")
    assert queries().run(again["run_id"]).model.version == 2


@pytest.mark.parametrize(
    ("key", "data", "named"),
    [
        ("models/m/m.onnx", hostile.external("../../secret").SerializeToString(), "'../../secret'"),
        ("models/m/m.onnx", hostile.custom_domain().SerializeToString(), "'evil.corp'"),
        ("models/m/m.onnx", b"", "is empty"),
        ("models/m/weights.pkl", b"cos\nsystem\n(S'id'\ntR.", "'weights.pkl' isn't an ONNX file"),
        ("models/m/net.h5", b"x", "shoal convert net.h5"),
        ("models/.hidden/m.onnx", models.linear_classifier(), "The model name '.hidden' isn't allowed"),
        ("models/m.onnx", models.linear_classifier(), "The model name '' isn't allowed"),
    ],
)
def test_what_cant_be_served_is_a_failed_run_with_reason_and_fix(cloud, key, data, named):
    outcome = upload(key, data)
    assert outcome["status"] == "refused"
    failure = queries().run(outcome["run_id"]).failure
    assert failure.stage == "Import Model"
    assert named in f"{failure.reason} {failure.fix}"
    assert failure.fix


def test_a_refused_import_is_told_at_its_model(cloud):
    upload("models/m/1/m.onnx", hostile.custom_domain().SerializeToString())
    with pytest.raises(NotFound, match="last import was refused: Operator 'Run'"):
        queries().model("m", "")
    upload("models/m/2/m.onnx", models.linear_classifier())
    (refused,) = queries().model("m", "").refused
    assert refused.error == "BadModel"
    assert "evil.corp" in refused.reason


def test_an_object_that_is_gone_or_of_nobody_is_ignored(cloud):
    event = write("models/m/m.onnx", models.linear_classifier())
    stored = event["Records"][0]["s3"]["object"]
    s3 = boto3.client("s3", region_name=REGION)
    s3.delete_object(Bucket="uploads", Key=stored["key"], VersionId=stored["versionId"])
    assert send(event)["status"] == "ignored"
    assert upload("models/m/README.md", b"hello")["status"] == "ignored"
    assert queries().runs().runs == []


def test_an_import_whose_function_died_twice_is_refused_by_the_third_event(cloud, monkeypatch):
    from shoal_core.importing import bringing

    def dies(*args: object) -> None:
        raise MemoryError

    event = write("models/m/m.onnx", models.linear_classifier())
    monkeypatch.setattr(bringing, "verify_model", dies)
    for _ in range(2):
        with pytest.raises(MemoryError):
            send(event)
    outcome = send(event)
    assert outcome["status"] == "refused"
    assert "begun 2 times" in queries().run(outcome["run_id"]).failure.reason


def test_a_missing_file_of_labels_is_named(cloud):
    upload("models/m/model.yaml", b"columns: [a, b]\nlabels: nowhere.txt\n")
    outcome = upload("models/m/m.onnx", models.linear_classifier())
    assert "nowhere.txt" in queries().run(outcome["run_id"]).failure.reason


def test_a_backbone_is_a_version_with_its_page_beside_it(cloud):
    key = "models/net/v1/pretrained.onnx"
    write("models/net/v1/model.yaml", b"backbone: true\nimage: {size: 12, mean: [0.5], std: [0.25]}\n")
    outcome = upload(key, image_network())
    assert queries().run(outcome["run_id"]).status == "succeeded"
    (version,) = queries().model("net", "http://api").versions
    assert (version.task, version.promotion["decision"]) == ("tensors", "production")
    assert version.signature["outputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 10]}]
    assert version.lineage["backbone"]["source"] == "k"
    assert "is cut off" in version.lineage["inferred"][1]
    store = boto3.client("s3", region_name=REGION)
    page = json.loads(store.get_object(Bucket="artifacts", Key="models/net/1/backbone.json")["Body"].read())
    assert (page["name"], page["version"], page["digest"]) == ("net", 1, version.digest)
    again = write("models/net/v2/model.yaml", b"backbone: {features: g}\nimage: {size: 12}\n")
    assert send(again)["status"] == "waiting"
    upload("models/net/v2/pretrained.onnx", image_network())
    assert [entry.version for entry in queries().model("net", "http://api").versions] == [2, 1]


def test_a_backbone_that_nothing_describes_is_refused(cloud):
    write("models/net/model.yaml", b"backbone: true\n")
    outcome = upload("models/net/pretrained.onnx", image_network())
    assert outcome["status"] == "refused"
    assert "A backbone takes images or texts, and nothing says how" in outcome["reason"]
