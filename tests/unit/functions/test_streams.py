"""Dead letters over HTTP: shown, replayed by who may, told in the audit record."""

from __future__ import annotations

import json
from typing import Any

import boto3

from shoal_core.aws.audit import Audit
from tests.support.aws import REGION, invoke
from tests.unit.functions.conftest import Trained

ADMIN = {"token": "root", "scopes": "admin"}


def ask(method: str, path: str, body: object = None, query: str = "", who: dict[str, Any] = ADMIN) -> tuple[int, Any]:
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "queryStringParameters": dict(part.split("=") for part in query.split("&") if part),
        "headers": {"content-type": "application/json"},
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "127.0.0.1"},
            "stage": "$default",
            "authorizer": {"lambda": who},
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
    answer = invoke("api", event)
    return answer["statusCode"], json.loads(answer["body"])


def die(text: str) -> None:
    """Let a message die."""
    record = {
        "eventSource": "aws:sqs",
        "messageId": f"m-{text}",
        "body": text,
        "attributes": {"SentTimestamp": "1795248000500"},
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:requests",
    }
    assert invoke("predict_stream", {"Records": [record]}) == {"batchItemFailures": []}


def test_dead_letters_are_shown_and_replayed(trained: Trained) -> None:
    assert ask("GET", "/streams/dead-letters") == (200, {"letters": [], "more": False})
    die("one")
    die('{"model": "nobody", "row": {}}')
    status, page = ask("GET", "/streams/dead-letters", query="limit=10")
    assert status == 200
    by_error = {letter["error"]: letter for letter in page["letters"]}
    assert by_error["BadRequest"]["data"] == "one"
    assert by_error["NotFound"]["model"] == "nobody"
    _, page = ask("GET", "/streams/dead-letters", query="model=nobody")
    assert [letter["error"] for letter in page["letters"]] == ["NotFound"]
    status, problem = ask("POST", "/streams/dead-letters/replay", {"ids": ["missing"]})
    assert (status, problem["title"]) == (404, "Not Found")
    status, answer = ask("POST", "/streams/dead-letters/replay", {"ids": [by_error["NotFound"]["id"]]})
    assert (status, answer) == (200, {"replayed": 1, "kept": {}, "more": False})
    entry = list(Audit().entries())[-1]
    assert (entry.action, entry.subject, entry.who, entry.details["letters"]) == (
        "stream.replayed", "requests", "root", 1,
    )  # fmt: skip
    queue = boto3.client("sqs", region_name=REGION).get_queue_url(QueueName="requests")["QueueUrl"]
    (message,) = boto3.client("sqs", region_name=REGION).receive_message(QueueUrl=queue)["Messages"]
    assert "shoal_replay" in message["Body"]


def test_who_may_read_may_not_replay(trained: Trained) -> None:
    reader = {"token": "reader", "scopes": "read"}
    assert ask("GET", "/streams/dead-letters", who=reader)[0] == 200
    assert ask("POST", "/streams/dead-letters/replay", {}, who=reader)[0] == 403
    assert ask("POST", "/streams/dead-letters/replay", {"id": "x"})[0] == 400
    assert ask("GET", "/streams/dead-letters", query="limit=0")[0] == 400
