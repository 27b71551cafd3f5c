"""A run's last step: its optimised model becomes an immutable version, and `production` points at it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.manifest import Manifest
from shoal_core.keys import DatasetKeys, ModelKeys
from shoal_core.registry.records import ModelVersion
from shoal_core.store import ObjectStore


class VersionCatalog(Protocol):
    """What registering needs of the catalog."""

    def reserve_version(self, model: str, run_id: str) -> int:
        """See `shoal_core.aws.catalog.Catalog.reserve_version`."""

    def publish_version(self, model: str, version: ModelVersion) -> None:
        """See `shoal_core.aws.catalog.Catalog.publish_version`."""


def register_model(
    artifacts: ObjectStore,
    catalog: VersionCatalog,
    *,
    run_id: str,
    dataset: str,
    dataset_version: str,
    model: bytes,
    metrics: Mapping[str, Any],
    optimization: Mapping[str, Any],
    created_at: str,
) -> ModelVersion:
    """Register a run's model under its dataset's name; the same run again gets the same version.

    A number is reserved for the run, then its files are written, and the catalog entry, the index, comes last: a
    version that is listed is whole, and no two runs ever write the same key.
    """
    manifest = Manifest.decode(artifacts.read(DatasetKeys(dataset, dataset_version).manifest))
    version = ModelVersion(
        version=catalog.reserve_version(dataset, run_id),
        run_id=run_id,
        dataset=dataset,
        dataset_version=dataset_version,
        task=manifest.spec.target.task,
        metrics=dict(metrics),
        digest=hashlib.sha256(model).hexdigest(),
        bytes=len(model),
        created_at=created_at,
        optimization=dict(optimization),
    )
    keys = ModelKeys(dataset, version.version)
    artifacts.write(keys.onnx, model)
    artifacts.write(keys.spec, canonical_json(manifest.spec.model_dump(mode="json")), "application/json")
    catalog.publish_version(dataset, version)
    return version
