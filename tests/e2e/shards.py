"""Shards of a committed dataset version as any client reads them: S3, JSON and the safetensors package."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from tests.e2e.cloud import LocalCloud

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Committed:
    """A manifest, and the tensors of each split."""

    manifest: dict[str, Any]
    splits: dict[str, dict[str, NDArray[Any]]]

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.manifest["spec"])

    def all(self, tensor: str) -> NDArray[Any]:
        """A tensor of all splits, train first."""
        return np.concatenate([self.splits[split][tensor] for split in SPLITS if self.splits[split]])

    @property
    def samples(self) -> int:
        return len(self.all("target"))

    def classes(self) -> list[str]:
        """The class of every sample."""
        names = self.spec["target"]["classes"]
        return [names[index] for index in self.all("target").tolist()]

    def side_keys(self) -> list[set[bytes]]:
        """The features of every sample as bytes, split by split."""
        return [
            {
                b"".join(tensors[name][row].tobytes() for name in sorted(tensors) if name != "target")
                for row in range(len(tensors["target"]))
            }
            for tensors in self.splits.values()
            if tensors
        ]


def artifacts_bucket(cloud: LocalCloud) -> str:
    buckets = [bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]]
    return str(next(name for name in buckets if "artifacts" in name))


def read_manifest(cloud: LocalCloud, dataset: str, version: str) -> bytes:
    key = f"datasets/{dataset}/{version}/manifest.json"
    return bytes(cloud.client("s3").get_object(Bucket=artifacts_bucket(cloud), Key=key)["Body"].read())


def committed(cloud: LocalCloud, dataset: str, version: str) -> Committed:
    """Read a version's shards, each held against its sha256."""
    s3, bucket = cloud.client("s3"), artifacts_bucket(cloud)
    manifest = json.loads(read_manifest(cloud, dataset, version))
    splits: dict[str, dict[str, NDArray[Any]]] = {}
    for split in SPLITS:
        parts = []
        for shard in manifest[split]:
            data = s3.get_object(Bucket=bucket, Key=shard["key"])["Body"].read()
            assert hashlib.sha256(data).hexdigest() == shard["sha256"]
            parts.append(load(data))
            assert {len(array) for array in parts[-1].values()} == {shard["samples"]}
        splits[split] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return Committed(manifest, splits)
