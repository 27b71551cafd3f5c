"""Commit Batch: one file of all parts, and the manifest; the job is done."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.events import publish
from shoal_core.aws.handler import BatchEvent, artifacts, batch_stage, batches
from shoal_core.keys import BatchKeys
from shoal_core.registry.batch_records import batch_view, summary_of, usage_of
from shoal_core.serving.batches.committing import commit_batch


@batch_stage("Commit Batch", BatchEvent)
def handler(event: BatchEvent) -> dict[str, Any]:
    """Commit the job and tell of it."""
    keys = BatchKeys(event.model, event.job)
    so_far = batch_view(batches().items(event.model, event.job), environment().architecture, now())
    manifest = commit_batch(artifacts(), keys, usage_of(so_far))
    summary = summary_of(keys.prefix, manifest.model_dump(mode="json"))
    batches().finished(event.model, event.job, summary)
    counts = {"records": manifest.records, "errors": manifest.errors, "digest": manifest.digest}
    publish("BatchFinished", {"model": event.model, "job": event.job, "version": manifest.model.version, **counts})
    return counts
