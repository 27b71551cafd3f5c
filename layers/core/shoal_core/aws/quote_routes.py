"""What a run would take, over HTTP, before anything is spent."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core import errors
from shoal_core.aws.config import environment
from shoal_core.aws.handler import catalog
from shoal_core.aws.warming import invoke
from shoal_core.errors import ShoalError, split_message
from shoal_core.registry.openapi import answers
from shoal_core.registry.records import RunQuote
from shoal_core.registry.requesting import committed_version

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
ASKED: Any = answers(400, 404, 409, 503)


class QuoteRequest(BaseModel):
    """A run that isn't asked for yet; `overrides` as in a request to train."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, description="the newest committed one when left out")
    overrides: dict[str, Any] = Field(default={}, description="recipe, training, compute and the like")


@router.post("/datasets/<name>/quote", summary="What a run would take on Lambda and on SageMaker", responses=ASKED)
def post_quote(name: str, body: QuoteRequest) -> RunQuote:
    """Show about how many minutes and dollars; nothing is started."""
    version = committed_version(catalog(), name, body.version)
    task = {"dataset": name, "version": version, "overrides": body.overrides}
    # The function that starts runs knows the data's form, and what the stack says about training jobs.
    answer = invoke(environment().start_training_function, {"quote": task})
    if "errorType" in answer:
        kind = getattr(errors, str(answer["errorType"]), None)
        reason, fix = split_message(str(answer.get("errorMessage") or answer["errorType"]))
        if isinstance(kind, type) and issubclass(kind, ShoalError):
            raise kind(reason, fix)
        raise ShoalError(f"The run couldn't be quoted: {reason}.", "The log tells why: `shoal logs start_training`.")
    return RunQuote.model_validate(answer)
