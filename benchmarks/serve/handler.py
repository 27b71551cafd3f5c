"""What the predict handler adds to `session.run`, in process: the Open Inference Protocol in binary and in JSON.

`handler.py OUTCOME BEGAN EVENTS CALLS`, run as a worker of the embedded cloud, measures call by call, in an order drawn
anew each turn: `binary`, `json`, `image` (a PNG) through the handler, `raw` the same session's own run.
"""

from __future__ import annotations

import base64
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

GOALS = {"binary": "<= 0.25", "json": "<= 0.5", "image": ""}
TITLES = {"binary": "V2, binary", "json": "V2, JSON", "image": "PNG"}


def added(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Milliseconds that each kind of request takes beyond the raw run, at the median."""
    raw = statistics.median(times["raw"])
    return {kind: statistics.median(times[kind]) - raw for kind in GOALS}


def main(outcome: str, events_file: str, calls: int) -> None:
    """Measure in this process."""
    # Only a worker's process has these.
    import app  # functions/predict/app.py
    import numpy as np
    from handler_calls import measure, new_invocation

    from shoal_core.aws.traffic import models

    events = json.loads(Path(events_file).read_text())
    model = models().production(events["image"]["pathParameters"]["name"])
    tensors = {"image": model.spec.encode_image(base64.b64decode(events["image"]["body"]))[np.newaxis]}
    for name, event in events.items():
        answer = app.handler(event, new_invocation())
        if answer["statusCode"] != 200:
            raise SystemExit(f"{name} was answered {answer}")
    kinds = {
        name: (lambda context, event=event: app.handler(event, context))  # type: ignore[misc]
        for name, event in events.items()
    }
    times = measure(calls, {**kinds, "raw": lambda context: model.session.run(None, tensors)})
    Path(outcome).write_text(json.dumps(times))


def handler_rows(served, calls: int) -> list:
    """Rows of the handler's added time."""
    from benchmarks.results import Row
    from benchmarks.serve.served import NAME, event

    binary, head = served.v2_binary()
    path = f"/v2/models/{NAME}/infer"
    events = {
        "binary": event(
            *(served, path, base64.b64encode(binary).decode(), True),
            content_type="application/octet-stream",
            inference_header_content_length=str(head),
        ),
        "json": event(served, path, served.v2_json().decode(), False, content_type="application/json"),
        "image": event(
            *(served, f"/models/{NAME}/predict", base64.b64encode(served.image).decode(), True),
            content_type="image/png",
        ),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(events, file)
        file.flush()
        times = served.worker.run("serve/handler.py", file.name, str(calls))
    rows = [
        Row(f"handler, {TITLES[kind]}: added to session.run, p50", "ms", milliseconds, None, GOALS[kind])
        for kind, milliseconds in added(times).items()
    ]
    return [*rows, Row("session.run alone, p50", "ms", statistics.median(times["raw"]))]


if __name__ == "__main__":
    # handler_calls.py is beside this folder.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1], sys.argv[3], int(sys.argv[4]))
