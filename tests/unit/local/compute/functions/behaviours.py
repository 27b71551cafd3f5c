"""One handler per behaviour that a function can show; runs in worker processes."""

# ruff: noqa: T201

import os
import subprocess
import sys
import time
from pathlib import Path

if os.environ.get("FAIL_IMPORT"):
    raise RuntimeError("no luck at import")
if os.environ.get("EXIT_IMPORT"):
    os._exit(7)
time.sleep(float(os.environ.get("SLOW_IMPORT", "0")))

calls = 0


def echo(event, context):
    global calls
    calls += 1
    print("handling", context.aws_request_id)
    return {
        "event": event,
        "pid": os.getpid(),
        "calls": calls,
        "environment": dict(os.environ),
        "remaining_ms": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "request_id": context.aws_request_id,
        "custom": getattr(context.client_context, "custom", None),
    }


def sleep(event, context):
    time.sleep(event["seconds"])
    return os.getpid()


def wait_for(event, context):
    while not Path(event["path"]).exists():
        time.sleep(0.005)


def fail(event, context):
    raise ValueError("no luck")


def fail_until(event, context):
    path = Path(event["counter"])
    tries = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(tries))
    if tries < event["successes_at"]:
        raise ValueError(f"try {tries}")
    return tries


def leave(event, context):
    os._exit(event["status"])


def hold(event, context):
    held = b"x" * (event["mb"] << 20)
    time.sleep(event.get("seconds", 0))
    return len(held)


def hold_in_child(event, context):
    code = f"import time; held = b'x' * ({event['mb']} << 20); time.sleep(30)"
    subprocess.run([sys.executable, "-c", code], check=False)


def fill_tmp(event, context):
    (Path(os.environ["TMPDIR"]) / "big").write_bytes(b"x" * (event["mb"] << 20))
    return os.getpid()


def answer_bytes(event, context):
    return "x" * event["bytes"]


def chatter(event, context):
    for number in range(2000):
        print("line", number)
    sys.stderr.write("no line break")
    return None


def start_child(event, context):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid
