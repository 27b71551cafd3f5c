"""Cold start: from nothing to the first answer, ours as a worker of the embedded cloud, peers as their servers.

Ours is what Lambda does: the runtime client, the function's import, the model from S3, the first answer
(`benchmarks/start_up.py`). A peer's is its server's process, from its start until it has answered. One after the other,
in turns; the first of each only warms the machine's file cache.
"""

from __future__ import annotations

import base64
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.results import Row, median_row
from benchmarks.serve.served import Served, event
from benchmarks.serve.servers import peer_server

PEERS = {"fastapi": "FastAPI + onnxruntime", "bentoml": "BentoML"}


def cold_start_rows(served: Served, repeats: int, peers: tuple[str, ...]) -> list[Row]:
    """Rows of the start, and of its parts."""
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[float]] = {peer: [] for peer in peers}
    request = event(
        *(served, "/models/digits/predict", base64.b64encode(served.image).decode(), True), content_type="image/png"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(request, file)
        file.flush()
        for _ in range(repeats + 1):
            ours.append(served.worker.run("start_up.py", file.name))
            for peer in peers:
                began = time.perf_counter()
                with peer_server(peer, Path(served.model), served.image, served.v2_json()):
                    theirs[peer].append((time.perf_counter() - began) * 1000)
    whole = [one["total"] / 1000 for one in ours[1:]]
    rows = [median_row("cold start of predict: import, load, first answer", "s", whole, None, "<= 0.4")]
    for peer, times in theirs.items():
        seconds = [milliseconds / 1000 for milliseconds in times[1:]]
        rows.append(median_row(f"cold start beside {PEERS[peer]}", "s", whole, seconds))
        ratio = statistics.median(whole) / statistics.median(seconds)
        goal = "<= 0.5" if peer == "fastapi" else "< 1"
        rows.append(Row(f"cold start over that of {PEERS[peer]}", "", ratio, None, goal))
    parts = [part for part in ours[0] if part != "total"]
    return [*rows, *(median_row(f"cold start, {part}", "ms", [one[part] for one in ours[1:]]) for part in parts)]
