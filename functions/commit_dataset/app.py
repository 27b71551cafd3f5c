"""Commit Dataset: merge the pieces into shards, a report and the manifest."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.events import publish
from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.data.committing import commit_dataset
from shoal_core.data.quality.reporting import choose_compared
from shoal_core.keys import DatasetKeys


@stage("Commit Dataset", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Commit the dataset version and tell of it."""
    previous = catalog().previous_version(event.dataset, event.version)
    choose_compared(artifacts(), DatasetKeys(event.dataset, event.version), previous)
    manifest = commit_dataset(artifacts(), event.dataset, event.version)
    samples = {str(split): count for split, count in manifest.samples.items()}
    catalog().dataset_committed(event.dataset, event.version, manifest.spec.target.task, samples)
    publish("DatasetCommitted", {"dataset": event.dataset, "version": event.version, "samples": samples})
    return {}
