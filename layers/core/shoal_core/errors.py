"""Every error Shoal raises, drawn as a tree. Errors are API: Step Functions retries and catches by these names.

ShoalError                     500
├── BadInput                   400   the caller's data or request is wrong; a retry can't help
│   ├── BadConfig              400   dataset.yaml
│   ├── BadArchive             400   zip, tar, tar.gz
│   ├── BadTable               400   CSV, JSONL
│   ├── BadImage               400   one image
│   ├── BadText                400   one text file
│   ├── BadDataset             400   the set as a whole: no samples, one class, missing target
│   ├── BadName                400   the name of a dataset or model
│   ├── BadRequest             400   one HTTP request
│   ├── TooLarge               413   over a documented limit
│   ├── BadModel               400   a model made elsewhere that can't be served
│   └── BadNetwork             400   a network that can't be trained or served
│       └── UnsupportedOperator
├── NotPermitted               403   a token without the scope; a bucket or table that the parameters don't name
├── NotFound                   404   dataset, run, model, version, object
├── Conflict                   409   somebody else was first: a conditional write lost, an object changed
├── RateLimited                429   a token used more often than it may be
├── JobFailed                  500   a SageMaker training job that ended without a model
├── TrainingDiverged           500   loss became NaN or infinite
├── RoundUnfinished            503   a worker's time is over; a retry goes on where it stopped
├── SearchFailed               500   a search without a trial that came to an end
├── FidelityLost               500   an optimised model doesn't answer as the original does
└── Unavailable                503   a service didn't answer; a retry may help
"""

from __future__ import annotations

FIX_SEPARATOR = " Fix: "


class ShoalError(Exception):
    """Root of Shoal's errors: what is wrong, with what, and how to mend it.

    Args:
        reason: One sentence that names the object and what is wrong with it.
        fix: One sentence that tells what to do about it; empty when nobody can do anything.
    """

    status = 500
    retryable = False

    def __init__(self, reason: str, fix: str = "") -> None:
        self.reason = reason
        self.fix = fix
        super().__init__(f"{reason}{FIX_SEPARATOR}{fix}" if fix else reason)


class BadInput(ShoalError):
    """The caller's data or request is wrong; a retry can't help."""

    status = 400


class BadConfig(BadInput):
    """A `dataset.yaml` that can't be read or asks for the impossible."""


class BadArchive(BadInput):
    """An archive that is empty, corrupt or unsafe."""


class BadTable(BadInput):
    """A table that can't be read as one."""


class BadImage(BadInput):
    """Bytes that don't decode to an image."""


class BadText(BadInput):
    """Bytes that aren't text."""


class BadDataset(BadInput):
    """A set of samples that nothing can be learnt from."""


class BadName(BadInput):
    """A dataset or model name outside the allowed characters."""


class BadRequest(BadInput):
    """An HTTP request that can't be answered as asked."""


class TooLarge(BadInput):
    """Something over a documented limit."""

    status = 413


class BadModel(BadInput):
    """A model made elsewhere that can't be served: invalid, unsafe, or asking for too much."""


class BadNetwork(BadInput):
    """A network that can't be trained or served."""


class UnsupportedOperator(BadNetwork):
    """An ONNX operator without a gradient rule."""


class NotPermitted(ShoalError):
    """What the caller or the stack may not do: a scope is missing, or a parameter that names the source."""

    status = 403


class NotFound(ShoalError):
    """A dataset, run, model, version or object that doesn't exist."""

    status = 404


class Conflict(ShoalError):
    """Somebody else was first: a conditional write lost, or an object has changed since it was listed."""

    status = 409


class RateLimited(ShoalError):
    """A token was used more often than it may be. `retry_after` is in seconds."""

    status = 429

    def __init__(self, reason: str, fix: str = "", retry_after: int = 60) -> None:
        super().__init__(reason, fix)
        self.retry_after = retry_after


class JobFailed(ShoalError):
    """A SageMaker training job failed, was stopped, or ended without a model."""


class TrainingDiverged(ShoalError):
    """The loss became NaN or infinite."""


class RoundUnfinished(ShoalError):
    """A worker's function has no time for another step of its round; a retry goes on where it stopped."""

    status = 503
    retryable = True


class WorkersLost(ShoalError):
    """Workers died in a round, whatever was retried, and too little is left to go on with."""


class SearchFailed(ShoalError):
    """A search whose lanes ended, or none of whose trials came to an end."""


class FidelityLost(ShoalError):
    """An optimised model doesn't answer as the original does."""


class Unavailable(ShoalError):
    """A service didn't answer; a retry may help."""

    status = 503
    retryable = True


def split_message(message: str) -> tuple[str, str]:
    """Split an error's text, as Lambda reports it, into (reason, fix)."""
    reason, _, fix = message.partition(FIX_SEPARATOR)
    return reason, fix
