"""What Lambda's Invoke API answers when it doesn't run a function; drawn as a tree.

LambdaError                    500 ServiceException
├── FunctionNotFound           404 ResourceNotFoundException
├── TooManyRequests            429 TooManyRequestsException
├── RequestTooLarge            413 RequestTooLargeException
├── BadInvocation              400 InvalidRequestContentException
├── BadFunction                400 InvalidParameterValueException (raised by `LambdaService.deploy`)
└── ServiceStopped             503 ServiceException
"""

from __future__ import annotations

import json

from shoal_core.errors import ShoalError


class LambdaError(ShoalError):
    """Root of what the embedded Lambda refuses; `code` is AWS's error type, `status` its HTTP status."""

    code = "ServiceException"

    def body(self) -> bytes:
        """The JSON body as AWS's Invoke API answers it."""
        return json.dumps({"Type": "User" if self.status < 500 else "Service", "Message": self.reason}).encode()


class FunctionNotFound(LambdaError):
    """No function of that name is deployed."""

    status = 404
    code = "ResourceNotFoundException"


class TooManyRequests(LambdaError):
    """All workers are busy and the queue before them is full, or the reserved concurrency is 0."""

    status = 429
    retryable = True
    code = "TooManyRequestsException"

    def __init__(self, reason: str, fix: str = "", cause: str = "ConcurrentInvocationLimitExceeded") -> None:
        super().__init__(reason, fix)
        self.cause = cause

    def body(self) -> bytes:
        """The JSON body as AWS's Invoke API answers it, with the limit that was met under `Reason`."""
        return json.dumps({"Type": "User", "Reason": self.cause, "message": "Rate Exceeded."}).encode()


class RequestTooLarge(LambdaError):
    """A payload over 6 MB (synchronous) or 1 MB (asynchronous)."""

    status = 413
    code = "RequestTooLargeException"


class BadInvocation(LambdaError):
    """A payload that isn't JSON, or an unknown invocation type."""

    status = 400
    code = "InvalidRequestContentException"


class BadFunction(LambdaError):
    """A function specification that AWS would refuse."""

    status = 400
    code = "InvalidParameterValueException"


class ServiceStopped(LambdaError):
    """The service isn't running."""

    status = 503
    retryable = True
