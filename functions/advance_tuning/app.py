"""Advance Tuning: the states of a search: its plan, each lane's next job, its end."""

from __future__ import annotations

from typing import Any, Literal

from aws_lambda_powertools.utilities.parser import BaseModel, event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.audit import EVENT_PATIENCE, Audit
from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.events import publish
from shoal_core.aws.executions import is_tuning_under_way, start_training, start_tuning
from shoal_core.aws.handler import accounted, artifacts, catalog, framed, logger, tunings
from shoal_core.registry.tunings import Searches
from shoal_core.training.tuning.records import EndTask, LaneTask
from shoal_core.training.tuning.searching import Search

STAGES = {"plan": "Plan Tuning", "next": "Advance Tuning", "conclude": "Conclude Tuning"}


class TuningEvent(BaseModel):
    """One state's name and input."""

    step: Literal["plan", "next", "conclude"]
    state: dict[str, Any]


@framed
@event_parser(model=TuningEvent)
def handler(event: TuningEvent, context: LambdaContext) -> dict[str, Any]:
    """Do one state's work."""
    end = EndTask.model_validate(event.state)
    logger.append_keys(tuning_id=end.tuning_id)
    search = Search(artifacts(), tunings(), start_training)
    with accounted(STAGES[event.step], tunings().stages(end.tuning_id)):
        if event.step == "next":
            return search.advance(LaneTask.model_validate(event.state))
        if event.step == "plan":
            return {**end.model_dump(exclude={"failure"}), **search.plan(end.tuning_id)}
        answer = search.conclude(end)
    if answer["next"] == "end":
        _tell(end.tuning_id)
    return answer


def _tell(tuning_id: str) -> None:
    """Keep the report, and tell of the end."""
    audit, architecture = Audit(patience=EVENT_PATIENCE), environment().architecture
    searches = Searches(artifacts(), tunings(), catalog(), start_tuning, is_tuning_under_way, audit, architecture, now)
    tuning = searches.write_report(tuning_id)
    winner = tuning.winner.model_dump(mode="json", exclude={"metrics"}) if tuning.winner else None
    told = {"tuning_id": tuning_id, "dataset": tuning.dataset, "status": tuning.status, "winner": winner}
    publish("TuningFinished", told)
