"""Start Training: resolve the settings, build the graphs and the first checkpoint; or find where a run stopped."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.parser import BaseModel, event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.config import environment
from shoal_core.aws.handler import RunEvent, artifacts, catalog, framed, stage
from shoal_core.aws.s3 import S3Store
from shoal_core.aws.training_resources import job_options, worker
from shoal_core.training.executions import Execution
from shoal_core.training.featuring import plan_features
from shoal_core.training.job_requests import job_to_create
from shoal_core.training.quoted import QuoteTask, quote_run
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.showing import shown_settings
from shoal_core.training.starting import start_training
from shoal_core.training.tuning.halving import rounds_until


class StartTrainingEvent(RunEvent):
    """The run, and the number of the execution that starts it or goes on with it.

    Of a search's trial also by what its rounds are divided for the rung that it trains for.
    """

    execution: int = 1
    part: int = 1


class QuoteEvent(BaseModel):
    """A run that isn't asked for yet."""

    quote: QuoteTask


@stage("Start Training", StartTrainingEvent)
def start(event: StartTrainingEvent) -> dict[str, Any]:
    """Return the round to run next."""

    def production() -> str | None:
        return catalog().run_in_production(event.dataset)

    store, serving, jobs = artifacts(), catalog().alias, job_options()
    uploaded = S3Store(environment().bucket).read
    source = (event.run_id, event.dataset, event.version)
    state = start_training(store, *source, production, serving, jobs, uploaded, worker())
    settings = read_settings(store, event.run_id)
    manifest = read_manifest(store, settings)
    shown = shown_settings(settings, manifest)
    catalog().settings_resolved(event.run_id, shown, settings.inferred, settings.warnings)
    features = plan_features(artifacts(), event.run_id)
    until = rounds_until(settings.rounds, event.part)
    job = {} if state.finished else job_to_create(store, settings, manifest, jobs, store.bucket)
    execution = Execution(execution=event.execution).model_dump()
    return {"until": until, **state.model_dump(), **features, **execution, **job}


@framed
@event_parser(model=QuoteEvent)
def quote(event: QuoteEvent, context: LambdaContext) -> dict[str, Any]:
    """Return what a run would take."""
    task = event.quote
    choice = quote_run(artifacts(), task.dataset, task.version, task.overrides, job_options(), worker())
    return choice.model_dump(mode="json", include={"service", "why", "quotes"})


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer the state machine, or the API about a run that it may ask for."""
    answer: dict[str, Any] = quote(event, context) if "quote" in event else start(event, context)
    return answer
