"""Bad input through the whole cloud: a clear error that names the object and the fix, and nothing else stops."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal.client import Client
from tests.e2e.bad_files import MB, NO_IMAGE, png
from tests.e2e.bad_uploads import (
    LONG_LOOSE,
    LONG_UNICODE,
    PLAN,
    PLANNED_IN_THE_CLOUD,
    THROUGH_THE_CLOUD,
    Content,
    failing,
    going_on,
    require_told,
)
from tests.e2e.cloud import DEADLINE, Answer, LocalCloud

FAILING = {name: case for name, case in failing().items() if case.stage != PLAN or name in PLANNED_IN_THE_CLOUD}
GOING_ON = {name: case for name, case in going_on().items() if name in THROUGH_THE_CLOUD}
IMAGE_MODEL, TABLE_MODEL = "/models/some-undecodable", "/models/ragged"
JSON = "application/json"
ROW = {"size": 30, "colour": "red", "price": 45.0}


def full_key(dataset: str, key: str) -> str:
    return key if key.startswith("datasets/") else f"datasets/{dataset}/{key}"


def put_all(cloud: LocalCloud) -> None:
    """Everything at once; the settings of archives and tables first, those of loose files last."""
    s3, bucket = cloud.client("s3"), cloud.status["bucket"]

    def put(entry: tuple[str, Content]) -> None:
        key, data = entry
        s3.put_object(Bucket=bucket, Key=key, Body=data() if callable(data) else data)

    configs = {name: case.config for name, case in FAILING.items() if case.config is not None}
    configs |= {name: case.config for name, case in GOING_ON.items()}
    settings: dict[str, Content] = {f"datasets/{name}/dataset.yaml": data for name, data in configs.items()}
    last = [entry for entry in settings.items() if entry[0].startswith(LONG_LOOSE)]
    first = [entry for entry in settings.items() if entry not in last]
    data = [(full_key(name, case.key), case.data) for name, case in FAILING.items()]
    data += [(full_key(name, key), data) for name, case in GOING_ON.items() for key, data in case.files.items()]
    with ThreadPoolExecutor(4) as pool:
        for batch in (first, data, last):
            list(pool.map(put, batch))


@pytest.fixture(scope="module")
def ended(cloud: LocalCloud) -> dict[str, dict[str, Any]]:
    """Key of the uploaded object -> its run, from `GET /runs`, once all have ended."""
    wanted = {full_key(name, case.key) for name, case in FAILING.items()}
    wanted |= {full_key(name, next(iter(case.files))) for name, case in GOING_ON.items()}
    put_all(cloud)
    deadline = time.monotonic() + DEADLINE
    runs: dict[str, dict[str, Any]] = {}
    while time.monotonic() < deadline:
        runs = {
            source["key"]: run
            for run in cloud.get("/runs?limit=1000")["runs"]
            if run["status"] in ("succeeded", "failed")
            for source in run["source"]
        }
        if wanted <= runs.keys():
            return runs
        time.sleep(3)  # listing dozens of runs is work for the cloud, too
    raise AssertionError(f"{sorted(wanted - runs.keys())} didn't end\n{cloud.log()}")


@pytest.mark.parametrize("name", FAILING, ids=lambda name: name[:20])
def test_the_run_fails_with_the_reason_and_the_fix(
    name: str, cloud: LocalCloud, ended: dict[str, dict[str, Any]]
) -> None:
    case = FAILING[name]
    listed = ended[full_key(name, case.key)]
    run = cloud.get(f"/runs/{listed['run_id']}")
    failure = run["failure"]
    assert (run["status"], failure["stage"], failure["error"]) == ("failed", case.stage, case.error), failure
    for text in case.reason:
        assert text in failure["reason"]
    for text in case.fix:
        assert text in failure["fix"]
    assert listed["failure"] == failure
    assert run["model"] is None
    assert run["finished_at"] >= run["created_at"]


@pytest.mark.parametrize("name", GOING_ON)
def test_the_run_goes_on_and_the_report_tells_what_was_left_out(
    name: str, cloud: LocalCloud, ended: dict[str, dict[str, Any]]
) -> None:
    case = GOING_ON[name]
    run = ended[full_key(name, next(iter(case.files)))]
    assert run["status"] == "succeeded", run["failure"]
    assert run["model"] == {"name": name, "version": 1}
    dataset = cloud.get(f"/datasets/{name}")
    assert (dataset["status"], dataset["note"]) == ("ready", "")
    report = cloud.get(f"/datasets/{name}/versions/{run['version']}/report")
    require_told(case, report)


def test_ragged_rows_are_found_by_their_lines(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    version = ended["datasets/ragged/a.csv"]["version"]
    report = cloud.get(f"/datasets/ragged/versions/{version}/report")
    assert [example["place"] for example in report["drops"]["examples"]] == ["line 5", "line 8"]


def test_a_failed_commit_has_a_report_too(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    version = ended["datasets/one-usable-class/a.zip"]["version"]
    report = cloud.get(f"/datasets/one-usable-class/versions/{version}/report")
    assert report["drops"]["counts"] == {"bad_image": 1}


def test_each_upload_made_one_run(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    runs = cloud.get("/runs?limit=1000")["runs"]
    for name in GOING_ON:
        assert len([run for run in runs if run["dataset"] == name]) == 1


def test_no_event_and_no_function_was_given_up(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    """What is wrong with an upload is told in its run; nothing is a fault of Shoal's."""
    for name, run in ended.items():
        assert not run["failure"] or "fault in Shoal" not in run["failure"]["fix"], name
    sqs = cloud.client("sqs")
    for url in sqs.list_queues().get("QueueUrls", []):
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert attributes["Attributes"]["ApproximateNumberOfMessages"] == "0", url


