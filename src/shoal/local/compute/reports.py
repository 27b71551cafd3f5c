"""What Lambda writes around an invocation: its log lines and its error payloads, word for word as AWS does.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html and the Lambda troubleshooting pages.
"""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from dataclasses import dataclass

from shoal.local.compute.spec import MAX_SYNC_BYTES, VERSION


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that Lambda itself reports for an invocation.

    Attributes:
        payload: What the caller gets, JSON.
        error_type: What the REPORT line names.
        status: The REPORT line's status, `error` or `timeout`.
        line: A log line of its own, or empty.
    """

    payload: bytes
    error_type: str
    status: str = "error"
    line: str = ""


def log_stream_name() -> str:
    """A name for a worker's log stream, as AWS makes them."""
    return f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{VERSION}]{uuid.uuid4().hex}"


def trace_header(sampled: bool) -> str:
    """A new X-Ray trace header."""
    root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    return f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled={int(sampled)}"


def init_start_line() -> str:
    """The line at the start of a cold start."""
    return f"INIT_START Runtime Version: python:{sys.version_info.major}.{sys.version_info.minor}.local"


def init_report_line(duration_ms: float, status: str, error_type: str) -> str:
    """The line after a cold start that failed."""
    detail = f"\tError Type: {error_type}" if status == "error" else ""
    return f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: init\tStatus: {status}{detail}"


def start_line(request_id: str) -> str:
    """The first line of an invocation."""
    return f"START RequestId: {request_id} Version: {VERSION}"


def end_line(request_id: str) -> str:
    """The line after the handler's own."""
    return f"END RequestId: {request_id}"


def billed_ms(duration_ms: float, init_ms: float | None) -> int:
    """What AWS bills, in whole milliseconds: the handler and, since August 2025, the cold start."""
    return math.ceil(duration_ms + (init_ms or 0.0))


def report_line(
    request_id: str,
    *,
    duration_ms: float,
    init_ms: float | None,
    memory_mb: int,
    used_mb: int,
    failure: Failure | None,
) -> str:
    """The last line of an invocation. Only failures that Lambda itself reports have a status on it."""
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_ms:.2f} ms",
        f"Billed Duration: {billed_ms(duration_ms, init_ms)} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {used_mb} MB",
    ]
    if init_ms is not None:
        fields.append(f"Init Duration: {init_ms:.2f} ms")
    if failure is not None:
        fields.append(f"Status: {failure.status}")
        if failure.status == "error":
            fields.append(f"Error Type: {failure.error_type}")
    return "\t".join(fields) + "\t"


def timed_out(request_id: str, seconds: float) -> Failure:
    """The handler, or a cold start that was tried again, took longer than the function's timeout."""
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    line = f"{now}.{int(time.time() * 1000) % 1000:03d}Z {request_id} Task timed out after {seconds:.2f} seconds"
    return Failure(_payload("Sandbox.Timedout", message), "Sandbox.Timedout", "timeout", line)


def exited(request_id: str, returncode: int, *, out_of_memory: bool = False) -> Failure:
    """The worker ended during an invocation.

    Out of memory is `Runtime.ExitError` with `signal: killed` to the caller, as AWS words it, and
    `Runtime.OutOfMemory` on the REPORT line.

    Args:
        request_id: The invocation.
        returncode: Exit status, or minus the signal that killed it.
        out_of_memory: Whether it was killed for its memory.
    """
    message = f"RequestId: {request_id} Error: Runtime exited {_exit_reason(returncode)}"
    error_type = "Runtime.OutOfMemory" if out_of_memory else "Runtime.ExitError"
    return Failure(_payload("Runtime.ExitError", message), error_type, line=f"{message}\n{error_type}")


def response_too_large() -> Failure:
    """The handler's answer is over 6 MB."""
    message = f"Response payload size exceeded maximum allowed payload size ({MAX_SYNC_BYTES} bytes)."
    error_type = "Function.ResponseSizeTooLarge"
    return Failure(_payload(error_type, message), error_type, line=f"[ERROR] {message}")


def storage_full(used_mb: int, ephemeral_mb: int) -> Failure:
    """The worker left more under its TMPDIR than the function's ephemeral storage holds."""
    message = f"[Errno 28] No space left on device: {used_mb} MB in TMPDIR, ephemeral storage is {ephemeral_mb} MB"
    return Failure(_payload("OSError", message), "OSError", line=f"[ERROR] OSError: {message}")


def init_failed(payload: bytes) -> Failure:
    """The cold start failed with an error that the runtime reported, for example an import error."""
    try:
        error_type = str(json.loads(payload).get("errorType", "Runtime.Unknown"))
    except (ValueError, AttributeError):
        error_type = "Runtime.Unknown"
    return Failure(payload, error_type)


def _exit_reason(returncode: int) -> str:
    if returncode == -9:
        return "with error: signal: killed"
    if returncode < 0:
        return f"with error: signal: {-returncode}"
    return f"with error: exit status {returncode}" if returncode else "without providing a reason"


def _payload(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()
