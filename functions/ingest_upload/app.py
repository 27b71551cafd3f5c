"""S3 upload events -> dataset versions and runs, batch jobs."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.parser.models import S3Model
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.audit import EVENT_PATIENCE, Audit
from shoal_core.aws.clients import client
from shoal_core.aws.config import environment
from shoal_core.aws.executions import start_batch, start_execution
from shoal_core.aws.handler import artifacts, batches, catalog, framed, logger, uploads
from shoal_core.aws.sources import SourceStarter
from shoal_core.aws.upload_events import uploaded
from shoal_core.registry.batches import PREFIX as BATCH_PREFIX
from shoal_core.registry.batches import BatchIngest
from shoal_core.registry.beginning import Begin
from shoal_core.registry.ingesting import Ingest, Upload

_config = IdempotencyConfig(event_key_jmespath="[key, version, order]", expires_after_seconds=24 * 3600)
_seen = DynamoDBPersistenceLayer(
    table_name=environment().table,
    key_attr="pk",
    sort_key_attr="sk",
    static_pk_value="UPLOAD_EVENT",
    expiry_attr="expires_at",
    boto3_client=client("dynamodb"),
)


@framed
@event_parser(model=S3Model)
def handler(event: S3Model, context: LambdaContext) -> dict[str, Any]:
    """Handle each finished write; a repeated event gets the answer of the first."""
    _config.register_lambda_context(context)
    return {"outcomes": [_ingest(upload=uploaded(record)) for record in event.Records]}


@idempotent_function(data_keyword_argument="upload", persistence_store=_seen, config=_config)
def _ingest(upload: dict[str, Any]) -> dict[str, Any]:
    found, audit = Upload(**upload), Audit(patience=EVENT_PATIENCE)
    if found.key.startswith(BATCH_PREFIX):
        outcome = BatchIngest(uploads(), artifacts(), batches(), start_batch, audit)(found)
    else:
        begin = Begin(artifacts(), catalog(), start_execution, audit)
        outcome = Ingest(uploads(), artifacts(), catalog(), begin, SourceStarter(catalog()))(found)
    logger.info("upload ingested", key=upload["key"], status=outcome.status, run_id=outcome.run_id)
    return {"status": outcome.status, "run_id": outcome.run_id, "reason": outcome.reason}