def test_the_command_line_tells_the_reason_and_the_fix(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    run = ended["datasets/one-class/a.zip"]
    shown = cloud.shoal("watch", run["run_id"], check=False)
    assert shown.returncode == 1
    assert run["failure"]["reason"] in shown.stderr
    assert f"Fix: {run['failure']['fix']}" in shown.stderr
    assert "Traceback" not in shown.stderr
    machine = cloud.shoal("watch", run["run_id"], "--json", check=False)
    assert machine.returncode == 1
    assert json.loads(machine.stdout.splitlines()[-1])["failure"] == run["failure"]
    assert run["run_id"] in cloud.shoal("runs").stdout


def test_push_waits_for_the_failure(cloud: LocalCloud, ended: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "pushed.csv"
    path.write_text("1,2\n3,4\n5,6\n")
    answer = cloud.shoal("push", str(path), "--watch", check=False)
    assert answer.returncode == 1
    assert "has no header row" in answer.stderr
    assert "Fix: Make the first row the column names." in answer.stderr


def test_models_of_odd_names_predict(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    for model in ("odd-names", "long-loose-keys"):
        answer = cloud.http("POST", f"/models/{model}/predict", png(1), "image/png")
        assert answer.status == 200, answer
        (prediction,) = answer.body["predictions"]
        assert prediction["label"] in cloud.get(f"/models/{model}")["classes"]
    assert cloud.get("/models/odd-names")["classes"] == ["dark one+", "«ü» 数据"]
    assert cloud.get("/models/long-loose-keys")["classes"] == ["class one + 1", "klasse «ü» 2"]
    answer = cloud.http("POST", "/models/long-unicode-key/predict", json.dumps(ROW).encode(), JSON)
    assert answer.status == 200, answer
    (source,) = ended[LONG_UNICODE]["source"]
    assert source["key"] == LONG_UNICODE


# Requests


def check_problem(answer: Answer, status: int, kind: str, detail: str, fix: str) -> None:
    assert (answer.status, answer.content_type) == (status, "application/problem+json"), answer
    assert answer.body["type"] == f"urn:shoal:error:{kind}"
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert detail in answer.body["detail"]
    assert fix in answer.body["fix"]
    assert answer.body["fix"]


def image_row(data: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(data).decode()}]}).encode()


