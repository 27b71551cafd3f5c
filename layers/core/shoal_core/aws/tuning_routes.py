"""Searches over recipes and hyperparameters over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access import caller_of, source_of
from shoal_core.aws.audit import Audit
from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.executions import is_tuning_under_way, start_tuning
from shoal_core.aws.handler import artifacts, catalog, tunings
from shoal_core.aws.report_routes import HEADERS, PAGE
from shoal_core.registry.audit import Caller
from shoal_core.registry.openapi import answers
from shoal_core.registry.queries import PARALLEL_QUERIES
from shoal_core.registry.tuning_records import Tuning, Tunings
from shoal_core.registry.tunings import Searches
from shoal_core.training.tuning.records import DEFAULT_LANES, DEFAULT_TRIALS, MAX_LANES, MAX_TRIALS

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
STARTS: Any = answers(400, 404, 409, 503, success=202)
CHANGES: Any = answers(400, 404, 409, 503)
BAD_QUERY: Any = answers(400, 503)
NOT_FOUND: Any = answers(404, 503)


class BudgetRequest(BaseModel):
    """When no further trial is begun, and none promoted."""

    model_config = ConfigDict(extra="forbid")

    trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    minutes: float | None = Field(default=None, gt=0, le=100_000, description="of work on each lane")
    dollars: float | None = Field(default=None, gt=0, le=100_000, description="of all trials, estimated")

    def limits(self) -> dict[str, Any]:
        """Those that were given."""
        return self.model_dump(include={"trials", "minutes", "dollars"}, exclude_none=True)


class TuneRequest(BudgetRequest):
    """A search on a committed version."""

    version: str | None = Field(default=None, description="the newest committed one when left out")
    space: dict[str, Any] | None = Field(
        default=None, description="what trials vary; what suits the data when left out"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    lanes: int = Field(default=DEFAULT_LANES, ge=1, le=MAX_LANES, description="trials at the same time")
    eta: int = Field(default=3, ge=2, le=16, description="one of so many trials of a rung trains on to the next")
    rungs: int = Field(default=3, ge=1, le=6)


class ResumeRequest(BudgetRequest):
    """A search that goes on, and what of it is other than before."""

    lanes: int | None = Field(default=None, ge=1, le=MAX_LANES)


def searches() -> Searches:
    """The searches of this stack."""
    return Searches(
        artifacts(), tunings(), catalog(), start_tuning, is_tuning_under_way, Audit(), environment().architecture, now
    )


def _caller() -> Caller:
    event = router.current_event.raw_event
    asks = caller_of(event)
    return Caller(who=asks.id if asks else "nobody", source=source_of(event))


@router.post("/datasets/<name>/tunings", summary="Search recipes and settings", responses=STARTS, status_code=202)
def post_tuning(name: str, body: TuneRequest) -> Tuning:
    """Start a search; the same request again finds the same search."""
    asked = body.model_dump(include={"space", "seed", "lanes", "eta", "rungs"})
    budget = body.limits() or {"trials": DEFAULT_TRIALS}
    return searches().begin(name, body.version, {**asked, "budget": budget}, _caller())


@router.get("/tunings", summary="The newest searches first", responses=BAD_QUERY)
def get_tunings(
    dataset: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Tunings:
    """List searches, of one dataset or of all, without their trials."""
    ids = tunings().newest(dataset, limit)
    with ThreadPoolExecutor(PARALLEL_QUERIES) as pool:
        return Tunings(tunings=list(pool.map(lambda tuning_id: searches().show(tuning_id, False), ids)))


@router.get("/tunings/<tuning_id>", summary="One search: trials, cost, winner", responses=NOT_FOUND)
def get_tuning(tuning_id: str) -> Tuning:
    """Show one search."""
    return searches().show(tuning_id)


@router.get("/tunings/<tuning_id>/report.html", summary="The search as a page, with its plot", responses=PAGE)
def get_tuning_page(tuning_id: str) -> Response[str]:
    """Show a search to a person."""
    return Response(200, "text/html; charset=utf-8", searches().page(tuning_id), HEADERS)


@router.post("/tunings/<tuning_id>/stop", summary="Begin no further trial", responses=CHANGES)
def post_stop(tuning_id: str) -> Tuning:
    """Stop a search; it can be resumed."""
    return searches().stop(tuning_id, _caller())


@router.post("/tunings/<tuning_id>/resume", summary="Go on with a search", responses=STARTS, status_code=202)
def post_resume(tuning_id: str, body: ResumeRequest) -> Tuning:
    """Resume a search that was stopped, failed or interrupted, or give it a larger budget."""
    return searches().resume(tuning_id, body.limits(), body.lanes, _caller())
