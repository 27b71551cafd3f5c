import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import shoal
from shoal.cli.output import Output
from shoal.demo import examples_folder, run_demo

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def joined(cloud, monkeypatch):
    """The demo against the cloud of the fixtures, which runs already."""
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("shoal.demo._start_cloud", lambda out: None)


def demo(as_json=False):
    with CliRunner().isolation() as (stdout, stderr, _):
        code = run_demo(Output(as_json))
        return code, stdout.getvalue().decode(), stderr.getvalue().decode()


def test_the_demo_goes_from_upload_to_predictions(api):
    code, text, _ = demo()
    assert code == 0
    assert f"PutObject s3://{api.bucket}/datasets/digits/digits.zip" in text
    assert "3 of 30 right" in text  # the server of the fixtures always says 3
    assert text.count("WRONG") == 27
    assert "accuracy           0.9812" in text and "macro F1" in text
    assert "whole run" in text and "GB-SECONDS" in text
    assert f"Endpoint  {api.url}/models/digits/predict" in text
    assert "curl -H 'Authorization: Bearer a-token'" in text
    assert "make down" in text
    posted = [body for _, path, content_type, body in api.requests if path.endswith("/predict")]
    assert posted == [path.read_bytes() for path in sorted((examples_folder() / "held-out").iterdir())]


def test_a_second_demo_shows_the_earlier_numbers(api):
    demo()
    code, text, _ = demo()
    assert code == 0
    assert f"unchanged: the same bytes were there, these are the numbers of run {api.runs[0]['run_id']}" in text
    assert len(api.runs) == 1


def test_the_demo_as_json(api):
    code, text, _ = demo(as_json=True)
    document = json.loads(text)
    assert (code, len(document["held_out"]), document["held_out_accuracy"]) == (0, 30, 0.1)
    assert document["run"]["metrics"]["accuracy"] == 0.9812


def test_a_failed_run_fails_the_demo(api):
    api.script = [{"status": "failed", "failure": {"stage": "Train Shard", "reason": "It broke.", "fix": "Mend it."}}]
    code, _, errors = demo()
    assert code == 1
    assert errors.endswith("failed at Train Shard: It broke.\nFix: Mend it.\n")


def test_a_prediction_that_cant_be_had_fails_the_demo(api, monkeypatch):
    monkeypatch.setattr(api, "predict", lambda *_: (500, "application/json", {"detail": "Out of memory."}))
    with pytest.raises(shoal.ServiceFailed, match="Out of memory"):
        demo()
