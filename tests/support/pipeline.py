"""The training state machine's order, walked in the test's own process over the real handlers."""

from __future__ import annotations

import json
from typing import Any

import boto3

from shoal_core.errors import ShoalError
from tests.support.aws import REGION, invoke

EVENT_TIME = "2026-11-21T08:00:00.000Z"


def s3_event(key: str, version: str, size: int, etag: str, sequencer: str = "0055AED6DCD90281E5") -> dict[str, Any]:
    """An S3 upload notification, as S3 sends it; `key` is already URL-encoded."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": REGION,
                "eventTime": EVENT_TIME,
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "EXAMPLE"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "upload",
                    "bucket": {
                        "name": "uploads",
                        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                        "arn": "arn:aws:s3:::uploads",
                    },
                    "object": {
                        "key": key,
                        "size": size,
                        "eTag": etag,
                        "versionId": version,
                        "sequencer": sequencer,
                    },
                },
            }
        ]
    }


def upload(key: str, data: bytes) -> dict[str, Any]:
    """Put an object and return its S3 event."""
    from urllib.parse import quote_plus

    answer = boto3.client("s3", region_name=REGION).put_object(Bucket="uploads", Key=key, Body=data)
    return s3_event(quote_plus(key, safe="/"), answer["VersionId"], len(data), answer["ETag"].strip('"'))


def ingest(key: str, data: bytes) -> dict[str, Any]:
    """Upload an object and feed its event to ingest_upload; the outcome."""
    (outcome,) = invoke("ingest_upload", upload(key, data))["outcomes"]
    return dict(outcome)


def map_items(answer: dict[str, Any]) -> list[dict[str, int]]:
    """The items of a Distributed Map, from the answer of the state before it."""
    body = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=answer["items_key"])["Body"]
    return list(json.loads(body.read()))


def prepare_data(run: dict[str, str]) -> None:
    """The states of the data, in the state machine's order."""
    for item in map_items(invoke("plan_shards", run)):
        invoke("write_shard", {**run, **item})
    for shards in map_items(invoke("assign_samples", run)):
        invoke("pack_shard", {**run, **shards})
    invoke("commit_dataset", run)


def run_training(run: dict[str, str]) -> dict[str, Any]:
    """All states of one run, in the state machine's order. Errors are raised as a handler raises them."""
    prepare_data(run)
    return finish_run(run)


def end_run(run: dict[str, str], state: dict[str, Any]) -> dict[str, Any]:
    """The states of a run after its last round."""
    invoke("optimize_model", run)
    for shard in state["evaluation_shards"]:
        invoke("evaluate_model", {**run, **shard})
    invoke("evaluate_model", run)
    return dict(invoke("register_model", run))


def run_search(tuning_id: str, attempt: int = 1) -> dict[str, Any]:
    """The states of a search, its lanes taking turns, up to the winner's run; what Conclude Tuning says."""

    def advance(step: str, state: dict[str, Any]) -> dict[str, Any]:
        return dict(invoke("advance_tuning", {"step": step, "state": state}))

    task = {"tuning_id": tuning_id, "attempt": attempt}
    lanes = [advance("next", {**task, **lane}) for lane in map_items(advance("plan", task))]
    while any(lane["next"] != "end" for lane in lanes):
        for lane in lanes:
            if lane["next"] == "train":
                lane |= run_job(lane)
        lanes = [lane if lane["next"] == "end" else advance("next", lane) for lane in lanes]
    return advance("conclude", task)


def run_job(lane: dict[str, Any]) -> dict[str, Any]:
    """The states of one job of a lane; what they add to its state."""
    try:
        state = begun = invoke("start_training", lane)
        while not state["finished"] and state["round"] <= begun["until"]:
            task = {name: lane[name] for name in ("run_id", "dataset", "version")} | {"round": state["round"]}
            invoke("train_shard", {**task, "worker": 0})
            state = invoke("merge_round", task)
    except ShoalError as error:
        return {"failure": {"Error": type(error).__name__, "Cause": json.dumps({"errorMessage": str(error)})}}
    return {"aim": {"begun": begun["round"], "until": begun["until"]}, "state": {"round": state["round"]}}


def finish_run(run: dict[str, str]) -> dict[str, Any]:
    """The states of a run on a version that is committed."""
    state = invoke("start_training", run)
    while not state["finished"]:
        for worker in state["workers"]:
            invoke("train_shard", {**run, "round": state["round"], **worker})
        state = invoke("merge_round", {**run, "round": state["round"]})
    return end_run(run, state)


def run_of(outcome: dict[str, Any]) -> dict[str, str]:
    """The state machine's input for an ingested upload."""
    dataset, _, version = outcome["run_id"].rpartition("-")
    return {"run_id": outcome["run_id"], "dataset": dataset, "version": version}


def http_event(method: str, path: str, body: str | None = None, **changes: Any) -> dict[str, Any]:
    """An HTTP API request, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "127.0.0.1:8081", "x-forwarded-proto": "http", "content-type": "application/json"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "authorizer": {
                "lambda": {"token": "root", "scopes": "admin", "per_minute": 0, "per_day": 0, "per_month": 0}
            },
            "domainName": "127.0.0.1:8081",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "21/Nov/2026:08:00:00 +0000",
            "timeEpoch": 1795248000000,
        },
        "isBase64Encoded": False,
        **({"body": body} if body is not None else {}),
        **changes,
    }
