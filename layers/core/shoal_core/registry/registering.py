"""A run's last step: its optimised model becomes an immutable version, which serves if it is better than what does."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.manifest import Manifest
from shoal_core.keys import DatasetKeys, ModelKeys
from shoal_core.registry.cards import lineage_of, write_card
from shoal_core.registry.challenging import Challenge
from shoal_core.registry.promotion import Decide
from shoal_core.registry.records import ModelVersion
from shoal_core.serving.protocol import TensorInfo
from shoal_core.store import ObjectStore
from shoal_core.training.candidates import read_optimization
from shoal_core.training.comparing import compare
from shoal_core.training.evaluating import read_evaluation
from shoal_core.training.requests import run_config
from shoal_core.training.sessions import node_args


class VersionCatalog(Protocol):
    """What registering needs of the catalog."""

    def reserve_version(self, model: str, run_id: str) -> int:
        """See `shoal_core.aws.model_catalog.ModelCatalog.reserve_version`."""

    def publish_version(
        self, model: str, version: ModelVersion, decide: Decide | None = None, order: str | None = None
    ) -> ModelVersion:
        """See `shoal_core.aws.model_catalog.ModelCatalog.publish_version`."""


def register_model(
    artifacts: ObjectStore, catalog: VersionCatalog, *, run_id: str, dataset: str, dataset_version: str, created_at: str
) -> ModelVersion:
    """Register a run's model under its dataset's name; the same run again gets the same version.

    A number is reserved for the run, then its files are written, and the catalog entry, the index, comes last of what
    serving needs: a version that is listed is whole, and no two runs ever write the same key. The card tells what was
    decided, so it follows.

    Args:
        artifacts: The artifacts bucket.
        catalog: The catalog.
        run_id: A run that is optimised and evaluated.
        dataset: Its dataset, and the model's name.
        dataset_version: Its version.
        created_at: Now, ISO 8601 in UTC.
    """
    manifest = Manifest.decode(artifacts.read(DatasetKeys(dataset, dataset_version).manifest))
    config = run_config(artifacts, run_id, manifest)
    optimization = read_optimization(artifacts, run_id)
    evaluation = read_evaluation(artifacts, run_id)
    model = artifacts.read(optimization.model_key)
    version = ModelVersion(
        version=catalog.reserve_version(dataset, run_id),
        run_id=run_id,
        dataset=dataset,
        dataset_version=dataset_version,
        task=manifest.spec.target.task,
        metrics=evaluation.record(),
        digest=hashlib.sha256(model).hexdigest(),
        bytes=len(model),
        created_at=created_at,
        optimization=optimization.model_dump(
            mode="json", include={"served", "split", "samples", "metric", "candidates"}
        ),
        signature=signature_of(model),
        lineage=lineage_of(artifacts, manifest, run_id, optimization.model_key, optimization.model_sha256),
        owner=config.card.owner,
    )
    keys = ModelKeys(dataset, version.version)
    artifacts.write(keys.onnx, model)
    artifacts.write(keys.spec, canonical_json(manifest.spec.model_dump(mode="json")), "application/json")
    challenge = Challenge(
        config.promote,
        manifest.spec.target.task,
        version.metrics,
        evaluation.split,
        lambda champion: compare(artifacts, run_id, champion),
    )
    listed = catalog.publish_version(dataset, version, challenge)
    write_card(artifacts, dataset, listed)
    return listed


def signature_of(model: bytes) -> dict[str, Any]:
    """The file's own inputs and outputs: name, datatype of the Open Inference Protocol, shape with -1 for any size."""
    inputs, outputs = node_args(model)
    return {
        "inputs": [TensorInfo.of(value).document() for value in inputs],
        "outputs": [TensorInfo.of(value).document() for value in outputs],
    }
