"""Commands about batch jobs: start, list, show, errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from shoal._batches import STAGES, BatchJob
from shoal.cli.output import INTERRUPTED, Output, common, number
from shoal.client import Client, connect
from shoal.errors import BadRequest
from shoal.progress import dollars_text, seconds_text

SHOWN_ERRORS = 5


class _BatchGroup(click.Group):
    """`shoal batch MODEL PATH` starts a job; `list`, `show` and `errors` look at jobs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `start` before what isn't one of the other commands."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_BatchGroup, context_settings={"help_option_names": ["-h", "--help"]})
def batch() -> None:
    """Have a model answer many records: `shoal batch MODEL PATH`."""


@batch.command()
@click.argument("model")
@click.argument("path")
@click.option("--name", "job", metavar="NAME", help="The job's name; made from PATH's and the time when left out.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="The version that answers; production by default.")
@click.option("--probabilities", is_flag=True, help="Tell the probability of every class.")
@click.option("--files", multiple=True, metavar="PATTERN", help="Only these files, such as '*.csv' or 'day=*/**'.")
@click.option("--piece-records", type=click.IntRange(1, 1_000_000), metavar="N", help="Records that one worker takes.")
@click.option("--wait/--no-wait", default=False, help="Show the job until it ends, or only start it (the default).")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Wait, and save the output there.")
@common()
def start(
    model: str,
    path: str,
    stack: str | None,
    wait: bool,
    output: Path | None,
    out: Output,
    files: tuple[str, ...],
    probabilities: bool,
    **settings: Any,  # noqa: ANN401
) -> None:
    """Have MODEL answer every record of PATH.

    PATH is an archive of images or texts (.zip, .tar, .tar.gz), a table (.csv, .tsv, .jsonl, .json, .parquet; .gz,
    .zst), a folder of files, a list of S3 URIs (.uris), or s3://BUCKET/PREFIX. The output has its order and format.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise BadRequest(f"{output} is a file.", "Name a folder.")
    asked = {**settings, **({"files": list(files)} if files else {})}
    job = connect(stack).batch(model, path, probabilities=probabilities, **asked)
    if not wait and output is None:
        out.document(job.document)
        out.line(f"job {job.id}; see it with: shoal batch show {job.id}")
        return
    out.line(f"job {job.id}")
    _follow(job, out)
    if output is not None:
        _save(job, output, out)


@batch.command(name="list")
@click.option("--model", metavar="MODEL", help="Only the jobs of this model.")
@common()
def list_jobs(model: str | None, stack: str | None, out: Output) -> None:
    """List jobs, newest first."""
    found = connect(stack).batches(model)
    out.document({"batches": [job.document for job in found]})
    columns = ("JOB", "STATUS", "VERSION", "RECORDS", "ERRORS", "TIME", "COST", "CREATED")
    out.table(columns, map(_row, found), right=("VERSION", "RECORDS", "ERRORS", "TIME", "COST"))
    if not found:
        out.line("No batch jobs yet; start one with: shoal batch MODEL PATH")


def _row(job: BatchJob) -> tuple[object, ...]:
    document = job.document
    counts = document.get("version"), number(job.records), number(job.error_count)
    return job.id, job.status, *counts, seconds_text(job.seconds), dollars_text(job.cost_usd), document["created_at"]


@batch.command()
@click.argument("job_id", metavar="MODEL/JOB")
@click.option("--wait", is_flag=True, help="Show the job until it ends.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Save the output there.")
@common()
def show(job_id: str, wait: bool, output: Path | None, stack: str | None, out: Output) -> None:
    """Show the job MODEL/JOB: how far it is, what it cost, where its output is, and which records failed."""
    job = _find(connect(stack), job_id)
    if wait and not job.finished:
        _follow(job, out)
    else:
        out.document(job.document)
        _tell(job, out)
    if output is not None:
        _save(job, output, out)


@batch.command()
@click.argument("job_id", metavar="MODEL/JOB")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@common()
def errors(job_id: str, limit: int, stack: str | None, out: Output) -> None:
    """List the records of the job MODEL/JOB that have no prediction, and why."""
    found = _find(connect(stack), job_id).errors(limit)
    out.document({"errors": found})
    out.table(("FILE", "PLACE", "CODE", "REASON", "FIX"), (tuple(_error(item).values()) for item in found))
    if not found:
        out.line("Every record has a prediction.")


def _error(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item.get(name) for name in ("file", "place", "code", "reason", "fix")}


def _find(client: Client, job_id: str) -> BatchJob:
    if "/" not in job_id:
        raise BadRequest(f"{job_id!r} names no job.", "Name it MODEL/JOB, as `shoal batch list` does.")
    return client.batch_job(job_id)


def _follow(job: BatchJob, out: Output) -> None:
    """Show a job until it ends, then what it came to; Ctrl-C lets it go on."""
    seen: list[str] = []

    def update(current: BatchJob) -> None:
        line = progress_line(current)
        # Time goes on by itself; a line is worth writing when something else has changed.
        if line.split("  ", 1)[1].partition("  left ")[0] not in seen and not current.finished:
            seen.append(line.split("  ", 1)[1].partition("  left ")[0])
            out.line(line)

    try:
        job.wait(on_progress=update)
    except KeyboardInterrupt:
        out.note(f"The job goes on; see it again with: shoal batch show {job.id} --wait")
        sys.exit(INTERRUPTED)
    out.document(job.document)
    _tell(job, out)


def progress_line(job: BatchJob) -> str:
    """One line for people: time, stage, pieces and records done, time left, cost."""
    document = job.document
    stage = job.status if job.finished or job.stage not in STAGES else job.stage
    parts = [f"{seconds_text(job.seconds):>10}", f"{stage:<14}"]
    if document.get("pieces_total"):
        parts.append(f"pieces {document.get('pieces_done') or 0}/{document['pieces_total']}")
    if job.records:
        parts.append(f"records {job.records:,}")
    if job.error_count:
        parts.append(f"errors {job.error_count:,}")
    if document.get("seconds_left") is not None:
        parts.append(f"left {seconds_text(float(document['seconds_left']))}")
    return "  ".join([*parts, f"cost {dollars_text(job.cost_usd)}"])


def _tell(job: BatchJob, out: Output) -> None:
    document = job.document
    out.line(progress_line(job))
    if document.get("note"):
        out.line(str(document["note"]))
    for warning in document.get("warnings") or []:
        out.line(f"warning: {warning}", style="yellow")
    if job.failure:
        out.line(f"failed at {job.failure['stage']}: {job.failure['reason']}", style="red")
        out.line(f"Fix: {job.failure['fix']}")
    if job.output:
        good = job.records - job.error_count
        out.line(f"{good:,} of {job.records:,} records answered by version {document.get('version')}")
        for item in (document.get("shown") or [])[:SHOWN_ERRORS]:
            place = f"{item['file']} {item['place']}".strip()
            out.line(f"  {place}: {item['reason']} Fix: {item['fix']}")
        if job.error_count > SHOWN_ERRORS:
            out.line(f"  and more: shoal batch errors {job.id}")
        where = job.output.get("predictions") or f"{job.output['prefix']}output/"
        out.line(f"output {where} in the artifacts bucket; save it with: shoal batch show {job.id} --output DIR")


def _save(job: BatchJob, folder: Path, out: Output) -> None:
    for path in job.download(folder):
        out.line(str(path))


COMMANDS = (batch,)