TO_TABLE = {
    "no-body": (b"", JSON, 400, "BadRequest", "has no body", "instances"),
    "malformed": (b'{"instances": [', JSON, 400, "BadRequest", "isn't valid JSON", "Send JSON such as"),
    "not-utf-8": (b'{"size": "\xff"}', JSON, 400, "BadRequest", "isn't valid JSON", "Send JSON such as"),
    "huge-integer": (b'{"size": ' + b"9" * 5000 + b"}", JSON, 400, "BadRequest", "isn't valid JSON", "Send JSON"),
    "deep": (b"[" * 100_000, JSON, 400, "BadRequest", "isn't valid JSON", "Send JSON"),
    "empty-instances": (b'{"instances": []}', JSON, 400, "BadRequest", "no instances", "Send JSON such as"),
    "empty-list": (b"[]", JSON, 400, "BadRequest", "no instances", "Send JSON such as"),
    "no-list": (b'{"instances": 3}', JSON, 400, "BadRequest", "no instances", "Send JSON such as"),
    "null": (b"null", JSON, 400, "BadRequest", "no instances", "Send JSON such as"),
    "no-object": (b"[1]", JSON, 400, "BadRequest", "Instance 1 is a number", "Send JSON such as"),
    "too-many": (b"[" + b"{}," * 1000 + b"{}]", JSON, 413, "TooLarge", "1,001 instances", "several requests"),
    "image": (png(1), "image/png", 400, "BadRequest", "doesn't take images", "see its columns"),
    "image-in-json": (image_row(png(1)), JSON, 400, "BadTable", "unknown columns: 'b64'", "Known columns: 'size'"),
    "unknown-column": (b'{"sise": 1}', JSON, 400, "BadTable", "unknown columns: 'sise'", "Did you mean 'size'?"),
    "text-for-number": (b'{"size": "lots"}', JSON, 400, "BadTable", "Row 1, column 'size': 'lots'", "Send a number"),
    "list-for-text": (b'{"colour": [1]}', JSON, 400, "BadTable", "Row 1, column 'colour': [1]", "Correct the value"),
    "too-large-number": (b'{"size": 1e300}', JSON, 400, "BadTable", "Row 1, column 'size'", "Send a number"),
    "form": (
        b"size=lots",
        "application/x-www-form-urlencoded",
        400,
        "BadTable",
        "Row 1, column 'size': 'lots'",
        "Send a number",
    ),
}
TO_IMAGE = {
    "no-body": (b"", "image/png", 400, "BadRequest", "has no body", "Content-Type image/png"),
    "rows": (json.dumps(ROW).encode(), JSON, 400, "BadRequest", "Instance 1 isn't an image", "Content-Type image/png"),
    "no-image": (NO_IMAGE, "image/png", 400, "BadImage", "isn't an image", "PNG"),
    "cut-image": (png(1)[:60], "image/png", 400, "BadImage", "damaged", "again"),
    "image-as-json": (png(1), JSON, 400, "BadRequest", "isn't valid JSON", "Content-Type image/png"),
    "no-base64": (b'{"b64": "*"}', JSON, 400, "BadRequest", "Instance 1 isn't valid base64", "base64"),
    "no-image-in-json": (image_row(NO_IMAGE), JSON, 400, "BadImage", "Instance 1 isn't an image", "PNG"),
}


@pytest.mark.parametrize(
    ("path", "case"),
    [(path, case) for path, cases in ((TABLE_MODEL, TO_TABLE), (IMAGE_MODEL, TO_IMAGE)) for case in cases.values()],
    ids=[*(f"table-{name}" for name in TO_TABLE), *(f"image-{name}" for name in TO_IMAGE)],
)
def test_a_prediction_that_cannot_be_made(
    path: str,
    case: tuple[bytes, str, int, str, str, str],
    cloud: LocalCloud,
    ended: dict[str, dict[str, Any]],
) -> None:
    body, content_type, status, kind, detail, fix = case
    answer = cloud.http("POST", f"{path}/predict", body, content_type)
    check_problem(answer, status, kind, detail, fix)


