"""Aliases, canaries, splits, shadows and cards over the real handlers: what the API changes, and what follows."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.support.aws import REGION, ROOT, invoke, stack
from tests.support.pipeline import http_event, ingest, run_of, run_training

PENGUINS = (ROOT / "examples/penguins/penguins.csv").read_bytes()
CONFIG = "target: species\nrounds: {rounds}\ntraining: {{epochs: 2, learning_rate: {rate}}}\n"
ROW = {"island": "Dream", "bill_length_mm": 50, "bill_depth_mm": 18, "flipper_length_mm": 200, "body_mass_g": 4000}
MODEL = "birds"


@pytest.fixture(scope="module")
def birds() -> Iterator[list[dict[str, Any]]]:
    """Two versions: the second one hardly learns anything."""
    with stack(), pytest.MonkeyPatch.context() as patch:
        # Lambda isn't there; what it would run is.
        from shoal_core.aws import warming

        patch.setattr(warming, "invoke", lambda function, task: told(invoke, "predict", task))
        registered = []
        boto3.client("s3", region_name=REGION).put_object(
            Bucket="uploads", Key=f"datasets/{MODEL}/penguins.csv", Body=PENGUINS
        )
        for rounds, rate in ((2, 0.01), (1, 0.0000001)):
            config = CONFIG.format(rounds=rounds, rate=rate).encode()
            run = run_of(ingest(f"datasets/{MODEL}/dataset.yaml", config))
            registered.append({**run, **run_training(run)})
        yield registered


def told(call: Any, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """A function's answer, or its error as Lambda tells it."""
    try:
        return dict(call(function, event))
    except Exception as error:  # noqa: BLE001 - Lambda tells any error so
        return {"errorType": type(error).__name__, "errorMessage": str(error)}


def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
    text = None if body is None else json.dumps(body)
    answer = invoke("api", http_event(method, path, text))
    kind = str((answer.get("headers") or answer.get("multiValueHeaders") or {}).get("Content-Type", ""))
    return answer["statusCode"], answer["body"] if "json" not in kind else json.loads(answer["body"])


def predicted(key: str = "a") -> int:
    event = http_event("POST", f"/models/{MODEL}/predict", json.dumps({"instances": [ROW]}))
    event["headers"]["shoal-key"] = key
    return int(json.loads(invoke("predict", event)["body"])["version"])


def forget_aliases() -> None:
    """As if seconds had gone by."""
    from shoal_core.aws.traffic import models

    models().forget_aliases()


def audit() -> list[dict[str, Any]]:
    return list(ask("GET", "/audit")[1]["entries"])


def count(version: int, requests: int, errors: int, mean_ms: float, at: datetime | None = None) -> None:
    """What the data plane would have written into CloudWatch."""
    dimensions = [
        {"Name": name, "Value": value}
        for name, value in (
            ("function_name", "predict"), ("model", MODEL), ("version", str(version)), ("service", "shoal"),
        )
    ]  # fmt: skip

    def datum(name: str, total: float, samples: int) -> dict[str, Any]:
        values = {"SampleCount": samples, "Sum": total, "Minimum": 0, "Maximum": 1}
        moment = at or datetime.now(UTC)
        return {"MetricName": name, "Dimensions": dimensions, "StatisticValues": values, "Timestamp": moment}

    data = [
        datum("Requests", requests, requests),
        datum("Errors", errors, requests),
        datum("Latency", requests * mean_ms, requests),
    ]
    boto3.client("cloudwatch", region_name=REGION).put_metric_data(Namespace="Shoal", MetricData=data)


def rule() -> str:
    return str(boto3.client("events", region_name=REGION).describe_rule(Name="canaries")["State"])


