import hashlib
import json

import pytest

import shoal
from shoal._training import overrides_of


@pytest.fixture
def digits(cloud, api):
    api.latest["digits"] = "v1"
    return api


def sent(api, method, path):
    return [json.loads(body) for found, where, _, body in api.requests if (found, where) == (method, path)]


def test_train_asks_for_a_run_and_returns_it(digits):
    run = shoal.train("digits", epochs=5, recipe="mlp", training={"momentum": 0.5}, workers=None)
    assert (run.id, run.dataset, run.unchanged) == ("digits-v1-requested", "digits", False)
    overrides = {"recipe": "mlp", "training": {"momentum": 0.5, "epochs": 5}}
    assert sent(digits, "POST", "/datasets/digits/runs") == [{"overrides": overrides}]
    assert run.wait().metrics["accuracy"] == 0.9812


def test_the_same_again_is_unchanged_and_a_version_can_be_named(digits):
    shoal.train("digits")
    assert shoal.train("digits", version="v1").unchanged
    assert sent(digits, "POST", "/datasets/digits/runs")[1] == {"overrides": {}, "version": "v1"}


def test_what_the_cloud_refuses_is_told(digits):
    with pytest.raises(shoal.NotFound, match="datasets/nobody/runs"):
        shoal.train("nobody")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 5}, "no setting 'epoch' of its own.*Did you mean 'epochs'"),
        ({"split": {"test": 0.3}}, "no setting 'split'.*shoal push"),
        ({"epochs": 5, "training": {"epochs": 3}}, "'epochs' is given twice"),
        ({"card": {"owner": object()}}, "A setting can't be sent"),
    ],
)
def test_what_is_no_setting_of_a_run_is_refused_before_anything_is_sent(settings, message, digits):
    with pytest.raises(shoal.BadRequest, match=message):
        shoal.train("digits", **settings)
    assert not sent(digits, "POST", "/datasets/digits/runs")


def test_null_inside_training_asks_for_the_usual():
    assert overrides_of({"training": {"momentum": None}}) == {"training": {"momentum": None}}


def test_a_push_isnt_answered_with_a_run_by_request(cloud, api, tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.client.POLL_SECONDS", 0.01)
    path = tmp_path / "digits.zip"
    path.write_bytes(b"1")
    first = shoal.push(path)
    requested = api.new_run("digits", first.document["version"]) | {"run_id": "requested", "request": {}}
    api.runs.insert(0, requested)
    again = shoal.push(path)
    assert (again.id, again.unchanged) == (first.id, True)


def test_a_run_gets_other_workers(digits):
    run = shoal.train("digits")
    assert run.set_workers(3) == {"run_id": run.id, "before": 2, "workers": 3}
    assert sent(digits, "PUT", f"/runs/{run.id}/workers") == [{"workers": 3}]


def test_a_quote_is_told_and_starts_nothing(digits):
    quote = shoal.quote("digits", version="v1", epochs=3, compute="auto")
    assert (quote["service"], [entry["minutes"] for entry in quote["quotes"]]) == ("lambda", [1.5, None])
    overrides = {"compute": "auto", "training": {"epochs": 3}}
    assert sent(digits, "POST", "/datasets/digits/quote") == [{"overrides": overrides, "version": "v1"}]
    assert not sent(digits, "POST", "/datasets/digits/runs")


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (None, {"service": "sagemaker"}),
        ({"instance": "ml.g5.xlarge"}, {"service": "sagemaker", "instance": "ml.g5.xlarge"}),
        ("auto", "auto"),
    ],
)
def test_a_script_is_uploaded_by_its_content(compute, expected, digits, s3, tmp_path):
    path = tmp_path / "train.py"
    path.write_bytes(b"print(1)")
    shoal.train("digits", script=path, compute=compute)
    (body,) = sent(digits, "POST", "/datasets/digits/runs")
    name = f"{hashlib.sha256(b'print(1)').hexdigest()[:16]}/train.py"
    assert body == {"overrides": {"compute": expected, "training": {"script": name}}}
    assert s3.get_object(Bucket=digits.bucket, Key=f"scripts/digits/{name}")["Body"].read() == b"print(1)"


def test_a_quote_of_a_script_is_one_of_its_job_and_uploads_nothing(digits, s3, tmp_path):
    path = tmp_path / "train.py"
    path.write_bytes(b"print(2)")
    shoal.connect().quote("digits", script=path)
    (body,) = sent(digits, "POST", "/datasets/digits/quote")
    name = f"{hashlib.sha256(b'print(2)').hexdigest()[:16]}/train.py"
    assert body == {"overrides": {"compute": {"service": "sagemaker"}, "training": {"script": name}}}
    assert not s3.list_objects_v2(Bucket=digits.bucket, Prefix=f"scripts/digits/{name}").get("Contents")


def test_a_script_in_the_bucket_is_named_and_another_kind_of_file_refused(digits, tmp_path):
    shoal.train("digits", script="there/train.py", compute="sagemaker")
    (body,) = sent(digits, "POST", "/datasets/digits/runs")
    assert body["overrides"]["training"] == {"script": "there/train.py"}
    other = tmp_path / "train.sh"
    other.touch()
    with pytest.raises(shoal.BadRequest, match="isn't a Python file"):
        shoal.train("digits", script=other)
