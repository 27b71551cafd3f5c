"""Anomalies in the real cloud: a table without a target becomes a model that scores rows, one by one, in batches and on
streams, and its report and card say how.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

import shoal
from shoal._streams import Streams
from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import PENGUINS
from tests.e2e.test_streams import connection
from tests.integration.local.conftest import wait_until

NAME = "strange-birds"
SETTINGS = b"recipe: autoencoder\nrounds: 2\nworkers: 2\nanomaly: {quantile: 0.95}\n"
ROWS = list(csv.DictReader(io.StringIO(PENGUINS.decode())))
STRANGE = ROWS[0] | {"flipper_length_mm": "231", "bill_depth_mm": "21.5", "body_mass_g": "2700"}


@pytest.fixture(scope="module")
def run(cloud: LocalCloud) -> dict[str, Any]:
    cloud.put(f"datasets/{NAME}/dataset.yaml", SETTINGS)
    cloud.put(f"datasets/{NAME}/penguins.csv", PENGUINS)
    return cloud.succeeded(NAME)


def test_rows_are_scored_and_the_strange_one_is_called_so(cloud: LocalCloud, run: dict[str, Any]) -> None:
    assert run["settings"]["task"] == "anomaly"
    assert run["settings"]["target"] == "none"
    assert run["metrics"]["loss"] < run["metrics"]["baseline"]["metrics"]["loss"]
    body = json.dumps({"instances": [ROWS[1], STRANGE]}).encode()
    answer = cloud.http("POST", f"/models/{NAME}/predict", body, "application/json")
    usual, strange = answer.body["predictions"]
    assert strange["score"] > run["metrics"]["threshold"]
    assert (usual["score"] < strange["score"], strange["anomalous"]) == (True, True)
    told = json.loads(cloud.shoal("predict", NAME, json.dumps(STRANGE), "--json").stdout)["predictions"]
    assert told == [strange]
    assert "anomalous, score" in cloud.shoal("predict", NAME, json.dumps(STRANGE)).stdout

    outputs = cloud.get(f"/v2/models/{NAME}")["outputs"]
    assert [(output["name"], output["datatype"]) for output in outputs] == [("score", "FP32"), ("anomalous", "BOOL")]
    report = cloud.get(f"/datasets/{NAME}/versions/{run['version']}/report")
    assert report["settings"]["task"] == "anomaly"
    card = cloud.get(f"/models/{NAME}/versions/1/card")
    assert card["task"] == "anomaly"
    assert card["evaluation"]["threshold"] == run["metrics"]["threshold"]


def test_batches_and_streams_get_the_same_scores(
    cloud: LocalCloud, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(cloud.home))
    single = cloud.http("POST", f"/models/{NAME}/predict", json.dumps(STRANGE).encode(), "application/json")
    (expected,) = single.body["predictions"]

    cloud.put(f"batch/{NAME}/all/rows.csv", PENGUINS.rstrip() + b"\n" + ",".join(STRANGE.values()).encode() + b"\n")
    wait_until(lambda: any(job.id == f"{NAME}/all" for job in shoal.batches(NAME)))
    rows = list(shoal.connect().batch_job(f"{NAME}/all").wait(240).results())
    assert len(rows) == len(ROWS) + 1
    assert float(rows[-1]["score"]) == pytest.approx(expected["score"], rel=1e-5)
    assert rows[-1]["anomalous"] == "true"
    assert 0 < sum(row["anomalous"] == "true" for row in rows) < len(rows) / 4

    streams = Streams(connection(cloud))
    streams.send(NAME, [STRANGE])
    wait_until(lambda: _answered(streams) == [[expected]])


def _answered(streams: Streams) -> list[Any]:
    answers = streams.answers(start="beginning", follow=False)
    return [answer["predictions"] for answer in answers if answer.get("model") == NAME]
