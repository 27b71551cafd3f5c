"""The embedded cloud's Lambda: real `awslambdaric` worker processes behind a Runtime API of ours."""

from shoal.local.compute.errors import (
    BadFunction,
    BadInvocation,
    FunctionNotFound,
    LambdaError,
    RequestTooLarge,
    ServiceStopped,
    TooManyRequests,
)
from shoal.local.compute.pending import MemoryPending, PendingEvent, PendingEvents
from shoal.local.compute.service import LambdaService
from shoal.local.compute.spec import Credentials, FailedEvent, FunctionSpec, InvokeResult, LogRecord

__all__ = [
    "BadFunction",
    "BadInvocation",
    "Credentials",
    "FailedEvent",
    "FunctionNotFound",
    "FunctionSpec",
    "InvokeResult",
    "LambdaError",
    "LambdaService",
    "LogRecord",
    "MemoryPending",
    "PendingEvent",
    "PendingEvents",
    "RequestTooLarge",
    "ServiceStopped",
    "TooManyRequests",
]
