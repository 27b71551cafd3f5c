"""The two pipelines that ship, on pretrained models, through the command line and real HTTP."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.pipelines.fetch_models import fetch
from tests.e2e.cloud import LocalCloud
from tests.support.aws import ROOT
from tests.support.real_data import operations

PIPELINES = ROOT / "examples/pipelines"
HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
SERVICES = ("ec2", "glue", "iam", "sagemaker")
KNOWN, ASKED = 60, 25  # texts of each service
ARBITRARY = "One sentence."


@pytest.fixture(scope="module")
def pretrained() -> Path:
    return fetch()


def import_pipeline(cloud: LocalCloud, name: str, *options: str) -> dict[str, object]:
    found = cloud.shoal("import", str(PIPELINES / name / "pipeline.yaml"), "--name", name, *options, "--json")
    return dict(json.loads(found.stdout))


def photo(digit: Path, place: np.random.Generator) -> bytes:
    """A black photo with the digit somewhere in it."""
    image = Image.new("RGB", (800, 600))
    side = int(place.integers(120, 260))
    corner = int(place.integers(0, 800 - side)), int(place.integers(0, 600 - side))
    image.paste(Image.open(digit).convert("RGB").resize((side, side), Image.Resampling.BICUBIC), corner)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_a_digit_in_a_photo_is_found_and_read(digits: LocalCloud, pretrained: Path) -> None:
    digits.shoal("import", str(pretrained / "u2netp.onnx"), "--name", "u2netp")
    import_pipeline(digits, "find-and-classify")
    shown = digits.get("/models/find-and-classify")["versions"][0]
    assert shown["lineage"]["pipeline"]["digit"] == {"model": "digits", "version": 1, "follows": None}
    place = np.random.default_rng(0)
    right = {"find-and-classify": 0, "digits": 0}
    for digit in HELD_OUT[::3]:
        data = photo(digit, place)
        for model in right:
            answer = digits.http("POST", f"/models/{model}/predict", data, "image/png")
            assert answer.status == 200, answer
            right[model] += answer.body["predictions"][0]["label"] == digit.name[0]
    assert right["find-and-classify"] >= 9 > 4 > right["digits"]


def test_a_text_is_embedded_and_classified(cloud: LocalCloud, pretrained: Path) -> None:
    vocabulary = ("--vocabulary", str(pretrained / "vocab.txt"))
    cloud.shoal("import", str(pretrained / "minilm.onnx"), "--name", "minilm")
    import_pipeline(cloud, "embed", *vocabulary)

    def vectors(texts: list[str]) -> list[list[float]]:
        body = json.dumps(texts).encode()
        answer = cloud.http("POST", "/models/embed/predict", body, "application/json")
        assert answer.status == 200, answer
        return [prediction["value"] for prediction in answer.body["predictions"]]

    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*(f"e{number}" for number in range(384)), "service"])
    for service in SERVICES:
        for vector in vectors([text or ARBITRARY for text in operations()[service][:KNOWN]]):
            writer.writerow([*vector, service])
    cloud.put("datasets/services/dataset.yaml", b"target: service\ntraining: {epochs: 20}\nrounds: 3\n")
    cloud.put("datasets/services/vectors.csv", table.getvalue().encode())
    cloud.succeeded("services")
    import_pipeline(cloud, "embed-and-classify", *vocabulary)
    asked = [(text, service) for service in SERVICES for text in operations()[service][KNOWN : KNOWN + ASKED] if text]
    body = json.dumps([text for text, _ in asked]).encode()
    answer = cloud.http("POST", "/models/embed-and-classify/predict", body, "application/json")
    assert answer.status == 200, answer
    labels = [prediction["label"] for prediction in answer.body["predictions"]]
    right = sum(label == service for label, (_, service) in zip(labels, asked, strict=True))
    assert right / len(asked) > 0.8


def test_a_pipeline_that_cant_work_is_refused_with_the_nodes_name(digits: LocalCloud, tmp_path: Path) -> None:
    text = (PIPELINES / "find-and-classify/pipeline.yaml").read_text()
    broken = tmp_path / "pipeline.yaml"
    broken.write_text(text.replace("{model: digits,", "{model: letters,"))
    answer = digits.shoal("import", str(broken), "--name", "broken", check=False)
    assert answer.returncode != 0
    assert "letters" in answer.stdout + answer.stderr
