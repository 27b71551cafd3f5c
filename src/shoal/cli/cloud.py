"""Commands about the cloud itself: up, down, status, logs, doctor, demo."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from shoal.cli.output import FAILED, INTERRUPTED, Output, common
from shoal.client import connect
from shoal.connection import Connection, aws_error, project_folder
from shoal.errors import BadRequest, ConnectionFailed

if TYPE_CHECKING:
    from shoal.local.compute.spec import LogRecord

PORT = click.IntRange(0, 65535)
FOLLOW_SECONDS = 1.0
LATE_MS = 10_000  # CloudWatch may show an event this much after younger ones
JOBS_GROUP = "/aws/sagemaker/TrainingJobs"


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return when the cloud is ready; it goes on in the background.")
@click.option("--port", type=PORT, help="Port of the AWS endpoint; the last one, or 4566, when left out.")
@click.option("--api-port", type=PORT, help="Port of the HTTP API; the last one, or 8081, when left out.")
@common(stack=False)
def up(detach: bool, port: int | None, api_port: int | None, out: Output) -> None:
    """Start the embedded cloud and deploy template.yaml to it.

    Its state is kept in .shoal/ (or $SHOAL_HOME). Without --detach it runs until Ctrl-C.
    """
    from shoal.local import lifecycle  # the SDK's commands don't pay for importing the cloud

    def on_ready(found: lifecycle.Status) -> None:
        out.document(found.to_json())
        _write_cloud(found.to_json(), out)
        if found.already_running:
            asked = port or api_port
            out.line("It was running already" + ("; its ports change after `shoal down` only." if asked else "."))
        out.line("Stop it with: shoal down" if detach or found.already_running else "Stop it with Ctrl-C.")

    def on_log(record: LogRecord) -> None:
        out.line(f"{record.source}  {record.message.rstrip()}", style="dim")

    lifecycle.up(project_folder(), detach=detach, port=port, api_port=api_port, on_ready=on_ready, on_log=on_log)


@click.command()
@common(stack=False)
def down(out: Output) -> None:
    """Stop the embedded cloud; its data stays."""
    from shoal.local import lifecycle

    stopped = lifecycle.down(project_folder())
    out.document({"stopped": stopped})
    out.line("Stopped." if stopped else "No embedded cloud was running.")


@click.command()
@common()
def status(stack: str | None, out: Output) -> None:
    """Show the cloud's addresses and whether it answers."""
    if stack:
        connection = connect(stack).connection
        found: dict[str, Any] = {
            "stack": stack,
            "region": connection.session.region_name,
            "bucket": connection.bucket,
            "api": connection.api,
            "token": connection.token,
            "health": connection.request("GET", "/healthz"),
        }
    else:
        from shoal.local import lifecycle

        running = lifecycle.status(project_folder())
        if running is None:
            raise ConnectionFailed("No embedded cloud is running here.", "Start one with `shoal up -d`.")
        found = running.to_json()
    out.document(found)
    _write_cloud(found, out)


def _write_cloud(found: dict[str, Any], out: Output) -> None:
    for field, title in (
        ("stack", "stack"),
        ("api", "HTTP API"),
        ("token", "token"),
        ("aws_endpoint", "AWS endpoint"),
        ("region", "region"),
        ("bucket", "upload to"),
        ("console", "console"),
    ):
        value = found.get(field)
        if value:
            out.line(f"{title:<13} {f's3://{value}/datasets/NAME/' if field == 'bucket' else value}")


@click.command()
@click.argument("function")
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines until Ctrl-C.")
@click.option(
    "--since", type=click.IntRange(1), default=60, show_default=True, metavar="MINUTES", help="How far to look back."
)
@common()
def logs(function: str, follow: bool, since: int, stack: str | None, out: Output) -> None:
    """Show the log of FUNCTION, such as ingest_upload, or of training_jobs.

    With --follow --json: one JSON document per line.
    """
    connection = connect(stack).connection
    name = re.sub("[_ ]", "-", function.strip().lower())
    group = JOBS_GROUP if name == "training-jobs" else f"/aws/lambda/{connection.stack}-{name}"
    start = int((time.time() - since * 60) * 1000)
    try:
        if not follow:
            events = list(_events(connection, group, start))
            out.document({"log_group": group, "events": events})
            for event in events:
                _write_event(event, out)
            return
        for event in _follow(connection, group, start):
            out.document(event)
            _write_event(event, out)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise BadRequest(
                f"There is no log of a function {function!r} ({group}).",
                "Name one of the folders under functions/; a log begins with the function's first run.",
            ) from error
        raise aws_error(error, f"log group {group!r}") from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _events(connection: Connection, group: str, start: int) -> Iterator[dict[str, Any]]:
    """A log group's events from a moment (ms since 1970) on, in order of time."""
    pages = connection.aws("logs").get_paginator("filter_log_events")
    found = [event for page in pages.paginate(logGroupName=group, startTime=start) for event in page["events"]]
    if group == JOBS_GROUP:  # all stacks of an account share it; a job's name begins with its stack's
        found = [event for event in found if event.get("logStreamName", "").startswith(f"{connection.stack}-")]
    for event in sorted(found, key=lambda event: event["timestamp"]):
        yield {
            "id": event["eventId"],
            "timestamp": event["timestamp"],
            "stream": event.get("logStreamName", ""),
            "message": event["message"].rstrip("\n"),
        }


def _follow(connection: Connection, group: str, start: int) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    while True:
        fresh = [event for event in _events(connection, group, start) if event["id"] not in seen]
        yield from fresh
        seen.update(event["id"] for event in fresh)
        # Look back a little: events come late, and `seen` keeps them from showing twice.
        start = max(start, max((event["timestamp"] for event in fresh), default=start) - LATE_MS)
        time.sleep(FOLLOW_SECONDS)


def _write_event(event: dict[str, Any], out: Output) -> None:
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    out.line(f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z  {event['message']}")


@click.command()
@common(stack=False)
def doctor(out: Output) -> None:
    """Look for what can keep the embedded cloud from working here, and say how to mend it."""
    from shoal.local.doctor import diagnose

    checks = diagnose(project_folder())
    out.document({"checks": [asdict(check) for check in checks]})
    styles = {"ok": "green", "note": "", "warning": "yellow", "error": "red"}
    for check in checks:
        out.line(f"{check.level:<8} {check.name}: {check.found}", style=styles[check.level])
        if check.fix:
            out.line(f"         {check.fix}")
    if any(check.level == "error" for check in checks):
        sys.exit(FAILED)


@click.command()
@common()
def demo(stack: str | None, out: Output) -> None:
    """Train and serve a model on real handwritten digits, from upload to predictions."""
    from shoal.demo import run_demo

    try:
        sys.exit(run_demo(out, stack))
    except KeyboardInterrupt:
        out.note("The run goes on; see it again with: shoal runs")
        sys.exit(INTERRUPTED)


COMMANDS = (up, down, status, logs, doctor, demo)
