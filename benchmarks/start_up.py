"""One start of the predict function, as a worker does it, in a fresh process: `start_up.py OUTCOME BEGAN EVENT`.

Run with the environment of the embedded cloud's worker, which serves S3 and DynamoDB to it. OUTCOME gets milliseconds
by part; BEGAN is the monotonic clock's time when the process was asked for.
"""

# ruff: noqa: E402 - what is imported when is what is measured
from __future__ import annotations

import time

marks = [("process", time.monotonic())]

import awslambdaric.bootstrap

marks.append(("runtime", time.monotonic()))

import app  # functions/predict/app.py

from shoal_core.aws.traffic import models

marks.append(("import", time.monotonic()))

import json
import sys
import uuid
from pathlib import Path

outcome, began, event_file = sys.argv[1:]
event = json.loads(Path(event_file).read_text())
context = awslambdaric.bootstrap.LambdaContext(str(uuid.uuid4()), None, None, int((time.time() + 29) * 1000), "arn")

loading = time.monotonic()
models().production(event["pathParameters"]["name"])
loaded = time.monotonic()
answer = app.handler(event, context)
answered = time.monotonic()
if answer["statusCode"] != 200:
    raise SystemExit(f"the handler answered {answer}")

parts, last = {}, float(began)
for name, moment in marks:
    parts[name] = (moment - last) * 1000
    last = moment
parts["load"] = (loaded - loading) * 1000
parts["predict"] = (answered - loaded) * 1000
Path(outcome).write_text(json.dumps({**parts, "total": sum(parts.values())}))
