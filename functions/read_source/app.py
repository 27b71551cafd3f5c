"""Read Source: the states of the source state machine, and the clock that starts what is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from aws_lambda_powertools.utilities.parser import BaseModel, event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.audit import EVENT_PATIENCE, Audit
from shoal_core.aws.config import environment
from shoal_core.aws.executions import start_execution
from shoal_core.aws.handler import artifacts, catalog, framed, logger, uploads
from shoal_core.aws.scans import SourceTables
from shoal_core.aws.sources import SourceStarter
from shoal_core.data.map_items import write_map_items
from shoal_core.registry.beginning import Begin
from shoal_core.registry.source_ends import end_of_source, source_failed
from shoal_core.registry.source_tasks import SourceTask
from shoal_core.registry.sources import SourceReader

# A call ends itself this long before Lambda would: a part takes seconds.
SPARE_MS = 60_000


class ReadSourceEvent(BaseModel):
    """One state's input; `task` is the execution's own."""

    step: Literal["plan", "read", "commit", "fail", "due"]
    task: SourceTask | None = None
    segment: int = 0
    failure: dict[str, str] | None = None


@framed
@event_parser(model=ReadSourceEvent)
def handler(event: ReadSourceEvent, context: LambdaContext) -> dict[str, Any]:
    """Do one state's work."""
    if event.task is None:
        started = SourceStarter(catalog()).start_due(datetime.now(UTC))
        return {"started": started}
    logger.append_keys(dataset=event.task.dataset, source_id=event.task.source_id)
    if event.step == "fail":
        return {"run_id": source_failed(catalog(), event.task, event.failure or {})}
    reader = SourceReader(uploads(), artifacts(), SourceTables(), environment().artifacts_bucket)
    plan = reader.plan(event.task)
    if event.step == "plan":
        found = reader.prepare(plan)
        if not found.segments:
            return {"ready": False, "seconds": found.seconds}
        segments = [{"segment": segment} for segment in range(found.segments)]
        return {"ready": True, **write_map_items(artifacts(), plan.keys.segments, segments)}
    if event.step == "read":
        done = reader.read(plan, event.segment, lambda: context.get_remaining_time_in_millis() > SPARE_MS)
        return {"task": event.task.model_dump(mode="json"), "segment": event.segment, "done": done}
    outcome = reader.commit(plan, Begin(artifacts(), catalog(), start_execution, Audit(patience=EVENT_PATIENCE)))
    end_of_source(catalog(), event.task)
    return {"status": outcome.status, "run_id": outcome.run_id}
