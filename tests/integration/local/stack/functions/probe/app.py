"""Handlers that tell the tests of the embedded cloud what they were given; the folder above the code is the board."""

import base64
import json
import os
import time
from pathlib import Path

BOARD = Path(__file__).resolve().parents[2]


def note(name, value):
    with (BOARD / name).open("a") as file:
        file.write(json.dumps(value) + "\n")


def record(event, context):
    note("events.jsonl", event)


def consume(event, context):
    """Notes the texts it gets. `kill` kills it; `once …` fails the first time, `never` every time."""
    failures = []
    for entry in event["Records"]:
        text = base64.b64decode(entry["kinesis"]["data"]).decode() if "kinesis" in entry else entry["body"]
        if text == "kill":
            os._exit(1)
        tried = BOARD / f"tried-{text.replace(' ', '-')}"
        if text == "never" or (text.startswith("once") and not tried.exists()):
            tried.touch()
            failures.append(entry["kinesis"]["sequenceNumber"] if "kinesis" in entry else entry["messageId"])
            if "kinesis" in entry:
                break
            continue
        note("consumed.jsonl", text)
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failures]}


def step(event, context):
    note("steps.jsonl", event)
    deadline = time.monotonic() + 30
    while event.get("wait") and not (BOARD / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return {"padding": "x" * event["size"]} if "size" in event else event


def broken(event, context):
    raise ValueError("It is broken. Fix: mend it.")


def curious(event, context):
    import boto3
    from botocore.exceptions import ClientError

    s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])
    try:
        s3.put_object(Bucket="probe-plain", Key="mine", Body=b"x")
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "read": s3.get_object(**event)["Body"].read().decode()}
    return {"code": None}
