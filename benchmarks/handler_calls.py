"""The predict handler beside raw `session.run`, call by call: `handler_calls.py OUTCOME BEGAN EVENTS CALLS`.

Run in one process with the environment of the embedded cloud's worker. EVENTS holds two events of one image: posted as
PNG, and as JSON with base64; BEGAN isn't used here. All four use the very session that the handler uses, so model and
threads are equal; OUTCOME gets the milliseconds of every call:

- `image`, `json`: the handler on each event, from event to answer;
- `raw`: `session.run` on the decoded tensor;
- `plain`: what a user would write by hand: base64, Pillow, `session.run`, the best label, JSON.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import app  # functions/predict/app.py
import numpy as np
from awslambdaric.lambda_context import LambdaContext
from PIL import Image

from shoal_core.aws.traffic import models

WARM_UP = 200


def new_invocation() -> LambdaContext:
    """What the runtime makes for each invocation: a context, and a trace that the function adds to."""
    os.environ["_X_AMZN_TRACE_ID"] = (
        f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=1"
    )
    return LambdaContext(str(uuid.uuid4()), None, None, int((time.time() + 29) * 1000), "arn")


def measure(calls: int, kinds: dict[str, Callable[[LambdaContext], Any]]) -> dict[str, list[float]]:
    """Milliseconds of `calls` calls of each kind: one of each per turn, in an order that is drawn anew (seeded)."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    names, order = list(kinds), random.Random(0)
    for number in range(WARM_UP + calls):
        if number == WARM_UP:
            times = {kind: [] for kind in kinds}
        order.shuffle(names)
        for name in names:
            context = new_invocation()
            began = time.perf_counter()
            kinds[name](context)
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def main(outcome: str, events_file: str, calls: int) -> None:
    """Measure, and check that all of them agree."""
    image_event, json_event = json.loads(Path(events_file).read_text())
    model = models().production(image_event["pathParameters"]["name"])
    tensors = {"image": model.spec.encode_image(base64.b64decode(image_event["body"]))[np.newaxis]}
    classes = model.spec.target.classes

    def plain(_: LambdaContext) -> str:
        with Image.open(io.BytesIO(base64.b64decode(image_event["body"]))) as picture:
            pixels = np.asarray(picture.convert("L"))[np.newaxis, np.newaxis]
        probabilities = model.session.run(None, {"image": pixels})[0][0]
        return json.dumps({"label": classes[int(probabilities.argmax())], "probability": float(probabilities.max())})

    for event in (image_event, json_event):
        answer = app.handler(event, new_invocation())
        found = json.loads(answer["body"])["predictions"][0]["label"] if answer["statusCode"] == 200 else answer
        if found != json.loads(plain(new_invocation()))["label"]:
            raise SystemExit(f"the handler answered {answer}")
    times = measure(
        calls,
        {
            "image": lambda context: app.handler(image_event, context),
            "json": lambda context: app.handler(json_event, context),
            "raw": lambda context: model.session.run(None, tensors),
            "plain": plain,
        },
    )
    Path(outcome).write_text(json.dumps(times))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3], int(sys.argv[4]))