def test_the_worse_version_waits_with_the_numbers(birds: list[dict[str, Any]]) -> None:
    status, model = ask("GET", f"/models/{MODEL}")
    assert status == 200
    assert model["aliases"] == {"production": 1, "candidate": 2}
    second, first = model["versions"]
    assert first["promotion"]["decision"] == "production"
    told_ = second["promotion"]
    assert (told_["decision"], told_["champion"]) == ("candidate", 1)
    assert told_["points"] < 0 and told_["p_value"] < 0.05
    assert told_["champion_value"] == pytest.approx(first["metrics"]["accuracy"])
    assert first["signature"]["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    lineage = first["lineage"]
    assert lineage["run"] == birds[0]["run_id"]
    assert [file["key"] for file in lineage["upload"]["files"]] == [f"datasets/{MODEL}/penguins.csv"]
    assert lineage["checkpoint"]["key"].startswith(f"runs/{birds[0]['run_id']}/checkpoints/")
    assert lineage["artifact"]["sha256"] == first["digest"]


def test_a_repeated_registration_changes_nothing(birds: list[dict[str, Any]]) -> None:
    before = ask("GET", f"/models/{MODEL}")[1]
    event = {name: birds[1][name] for name in ("run_id", "dataset", "version")}
    assert invoke("register_model", event)["model_version"] == 2
    invoke("evaluate_model", {**event, "shard": 0})
    assert ask("GET", f"/models/{MODEL}")[1] == before


def test_the_card_in_three_forms(birds: list[dict[str, Any]]) -> None:
    status, card = ask("GET", f"/models/{MODEL}/versions/2/card")
    assert (status, card["model"], card["version"]) == (200, MODEL, 2)
    assert card["promotion"]["decision"] == "candidate"
    assert sum(entry["samples"] for entry in card["calibration"]) == card["evaluation"]["samples"]
    status, page = ask("GET", f"/models/{MODEL}/versions/2/card.html")
    assert status == 200
    for part in ("Confusion matrix", "Calibration", "Training loss", "Where it comes from", card["digest"]):
        assert part in page
    assert "<script" not in page and "http://" not in page
    status, text = ask("GET", f"/models/{MODEL}/versions/2/card.md")
    assert status == 200 and text.startswith(f"# {MODEL}, version 2")
    for path in ("versions/9/card", "versions/x/card", "versions/9/card.html"):
        assert ask("GET", f"/models/{MODEL}/{path}")[0] == 404


def test_aliases_by_name(birds: list[dict[str, Any]]) -> None:
    status, moved = ask("POST", f"/models/{MODEL}/aliases/staging", {"version": 2})
    assert (status, moved) == (200, {"model": MODEL, "alias": "staging", "before": None, "version": 2})
    assert ask("POST", f"/models/{MODEL}/aliases/staging", {"version": 9})[0] == 404
    assert ask("POST", f"/models/{MODEL}/aliases/staging", {})[0] == 400
    assert ask("POST", f"/models/{MODEL}/aliases/canary", {"version": 2})[0] == 400
    assert ask("POST", f"/models/{MODEL}/aliases/Bad_Name", {"version": 2})[0] == 400
    assert ask("POST", "/models/nobody/aliases/staging", {"version": 1})[0] == 404
    assert ask("DELETE", f"/models/{MODEL}/aliases/production")[0] == 400
    assert ask("DELETE", f"/models/{MODEL}/aliases/staging")[1]["before"] == 2
    assert ask("DELETE", f"/models/{MODEL}/aliases/staging")[0] == 404
    moves = [entry["subject"] for entry in audit() if entry["action"] == "alias.moved"]
    assert moves == [f"{MODEL}/staging"] * 2


def test_production_moves_once_the_version_is_warm_and_comes_back(birds: list[dict[str, Any]]) -> None:
    assert ask("POST", f"/models/{MODEL}/aliases/production", {"version": 2})[1]["version"] == 2
    forget_aliases()
    assert predicted() == 2
    assert ask("POST", f"/models/{MODEL}/aliases/production", {})[1] == {
        "model": MODEL, "alias": "production", "before": 2, "version": 1,
    }  # fmt: skip
    forget_aliases()
    # Version 2 may answer as long as version 1 loads beside the requests.
    deadline = time.monotonic() + 30
    while predicted() != 1:
        assert time.monotonic() < deadline


def test_a_version_that_cant_answer_gets_no_traffic(birds: list[dict[str, Any]]) -> None:
    from shoal_core.aws.traffic import models

    s3 = boto3.client("s3", region_name=REGION)
    key = f"models/{MODEL}/2/model.onnx"
    good = s3.get_object(Bucket="artifacts", Key=key)["Body"].read()
    s3.put_object(Bucket="artifacts", Key=key, Body=b"no model")
    models()._models.pop((MODEL, 2), None)
    try:
        for path, body in (
            ("aliases/production", {"version": 2}),
            ("canary", {"version": 2}),
            ("ab", {"weights": {"1": 1, "2": 1}}),
            ("shadow", {"version": 2}),
        ):
            status, problem = ask("POST", f"/models/{MODEL}/{path}", body)
            assert status == 409, path
            assert "can't answer" in problem["detail"] and "No request" in problem["fix"]
    finally:
        s3.put_object(Bucket="artifacts", Key=key, Body=good)
    assert ask("GET", f"/models/{MODEL}/traffic")[1]["shares"] == [{"version": 1, "percent": 100.0}]


def test_a_canary_goes_on_while_it_holds_and_takes_over(birds: list[dict[str, Any]]) -> None:
    wishes = {"version": 2, "steps": [10, 50, 100], "every_seconds": 60, "min_requests": 10}
    status, traffic = ask("POST", f"/models/{MODEL}/canary", wishes)
    assert status == 200
    assert traffic["shares"] == [{"version": 1, "percent": 90.0}, {"version": 2, "percent": 10.0}]
    assert rule() == "ENABLED"
    assert ask("POST", f"/models/{MODEL}/canary", wishes)[0] == 400
    from shoal_core.aws.canaries import Canaries
    from shoal_core.aws.handler import catalog

    began = datetime.fromisoformat(traffic["canary"]["step_at"])
    keeper = Canaries(catalog())
    assert keeper.review(began + timedelta(seconds=61))[0]["step"] == "wait"
    count(2, 50, 0, 5.0)
    count(1, 450, 0, 5.0)
    assert keeper.review(began + timedelta(seconds=30))[0]["step"] == "wait"
    (on,) = keeper.review(began + timedelta(seconds=61))
    assert on["step"] == "advance"
    measured = ask("GET", f"/models/{MODEL}/traffic")[1]
    assert measured["canary"]["percent"] == 50.0
    count(2, 50, 0, 5.0, began + timedelta(seconds=150))
    (last,) = keeper.review(began + timedelta(seconds=200))
    assert last["step"] == "finish"
    assert rule() == "DISABLED"
    assert keeper.review(began + timedelta(seconds=300)) == []
    assert ask("GET", f"/models/{MODEL}/traffic")[1]["production"] == 2
    actions = [entry["action"] for entry in audit() if entry["action"].startswith("canary")]
    assert actions == ["canary.started", "canary.advanced", "canary.finished"]
    ask("POST", f"/models/{MODEL}/aliases/production", {})


def test_errors_take_a_canary_back_and_so_do_crashes(birds: list[dict[str, Any]]) -> None:
    ask("POST", f"/models/{MODEL}/canary", {"version": 2, "steps": [10, 100]})
    count(2, 1000, 900, 5.0)
    (done,) = invoke("advance_canary", {"step": "due"})["canaries"]
    assert (done["step"], done["version"]) == ("roll back", 2)
    assert ask("GET", f"/models/{MODEL}/traffic")[1]["canary"] is None
    ask("POST", f"/models/{MODEL}/canary", {"version": 2, "steps": [10, 100], "max_errors": 0.95, "max_slowdown": 1000})
    (done,) = invoke("advance_canary", {"step": "due"})["canaries"]
    assert done["step"] == "wait"
    alarm = {"source": "aws.cloudwatch", "alarmData": {"alarmName": "shoal-predict-crashes"}}
    (done,) = invoke("advance_canary", alarm)["canaries"]
    assert done["step"] == "roll back" and "died" in done["reason"]
    assert rule() == "DISABLED"


def test_a_rollback_ends_a_canary(birds: list[dict[str, Any]]) -> None:
    ask("POST", f"/models/{MODEL}/canary", {"version": 2, "steps": [10, 100]})
    moved = ask("POST", f"/models/{MODEL}/aliases/production", {})[1]
    assert (moved["before"], moved["version"]) == (2, 1)
    assert ask("GET", f"/models/{MODEL}/traffic")[1]["canary"] is None
    ask("POST", f"/models/{MODEL}/canary", {"version": 2, "steps": [10, 100]})
    assert ask("DELETE", f"/models/{MODEL}/canary")[1]["canary"] is None
    assert invoke("advance_canary", {"step": "due"}) == {"canaries": []}


def test_a_split_by_key(birds: list[dict[str, Any]]) -> None:
    status, traffic = ask("POST", f"/models/{MODEL}/ab", {"weights": {"1": 30, "2": 70}})
    assert status == 200 and traffic["split"]
    forget_aliases()
    met = {str(key): {predicted(str(key)) for _ in range(3)} for key in range(30)}
    assert all(len(versions) == 1 for versions in met.values())
    assert set().union(*met.values()) == {1, 2}
    for weights in ({"1": 1}, {"1": 1, "x": 1}, {"1": 1, "2": -1}):
        assert ask("POST", f"/models/{MODEL}/ab", {"weights": weights})[0] == 400
    assert ask("POST", f"/models/{MODEL}/ab", {"weights": {"1": 1, "9": 1}})[0] == 404
    assert not ask("DELETE", f"/models/{MODEL}/ab")[1]["split"]
    forget_aliases()
    assert {predicted(str(key)) for key in range(10)} == {1}


def test_a_shadows_call_is_compared_and_measured(birds: list[dict[str, Any]], capsys: Any) -> None:
    status, traffic = ask("POST", f"/models/{MODEL}/shadow", {"version": 2, "percent": 50})
    assert status == 200 and traffic["shadow"]["percent"] == 50.0

    body = base64.b64encode(json.dumps({"instances": [ROW]}).encode()).decode()
    call = {"model": MODEL, "production": 1, "version": 2, "route": "predict", "body": body, "content_type": ""}
    capsys.readouterr()
    answer = invoke("predict", {"task": "shadow", "call": call})
    assert answer["failed"] is False and answer["agreement"] in (0.0, 1.0)
    assert '"ShadowAgreement"' in capsys.readouterr().out
    assert ask("GET", f"/models/{MODEL}/traffic")[1]["measured"]["shadow"]["requests"] == 0
    assert ask("DELETE", f"/models/{MODEL}/shadow")[1]["shadow"] is None


def test_requests_are_measured_by_version(birds: list[dict[str, Any]], capsys: Any) -> None:
    forget_aliases()
    capsys.readouterr()
    predicted()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"Requests"' in line]
    (line,) = lines
    assert (line["function_name"], line["model"], line["version"]) == ("predict", MODEL, "1")
    assert (line["Requests"], line["Errors"]) == ([1.0], [0.0])
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Shoal"


def moves(alias: str) -> list[dict[str, Any]]:
    return [entry["details"] for entry in audit() if entry["subject"] == f"{MODEL}/{alias}"]


def test_a_rollback_that_ends_a_split_or_a_canary_is_audited(birds: list[dict[str, Any]]) -> None:
    ask("POST", f"/models/{MODEL}/ab", {"weights": {"1": 1, "2": 1}})
    ask("POST", f"/models/{MODEL}/aliases/production", {})
    assert moves("production")[-1] == {"before": 1, "version": 1, "ab_ended": [1, 2]}
    ask("POST", f"/models/{MODEL}/canary", {"version": 2, "steps": [10, 100]})
    ask("POST", f"/models/{MODEL}/aliases/production", {"version": 1})
    assert moves("production")[-1] == {"before": 2, "version": 1, "canary_ended": 2}
    told_ = len(moves("production"))
    ask("POST", f"/models/{MODEL}/aliases/production", {"version": 1})
    assert len(moves("production")) == told_


def test_a_change_and_its_audit_entry_are_there_together_or_not_at_all(
    birds: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoal_core.aws import audit as module
    from shoal_core.errors import Unavailable

    def away() -> str:
        raise Unavailable("The audit record is away.", "Try again.")

    path = f"/models/{MODEL}/aliases/fresh"
    with monkeypatch.context() as patch:
        patch.setattr(module, "now", away)
        assert ask("POST", path, {"version": 2})[0] == 503
    assert "fresh" not in ask("GET", f"/models/{MODEL}")[1]["aliases"]
    assert moves("fresh") == []
    assert ask("POST", path, {"version": 2})[1]["before"] is None
    assert ask("POST", path, {"version": 2})[0] == 200
    assert moves("fresh") == [{"before": None, "version": 2}]
    ask("DELETE", path)
    assert moves("fresh")[1:] == [{"before": 2, "version": None}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("ab", {"weights": {"1": float("nan"), "2": 1}}),
        ("ab", {"weights": {"1": 1e308, "2": 1e308}}),
        ("canary", {"version": 2, "steps": [float("nan"), 100]}),
        ("canary", {"version": 2, "steps": [float("inf")]}),
        ("canary", {"version": 2, "steps": [1e308, 100]}),
        ("canary", {"version": 2, "max_slowdown": float("inf")}),
    ],
)
def test_numbers_without_end_are_refused(birds: list[dict[str, Any]], path: str, body: dict[str, Any]) -> None:
    assert ask("POST", f"/models/{MODEL}/{path}", body)[0] == 400
    assert not ask("GET", f"/models/{MODEL}/traffic")[1]["split"]


def test_a_canary_that_cant_be_reviewed_holds_up_no_other(birds: list[dict[str, Any]]) -> None:
    from shoal_core.aws.canaries import Canaries
    from shoal_core.errors import Conflict
    from shoal_core.registry.routing import Aliases

    class TwoModels:
        def __init__(self) -> None:
            self.cleared: list[str] = []

        def models_with_canary(self) -> list[str]:
            return ["busy", "over"]

        def aliases(self, model: str) -> Aliases:
            if model == "busy":
                raise Conflict("Others move its aliases right now.")
            return Aliases(1)

        def clear_canary_mark(self, model: str, revision: int) -> None:
            self.cleared.append(model)

    catalog: Any = TwoModels()
    with pytest.raises(ExceptionGroup, match="'busy': Others move its aliases right now") as caught:
        Canaries(catalog).review(datetime.now(UTC))
    assert catalog.cleared == ["over"]
    (error,) = caught.value.exceptions
    assert isinstance(error, Conflict)
