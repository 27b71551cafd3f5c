"""A user's own network before a run: what a dataset version would give it, and whether it can be trained on it."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.handler import artifacts, framed, logger, uploads
from shoal_core.data.manifest import Manifest
from shoal_core.keys import DatasetKeys
from shoal_core.training.networks.config import NetworkConfig, NetworkTask
from shoal_core.training.networks.receiving import receive_network
from shoal_core.training.networks.verifying import describe_inputs, fit_network


@framed
@event_parser(model=NetworkTask)
def handler(event: NetworkTask, context: LambdaContext) -> dict[str, Any]:
    """Answer the API; a refusal is an error, whose type, reason and fix Lambda tells."""
    manifest = Manifest.decode(artifacts().read(DatasetKeys(event.dataset, event.version).manifest))
    if event.task == "inputs":
        return describe_inputs(manifest)
    config = NetworkConfig.of(event.network)
    receive_network(uploads(), artifacts(), config.sha256)
    fitted = fit_network(artifacts(), config, manifest)
    logger.info("network checked", dataset=event.dataset, sha256=config.sha256, numbers=fitted.numbers)
    return {"numbers": fitted.numbers, "notes": list(fitted.notes), "warnings": list(fitted.warnings)}
