"""The Open Inference Protocol with a second client that isn't ours: MLServer's (`make test-clients`).

It needs FastAPI and pydantic in versions of its own, so it lives in an environment of its own.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.cloud import LocalCloud, local_cloud
from tests.e2e.conftest import PENGUINS
from tests.support.aws import ROOT

MLSERVER = ROOT / ".venv-serve-mlserver" / "bin" / "mlserver"
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year")

pytestmark = pytest.mark.skipif(not MLSERVER.exists(), reason="make test-clients installs MLServer")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with local_cloud(tmp_path_factory.mktemp("clients")) as running:
        running.shoal("push", "examples/penguins/penguins.csv", "--target", "species", "--json")
        yield running


def test_a_file_of_requests_is_answered_line_by_line(cloud: LocalCloud, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(PENGUINS.decode())))[:20]
    inputs = cloud.get("/v2/models/penguins")["inputs"]
    assert {tensor["name"] for tensor in inputs} == {"numbers", "categories"}
    categories = {entry["name"]: entry["categories"] for entry in cloud.get("/models/penguins")["inputs"]["categories"]}
    asked, answered = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    with asked.open("w") as file:
        for row in rows:
            numbers = [float(row[name] or "nan") for name in NUMBERS]
            codes = [values.index(row[name]) + 1 if row[name] in values else 0 for name, values in categories.items()]
            tensors = [
                {"name": "numbers", "datatype": "FP32", "shape": [1, 5], "data": [0 if n != n else n for n in numbers]},
                {"name": "categories", "datatype": "INT64", "shape": [1, len(codes)], "data": codes},
            ]
            file.write(json.dumps({"inputs": tensors}) + "\n")
    command = [
        *(str(MLSERVER), "infer", "--model-name", "penguins", "--url", urlsplit(cloud.status["api"]).netloc),
        *("--workers", "2", "--input-data-path", str(asked), "--output-data-path", str(answered)),
        *("--transport", "rest", "--request-headers", f"Authorization: Bearer {cloud.status['token']}"),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert answered.exists(), finished.stdout + finished.stderr
    answers = [json.loads(line) for line in answered.read_text().splitlines()]
    assert len(answers) == len(rows)
    assert all(answer["model_name"] == "penguins" for answer in answers), answers[0]
    outputs = [output for answer in answers for output in answer["outputs"] if output["name"] == "probabilities"]
    assert len(outputs) == len(rows)
    classes = cloud.get("/models/penguins")["classes"]
    best = [classes[max(range(len(classes)), key=output["data"].__getitem__)] for output in outputs]
    # The client doesn't keep the order of its requests; these rows are nearly all of one class.
    truth = [row["species"] for row in rows]
    assert sum(best.count(label) for label in set(truth)) >= 0.9 * len(rows)
