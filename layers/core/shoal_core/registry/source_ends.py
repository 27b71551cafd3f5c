"""How the reading of a source ends in the catalog: the dataset no longer waits, and what failed is a failed run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from shoal_core.registry.records import Source
from shoal_core.registry.source_tasks import SourceTask


class EndCatalog(Protocol):
    """What the end of a reading needs of the catalog."""

    def dataset_not_waiting(self, dataset: str, order: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.dataset_not_waiting`."""

    def refuse_upload(self, run_id: str, dataset: str, source: Sequence[Source], error: str, message: str) -> None:
        """See `shoal_core.aws.catalog.Catalog.refuse_upload`."""


def end_of_source(catalog: EndCatalog, task: SourceTask) -> None:
    """The dataset no longer waits for its source."""
    catalog.dataset_not_waiting(task.dataset, task.order)


def source_failed(catalog: EndCatalog, task: SourceTask, failure: Mapping[str, str]) -> str:
    """Show a reading that failed as a failed run; its id.

    Args:
        catalog: Where runs are recorded.
        task: What was to be read.
        failure: Step Functions' error output: `Error`, and `Cause`, which is a Lambda function's error as JSON.
    """
    run_id = f"refused-{task.source_id}"
    cause = failure.get("Cause", "")
    try:
        described = json.loads(cause)
        message = str(described["errorMessage"]) if isinstance(described, dict) else cause
    except (ValueError, KeyError):
        message = cause
    catalog.refuse_upload(run_id, task.dataset, [task.trigger], failure.get("Error", "States.TaskFailed"), message)
    catalog.dataset_not_waiting(task.dataset, task.order)
    return run_id
