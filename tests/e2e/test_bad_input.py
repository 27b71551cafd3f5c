"""Bad input through the whole cloud: a clear error that names the object and the fix, and nothing else stops."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.bad_files import NO_IMAGE, png
from tests.e2e.bad_uploads import LONG, LONG_LOOSE, QUICK, failing, going_on
from tests.e2e.cloud import DEADLINE, Answer, LocalCloud

FAILING = failing()
GOING_ON = going_on()
IMAGE_MODEL, TABLE_MODEL = "/models/some-undecodable", "/models/ragged"
JSON = "application/json"
ROW = {"size": 30, "colour": "red", "price": 45.0}


def full_key(dataset: str, key: str) -> str:
    return key if key.startswith("datasets/") else f"datasets/{dataset}/{key}"


def put_all(cloud: LocalCloud) -> None:
    """Everything at once; the settings of archives and tables first, those of loose files last."""
    s3, bucket = cloud.client("s3"), cloud.status["bucket"]

    def put(entry: tuple[str, bytes]) -> None:
        s3.put_object(Bucket=bucket, Key=entry[0], Body=entry[1])

    configs = {name: case.config for name, case in FAILING.items() if case.config is not None}
    configs |= {name: case.config for name, case in GOING_ON.items()}
    loose = {"long-loose-keys"}
    first = [(f"datasets/{name}/dataset.yaml", data) for name, data in configs.items() if name not in loose]
    data = [(full_key(name, case.key), case.data) for name, case in FAILING.items()]
    data += [(full_key(name, key), data) for name, case in GOING_ON.items() for key, data in case.files.items()]
    last = [(f"datasets/{name}/dataset.yaml", configs[name]) for name in loose]
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
        if wanted <= runs.keys() or (wanted - runs.keys() == {LONG_LOOSE} and False):
            return runs
        time.sleep(1)
    raise AssertionError(f"{sorted(wanted - runs.keys())} didn't end\n{cloud.log()}")
