"""Every function, by real `sam local invoke` in a container, with its layers and its event, on the embedded cloud."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.sam_local.conftest import SamLocal
from tests.support.aws import ROOT
from tests.support.sam import SAM

EVENTS = ROOT / "events"
RUN = json.loads((EVENTS / "plan_shards.json").read_text())
STATES = [
    ("PlanShardsFunction", "at_once", 4),
    ("WriteShardFunction", "item", 0),
    ("AssignSamplesFunction", "at_once", 6),
    ("PackShardFunction", "first", 0),
    ("CommitDatasetFunction", None, None),
    ("StartTrainingFunction", "finished", True),
    ("TrainShardFunction", "worker", 0),
    ("MergeRoundFunction", "workers", 2),
    ("OptimizeModelFunction", None, None),
    ("EvaluateModelFunction", "shard", 0),
    ("RegisterModelFunction", "model_version", 1),
]


def event_of(function: str) -> Path:
    """`WriteShardFunction` -> events/write_shard.json."""
    words = "".join(
        f"_{letter.lower()}" if letter.isupper() else letter for letter in function.removesuffix("Function")
    )
    return EVENTS / f"{words.lstrip('_')}.json"


@pytest.mark.parametrize(("function", "field", "expected"), STATES)
def test_a_state_in_a_container_finds_its_work_done(
    function: str, field: str | None, expected: Any, sam_local: SamLocal
) -> None:
    answer = sam_local.invoke(function, event_of(function))
    assert answer["run_id"] == RUN["run_id"]
    if field is not None:
        found = answer[field]
        assert (len(found) if isinstance(found, list) else found) == expected


@pytest.mark.parametrize(
    ("function", "field", "expected"),
    [
        ("PlanBatchFunction", "at_once", 1),
        ("PredictBatchFunction", "piece", 0),
        ("CommitBatchFunction", "errors", 0),
    ],
)
def test_a_state_of_a_batch_job_in_a_container_finds_its_work_done(
    function: str, field: str, expected: Any, sam_local: SamLocal
) -> None:
    answer = sam_local.invoke(function, event_of(function))
    assert (answer["model"], answer["job"]) == ("digits", "held-out")
    assert answer[field] == expected


def test_ingest_upload_in_a_container(sam_local: SamLocal) -> None:
    answer = sam_local.invoke("IngestUploadFunction", event_of("IngestUploadFunction"))
    (outcome,) = answer["outcomes"]
    assert (outcome["status"], outcome["run_id"]) == ("unchanged", RUN["run_id"])


def test_api_in_a_container(sam_local: SamLocal) -> None:
    answer = sam_local.invoke("ApiFunction", event_of("ApiFunction"))
    assert json.loads(answer["body"])["status"] == "succeeded"


def test_predict_in_a_container(sam_local: SamLocal) -> None:
    answer = sam_local.invoke("PredictFunction", event_of("PredictFunction"))
    assert json.loads(answer["body"])["predictions"][0]["label"] == "2"


def test_predict_stream_in_a_container(sam_local: SamLocal) -> None:
    answer = sam_local.invoke("PredictStreamFunction", event_of("PredictStreamFunction"))
    assert answer == {"batchItemFailures": []}


def test_authorize_in_a_container(sam_local: SamLocal, tmp_path: Path) -> None:
    event = json.loads(event_of("AuthorizeFunction").read_text())
    assert sam_local.invoke("AuthorizeFunction", event_of("AuthorizeFunction")) == {"isAuthorized": False}
    event["headers"]["authorization"] = f"Bearer {sam_local.status['token']}"
    allowed = tmp_path / "event.json"
    allowed.write_text(json.dumps(event))
    answer = sam_local.invoke("AuthorizeFunction", allowed)
    assert (answer["isAuthorized"], answer["context"]["scopes"]) == (True, "admin")


def test_read_source_in_a_container(sam_local: SamLocal) -> None:
    assert sam_local.invoke("ReadSourceFunction", event_of("ReadSourceFunction")) == {"started": []}


# `sam local start-api` takes no binary bodies (it decodes them as UTF-8), so the image goes as base64 in JSON.
CLIENT = """
import base64, json, sys, urllib.request
token, url, path = sys.argv[1:]
body = json.dumps([{"b64": base64.b64encode(open(path, "rb").read()).decode()}]).encode()
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
print(urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60).read().decode())
"""


def test_start_api_serves_a_prediction(sam_local: SamLocal, tmp_path: Path) -> None:
    log = tmp_path / "start-api.log"
    image = sorted((ROOT / "examples/digits/held-out").glob("*.png"))[7]
    server = sam_local.engine.start(str(SAM), "local", "start-api", "--port", "3111", *sam_local.options, log=log)
    client = [str(ROOT / ".venv/bin/python"), "-c", CLIENT]
    url = "http://127.0.0.1:3111/models/digits/predict"
    try:
        answer = None
        for _ in range(30):
            answer = sam_local.engine.run(*client, sam_local.status["token"], url, str(image), check=False, timeout=90)
            if answer.returncode == 0:
                break
            time.sleep(1)
        assert answer is not None and answer.returncode == 0, log.read_text()[-4000:]
        assert json.loads(answer.stdout)["predictions"][0]["label"] == image.name[0]
    finally:
        server.terminate()
        server.wait(60)
