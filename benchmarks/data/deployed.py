"""The same inputs through the deployed pipeline: its shards equal those that the core makes here, byte for byte."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data import inputs
from benchmarks.data.driving import Place, make_shards
from benchmarks.data.ours import COMPARABLE, SETTINGS
from benchmarks.pipeline import fresh_cloud
from benchmarks.results import Row
from shoal_core.data.manifest import Manifest
from shoal_core.keys import DatasetKeys
from tests.e2e.cloud import LocalCloud

SOURCES = {
    "images": inputs.images,
    "flights": inputs.flights,
    "many-flights": inputs.many_flights,
    "reviews": inputs.reviews,
}
DEADLINE = 300.0


def deployed_rows(scratch: Path) -> list[Row]:
    """For each input: seconds from the upload to the committed data set, and the share of equal shards."""
    rows: list[Row] = []
    for dataset, source in SOURCES.items():
        path = source()
        equal_name = f"deployed, {dataset}: shards equal to those made without a cloud"
        try:
            with fresh_cloud() as (cloud, _):
                seconds, request, manifest = _push(cloud, dataset, path)
        except RuntimeError as error:  # the other inputs' numbers aren't lost with this one's
            print(f"  deployed, {dataset}: {error}", file=sys.stderr)
            rows.append(Row(equal_name, "", 0.0, goal=">= 1"))
            continue
        here = _again(scratch / f"deployed-{dataset}", path, request)
        equal = sum(a == b for a, b in zip(_shards(manifest), _shards(here), strict=False))
        share = equal / max(len(_shards(manifest)), len(_shards(here)))
        rows.append(Row(f"deployed, {dataset}: PutObject to committed shards", "s", seconds))
        rows.append(Row(equal_name, "", share, goal=">= 1"))
    return rows


def _push(cloud: LocalCloud, dataset: str, path: Path) -> tuple[float, dict[str, Any], Manifest]:
    """Upload, and wait for the manifest: seconds, the request and the manifest."""
    s3, bucket = cloud.client("s3"), cloud.status["bucket"]
    artifacts = next(entry["Name"] for entry in s3.list_buckets()["Buckets"] if "artifacts" in entry["Name"])
    s3.put_object(Bucket=bucket, Key=f"datasets/{dataset}/dataset.yaml", Body=SETTINGS[dataset] + COMPARABLE)
    began = time.monotonic()
    s3.upload_file(str(path), bucket, f"datasets/{dataset}/{path.name}")
    while time.monotonic() < began + DEADLINE:
        failed = [run["failure"] for run in cloud.runs(dataset) if run["status"] == "failed"]
        if failed:
            raise RuntimeError(f"{dataset}: {failed[0]}")
        found = s3.list_objects_v2(Bucket=artifacts, Prefix=f"datasets/{dataset}/").get("Contents", ())
        key = next((entry["Key"] for entry in found if entry["Key"].endswith("/manifest.json")), None)
        if key is not None:
            seconds = time.monotonic() - began
            manifest = Manifest.decode(s3.get_object(Bucket=artifacts, Key=key)["Body"].read())
            request = DatasetKeys(dataset, manifest.version).request
            return seconds, json.loads(s3.get_object(Bucket=artifacts, Key=request)["Body"].read()), manifest
        time.sleep(0.25)
    raise RuntimeError(f"{dataset}: not committed within {DEADLINE:.0f} s.\n{cloud.log()}")


def _again(root: Path, source: Path, request: dict[str, Any]) -> Manifest:
    """The same request, driven through the core in this process."""
    place = Place(root, request["dataset"], request["version"])
    (file,) = request["files"]
    path = place.uploads.root / file["key"]
    path.parent.mkdir(parents=True)
    path.symlink_to(source.resolve())
    place.artifacts.write(place.keys.request, json.dumps(request).encode())
    make_shards(place)
    manifest = place.manifest()
    shutil.rmtree(root)
    return manifest


def _shards(manifest: Manifest) -> list[tuple[str, int, str]]:
    return [
        (shard.key, shard.samples, shard.sha256) for shard in (*manifest.train, *manifest.validation, *manifest.test)
    ]
