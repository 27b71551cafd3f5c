"""What a function is, what an invocation gives back, what a log line carries; and Lambda's limits.

Limits: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from shoal.local.compute.errors import BadFunction

# Both are "6 MB" in the documentation; Invoke's own error messages name these two.
MAX_SYNC_REQUEST_BYTES = 6_291_456
MAX_SYNC_BYTES = 6_291_556
MAX_ASYNC_BYTES = 1_048_576
MAX_ENVIRONMENT_BYTES = 4_096
LOG_TAIL_BYTES = 4_096
INIT_SECONDS = 10.0
VERSION = "$LATEST"

InvocationType = Literal["RequestResponse", "Event", "DryRun"]
Condition = Literal["RetriesExhausted", "EventAgeExceeded"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The AWS keys a worker signs its calls with: those of its role, never the user's own."""

    access_key: str
    secret_key: str
    session_token: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One deployed function.

    Attributes:
        name: The function's physical name.
        arn: Its unqualified ARN; the region and account that the worker sees come from it.
        handler: `module.function`, as in the template.
        code: The folder with the handler (`LAMBDA_TASK_ROOT`, and the worker's working folder).
        python_path: Further import folders, in order: the layers.
        environment: The function's own variables, at most 4 KB of names and values.
        memory_mb: 128 to 10,240. The worker is killed when it holds more.
        timeout_s: 1 to 900.
        ephemeral_mb: 512 to 10,240; bounds what a worker leaves under its TMPDIR.
        reserved_concurrency: At most that many workers at once; 0 throttles every invocation; None for the default.
        role_arn: The execution role; informative, permission checks are made by whoever answers the calls.
        credentials: What the worker signs its calls with; None for no keys at all.
        max_retry_attempts: Retries of a failed asynchronous invocation, 0 to 2.
        max_event_age_s: How old an asynchronous event may get before it's given up, 60 to 21,600.
        on_failure: ARN of the queue that failed asynchronous events go to; `LambdaService` only passes it on.
        log_group: The log group's name, `/aws/lambda/NAME` by default on AWS.
        tracing: Whether X-Ray tracing is active: `Sampled=1` in the trace header of sampled invocations.
    """

    name: str
    arn: str
    handler: str
    code: Path
    python_path: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    memory_mb: int = 128
    timeout_s: float = 3
    ephemeral_mb: int = 512
    reserved_concurrency: int | None = None
    role_arn: str = ""
    credentials: Credentials | None = None
    max_retry_attempts: int = 2
    max_event_age_s: float = 21_600
    on_failure: str | None = None
    log_group: str = ""
    tracing: bool = False

    @property
    def region(self) -> str:
        """The region in the ARN."""
        return self.arn.split(":")[3]


@dataclass(frozen=True, slots=True)
class InvokeResult:
    """What Invoke answers.

    Attributes:
        status: 200 (synchronous), 202 (asynchronous), 204 (dry run).
        payload: The function's answer, or the error as JSON when `function_error` is set; empty for 202 and 204.
        function_error: `Unhandled` when the function failed, else None (`X-Amz-Function-Error`).
        log_tail: The last 4 KB of the invocation's log, not yet base64 (`X-Amz-Log-Result`); None unless asked for.
        executed_version: Always `$LATEST` (`X-Amz-Executed-Version`).
        request_id: The invocation's id (`x-amzn-RequestId`).
        duration_ms: What the handler took, in milliseconds.
        init_ms: What the cold start took, in milliseconds; None on a warm worker.
        billed_ms: Duration and init rounded up to whole milliseconds, as AWS bills them.
        memory_mb: The most memory that the worker has held, in MiB.
    """

    status: int
    payload: bytes
    function_error: str | None = None
    log_tail: bytes | None = None
    executed_version: str = VERSION
    request_id: str = ""
    duration_ms: float = 0.0
    init_ms: float | None = None
    billed_ms: int = 0
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a log, without its line break.

    Attributes:
        log_group: The log group's name.
        log_stream: The worker's stream, as AWS names it (`2026/11/21/[$LATEST]…`).
        timestamp_ms: Milliseconds since the epoch, UTC, when the line arrived.
        message: The line.
        request_id: The invocation it belongs to; None for lines of the cold start.
        source: The function's or the API's name.
    """

    log_group: str
    log_stream: str
    timestamp_ms: int
    message: str
    request_id: str | None
    source: str


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """An asynchronous invocation that was given up.

    Attributes:
        request_id: The invocation's id, the same for every attempt.
        payload: The event, JSON.
        condition: Why it was given up, in AWS's words.
        attempts: How often the function was invoked with it.
        result: The last answer; None when it was never invoked.
    """

    request_id: str
    payload: bytes
    condition: Condition
    attempts: int
    result: InvokeResult | None

    def record(self, spec: FunctionSpec) -> dict[str, Any]:
        """The invocation record that AWS sends to an on-failure destination.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        """
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": f"{spec.arn}:{VERSION}",
                "condition": self.condition,
                "approximateInvokeCount": self.attempts,
            },
            "requestPayload": json.loads(self.payload),
        }
        if self.result is not None:
            record["responseContext"] = {"statusCode": 200, "executedVersion": VERSION, "functionError": "Unhandled"}
            record["responsePayload"] = json.loads(self.result.payload)
        return record


def check_spec(spec: FunctionSpec) -> None:
    """Refuse what AWS refuses when a function is created. Raises `BadFunction`."""

    def require(valid: bool, what: str, fix: str) -> None:
        if not valid:
            raise BadFunction(f"Function {spec.name!r}: {what}.", fix)

    require(
        spec.arn.count(":") == 6,
        f"{spec.arn!r} isn't a function's ARN",
        "Use arn:aws:lambda:REGION:ACCOUNT:function:NAME.",
    )
    require("." in spec.handler, f"handler {spec.handler!r} isn't module.function", "Write for example app.handler.")
    require(spec.code.is_dir(), f"its code folder {str(spec.code)!r} doesn't exist", "Check CodeUri in the template.")
    require(128 <= spec.memory_mb <= 10_240, f"memory of {spec.memory_mb} MB", "Set MemorySize to 128 to 10240.")
    require(1 <= spec.timeout_s <= 900, f"timeout of {spec.timeout_s} s", "Set Timeout to 1 to 900.")
    require(
        512 <= spec.ephemeral_mb <= 10_240,
        f"storage of {spec.ephemeral_mb} MB",
        "Set EphemeralStorage to 512 to 10240.",
    )
    require(
        0 <= spec.max_retry_attempts <= 2, f"{spec.max_retry_attempts} retries", "Set MaximumRetryAttempts to 0 to 2."
    )
    require(60 <= spec.max_event_age_s <= 21_600, f"event age of {spec.max_event_age_s} s", "Set it to 60 to 21600.")
    require((spec.reserved_concurrency or 0) >= 0, "negative reserved concurrency", "Set it to 0 or more.")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in spec.environment.items())
    require(size <= MAX_ENVIRONMENT_BYTES, f"an environment of {size} bytes", "Keep it under 4096 bytes.")
