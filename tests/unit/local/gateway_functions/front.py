"""Handlers behind an HTTP API; run in worker processes."""

import os
import time
from pathlib import Path


def echo(event, context):
    return event


def answer(event, context):
    return event["queryStringParameters"] and {
        "statusCode": int(event["queryStringParameters"]["status"]),
        "body": "hi",
    }


def malformed(event, context):
    return {"statusCode": "none"}


def fail(event, context):
    raise ValueError("no luck")


def sleep(event, context):
    time.sleep(60)


def authorize(event, context):
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(event["routeArn"] + "\n")
    token = event["identitySource"][0]
    if token == "broken":
        raise ValueError("no luck")
    return {"isAuthorized": token == "good", "context": {"user": "me"}}


def policy(event, context):
    arn = event["routeArn"].rpartition("/")[0] + "/*"
    effect = "Allow" if event["identitySource"][0] == "good" else "Deny"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": arn}
    return {"principalId": "me", "policyDocument": {"Statement": [statement]}, "context": {"user": "me"}}