@pytest.mark.parametrize(
    ("method", "path", "kind", "detail", "fix"),
    [
        ("POST", "/models/nobody/predict", "NotFound", "Model 'nobody' doesn't exist", "GET /models"),
        ("GET", "/models/nobody", "NotFound", "Model 'nobody' doesn't exist", "GET /models"),
        ("GET", "/runs/nobody", "NotFound", "Run 'nobody' doesn't exist", "GET /runs"),
        ("GET", "/datasets/nobody", "NotFound", "Dataset 'nobody' doesn't exist", "GET /datasets"),
        ("GET", "/datasets/ragged/versions/1/report", "NotFound", "no report for version '1'", "/datasets/ragged"),
        ("GET", "/datasets/n%20%2B%C3%BC", "NotFound", "doesn't exist", "GET /datasets"),
        ("GET", "/runs/" + "r" * 3000, "NotFound", "doesn't exist", "GET /runs"),
        ("POST", "/models/" + "m" * 3000 + "/predict", "NotFound", "doesn't exist", "GET /models"),
        ("GET", "/nothing", "NoRoute", "GET /nothing isn't part of the API", "/openapi.json"),
        ("DELETE", "/datasets", "NoRoute", "DELETE /datasets isn't part of the API", "/openapi.json"),
        ("GET", "/models/ragged/predict", "NoRoute", "GET /models/ragged/predict isn't part", "/openapi.json"),
        ("PUT", "/models/ragged", "NoRoute", "PUT /models/ragged isn't part", "/openapi.json"),
    ],
    ids=lambda value: value[:30],
)
def test_a_path_that_leads_nowhere(
    method: str, path: str, kind: str, detail: str, fix: str, cloud: LocalCloud, ended: dict[str, dict[str, Any]]
) -> None:
    body = b"{}" if method in ("POST", "PUT") else None
    check_problem(cloud.http(method, path, body, JSON), 404, kind, detail, fix)


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "limit=100000"])
def test_a_parameter_out_of_range(query: str, cloud: LocalCloud) -> None:
    check_problem(cloud.http("GET", f"/runs?{query}"), 400, "BadRequest", "Parameter query.limit", "/openapi.json")


@pytest.mark.parametrize(
    ("path", "size", "message"),
    [
        (f"{TABLE_MODEL}/predict", 6 * MB, "Request Too Long"),
        (f"{TABLE_MODEL}/predict", 11 * MB, "Request Entity Too Large"),
        (f"{IMAGE_MODEL}/predict", 11 * MB, "Request Entity Too Large"),
    ],
)
def test_a_request_over_a_limit_is_answered_by_the_gateway(
    path: str, size: int, message: str, cloud: LocalCloud, ended: dict[str, dict[str, Any]]
) -> None:
    answer = cloud.http("POST", path, b"[" + b" " * (size - 2) + b"]", JSON)
    assert (answer.status, answer.body) == (413, {"message": message})
    # An image travels to the function as base64, a third longer.
    answer = cloud.http("POST", path, bytes(5 * MB), "image/png")
    assert (answer.status, answer.body) == (413, {"message": "Request Too Long"})


@pytest.mark.parametrize("path", ["/runs", "/models", f"{TABLE_MODEL}/predict", "/nothing"])
@pytest.mark.parametrize(
    ("token", "status", "message"), [("", 401, "Unauthorized"), ("wrong", 403, "Forbidden"), ("ü", 403, "Forbidden")]
)
def test_without_the_token(path: str, token: str, status: int, message: str, cloud: LocalCloud) -> None:
    method = "POST" if path.endswith("predict") else "GET"
    answer = cloud.http(method, path, b"{}" if method == "POST" else None, JSON, token=token)
    assert (answer.status, answer.body) == (status, {"message": message})


def test_the_sdk_tells_the_fix_of_what_the_gateway_says(
    cloud: LocalCloud, ended: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(cloud.home))
    client = shoal.connect()
    with pytest.raises(shoal.BadRequest, match="too large") as too_large:
        client.model("ragged").predict([{"colour": "x" * 6 * MB}])
    assert "fewer" in too_large.value.fix
    for token in ("", "wrong"):
        stranger = Client(dataclasses.replace(client.connection, token=token))
        with pytest.raises(shoal.NotAuthorised, match="refused the token") as refused:
            stranger.runs()
        assert "cloud.json" in refused.value.fix
    with pytest.raises(shoal.NotFound, match="'nobody' doesn't exist") as missing:
        client.model("nobody")
    assert "GET /models" in missing.value.fix


def test_good_requests_are_answered_all_the_while(cloud: LocalCloud, ended: dict[str, dict[str, Any]]) -> None:
    answer = cloud.http("POST", f"{TABLE_MODEL}/predict", json.dumps({"instances": [ROW, {}]}).encode(), JSON)
    assert answer.status == 200
    assert [prediction["label"] in ("big", "small") for prediction in answer.body["predictions"]] == [True, True]
    for body, content_type in ((png(1), "image/png"), (png(1), "application/octet-stream"), (image_row(png(1)), JSON)):
        answer = cloud.http("POST", f"{IMAGE_MODEL}/predict", body, content_type)
        assert answer.status == 200
        assert answer.body["predictions"][0]["label"] in ("dark", "light")
    assert cloud.http("GET", "/healthz", token="").status == 200
