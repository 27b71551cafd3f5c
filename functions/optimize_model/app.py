"""Optimize Model: ONNX Runtime's offline graph optimisation, kept only if the answers stay equal."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.optimizing import optimize_model


@stage("Optimize Model", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Write the model that will be served."""
    optimization = optimize_model(artifacts(), event.run_id)
    catalog().model_optimized(event.run_id, optimization.model_dump(mode="json"))
    return {}
