"""Starting the source state machine: now, or when a schedule says so."""

from __future__ import annotations

from datetime import UTC, datetime

from shoal_core.aws.catalog import Catalog
from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment
from shoal_core.aws.executions import start_named
from shoal_core.data.schedules import next_due
from shoal_core.registry.source_tasks import SourceTask


class SourceStarter:
    """`shoal_core.registry.source_tasks.SourceStarts` over Step Functions, the catalog and an EventBridge rule.

    The rule, which looks for what is due, is enabled by the first schedule and disabled when none is left: nothing
    runs when nothing happens.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def start(self, task: SourceTask) -> None:
        """Start the task's execution; one of that name is left alone."""
        start_named(environment().source_state_machine_arn, task.execution, task.model_dump(mode="json"))

    def schedule(self, dataset: str, expression: str | None, task: SourceTask) -> None:
        """Read the dataset's source on a schedule from now on; None ends that."""
        if expression is None:
            self._catalog.unschedule_source(dataset, task.order)
            return
        due = next_due(expression, datetime.now(UTC))
        self._catalog.schedule_source(dataset, expression, due, task.model_dump_json(), task.order)
        with service_errors("EventBridge"):
            client("events").enable_rule(Name=environment().source_rule)

    def start_due(self, moment: datetime) -> list[str]:
        """Start every source that is due; their executions' names.

        An execution is named by its due time, so a call that died between starting it and noting that starts none
        twice.
        """
        started = []
        schedules = self._catalog.scheduled_sources()
        for item in schedules:
            due = str(item["sort"])
            if due > moment.isoformat():
                continue
            noted = SourceTask.model_validate_json(item["task"])
            caller = noted.caller.model_copy(update={"source": "schedule"})
            task = SourceTask.of(noted.dataset, noted.key, noted.version, noted.trigger, due, caller)
            self.start(task)
            self._catalog.schedule_advanced(noted.dataset, due, next_due(item["schedule_expression"], moment))
            started.append(task.execution)
        if not schedules:
            with service_errors("EventBridge"):
                client("events").disable_rule(Name=environment().source_rule)
        return started
