"""Every error that the SDK raises, drawn as a tree; each says what is wrong (`reason`) and how to mend it (`fix`).

ShoalError
├── ConnectionFailed     no cloud found, or it doesn't answer
├── NotAuthorised        no token, a wrong token, or AWS credentials that may not do this (401, 403)
├── NotFound             no such dataset, run, model or version (404)
├── BadRequest           the call itself is wrong: a name, a path, a value (other 4xx, and checks made before sending)
├── ServiceFailed        the API answered 5xx, or with something that isn't its own JSON
├── ConversionFailed     a converter failed, or its model answers differently from the original
├── BatchFailed          the batch job that was waited for failed; `.job` has it
├── RunFailed            the run that was waited for failed; `.run` has it
├── RunPaused            the run that was waited for is a trial that its search has paused; `.run` has it
├── TuningFailed         the search that was waited for failed; `.tuning` has it
└── WaitTimedOut         the run goes on, but longer than the caller would wait; `.run` has it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shoal._batches import BatchJob
    from shoal._runs import Run
    from shoal._tunings import Tuning


class ShoalError(Exception):
    """Root of the SDK's errors.

    Args:
        reason: One sentence: the object, and what is wrong with it.
        fix: One sentence: what to do about it; empty when nobody can do anything.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        self.reason = reason
        self.fix = fix
        super().__init__(f"{reason} Fix: {fix}" if fix else reason)


class ConnectionFailed(ShoalError):
    """No cloud was found, or it doesn't answer."""


class NotAuthorised(ShoalError):
    """The token or the AWS credentials don't allow this."""


class NotFound(ShoalError):
    """A dataset, run, model or version that doesn't exist."""


class BadRequest(ShoalError):
    """The call itself is wrong; the same call again can't succeed."""


class ServiceFailed(ShoalError):
    """The service failed on its side; the same call may succeed later."""


class ConversionFailed(ShoalError):
    """A converter failed, or the model that it made answers differently from the original."""


class RunFailed(ShoalError):
    """A run that was waited for ended in failure."""

    def __init__(self, run: Run) -> None:
        self.run = run
        failure = run.failure or {}
        stage = failure.get("stage")
        where = f" at {stage}" if stage else ""
        reason = failure.get("reason") or failure.get("error") or "no reason was recorded"
        super().__init__(f"Run {run.id} failed{where}: {reason}", str(failure.get("fix") or ""))


class RunPaused(ShoalError):
    """A run that was waited for is a trial that its search has paused: it goes on if the search promotes it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        search = run.id.rpartition("-")[0]
        super().__init__(
            f"Run {run.id} is a trial of search {search}, paused after round {run.progress.get('round', 0)}.",
            f"Watch the search: shoal tunings {search} --watch",
        )


class BatchFailed(ShoalError):
    """A batch job as a whole failed; `job` has it, the message its reason and fix."""

    def __init__(self, job: BatchJob) -> None:
        self.job = job
        failure = job.failure or {}
        where = f" at {failure['stage']}" if failure.get("stage") else ""
        reason = failure.get("reason") or failure.get("error") or "no reason was recorded"
        super().__init__(f"Job {job.id} failed{where}: {reason}", str(failure.get("fix") or ""))


class TuningFailed(ShoalError):
    """A search that was waited for ended in failure; `tuning` has it, the message its reason and fix."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        failure = tuning.failure or {}
        reason = failure.get("reason") or failure.get("error") or "no reason was recorded"
        super().__init__(f"Search {tuning.id} failed: {reason}", str(failure.get("fix") or ""))


class WaitTimedOut(ShoalError):
    """A run, a batch job or a search takes longer than the caller would wait; it goes on. `again` shows it."""

    def __init__(
        self, run: Run | BatchJob | Tuning, timeout: float, what: str = "Run", again: str = "shoal watch"
    ) -> None:
        self.run = run
        super().__init__(f"{what} {run.id} is still {run.status} after {timeout:g} s; it goes on.", f"{again} {run.id}")


# What the gateway answers by itself, with a few words only: what it means, and the fix.
_GATEWAY: Mapping[int, tuple[str, str]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "the request is too large",
        "Send fewer rows or smaller images in one request: 6 MB fit, and an image counts a third more than its size.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: ("too many requests at once", "Wait a moment and send fewer at once."),
}


def _details(body: bytes) -> tuple[str, str]:
    """(reason, fix) from problem+json, or from the gateway's own {"message"}; empty where there is none."""
    try:
        problem: Any = json.loads(body)
    except (ValueError, UnicodeDecodeError):
        return "", ""
    if not isinstance(problem, dict):
        return "", ""
    reason = problem.get("detail") or problem.get("title") or problem.get("message") or ""
    return str(reason), str(problem.get("fix") or "")


def from_response(status: int, body: bytes, request: str) -> ShoalError:
    """The error for an HTTP answer that isn't a success.

    Args:
        status: HTTP status code, 400 or above.
        body: The answer's bytes: problem+json, or what API Gateway says by itself.
        request: The request in words, such as `GET /models/digits`, for answers without details.
    """
    reason, fix = _details(body)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        # The gateway says only "Unauthorized" or "Forbidden", which helps nobody; the API names the scope that lacks.
        return NotAuthorised(
            reason if fix else f"The API refused the token ({status}, {request}).",
            fix or "Connect again: the token is read anew from .shoal/cloud.json or the stack's secret.",
        )
    if not fix and status in _GATEWAY:
        reason, fix = f"{request}: {_GATEWAY[status][0]} ({status}).", _GATEWAY[status][1]
    if not reason:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
        reason = f"{request} was answered with {status} ({phrase})."
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(reason, fix)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(reason, fix)
    return ServiceFailed(reason, fix or "Try again; `shoal logs api` shows what the service said.")
