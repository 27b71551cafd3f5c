"""Commands about datasets and runs: push, runs, watch, datasets, dataset, download."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from shoal._datasets import Dataset
from shoal._runs import Run
from shoal._settings import parse_settings
from shoal.cli.output import INTERRUPTED, Output, common, headline, number
from shoal.cli.report_text import write_report
from shoal.client import Client, connect
from shoal.errors import NotFound, RunFailed
from shoal.progress import dollars_text, seconds_text, show

SHOW_UPLOAD_BYTES = 8 * 1024 * 1024
RECIPES = (
    *("mlp", "cnn", "linear", "resnet", "vgg", "fasttext"),
    *("text-cnn", "rnn", "crnn", "transformer", "autoencoder", "transfer"),
)


@click.command()
@click.argument("path")
@click.option("--name", metavar="NAME", help="The dataset's name; made from PATH's when left out.")
@click.option("--target", metavar="COLUMN", help="The column to predict (tables).")
@click.option(
    "--task",
    type=click.Choice(["classification", "multilabel", "regression", "anomaly"]),
    help="Inferred when left out.",
)
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    help="The network; inferred when left out.",
)
@click.option("--workers", type=click.IntRange(1, 40), metavar="N", help="Training workers, 1 to 40.")
@click.option("--rounds", type=click.IntRange(1, 500), metavar="N", help="Rounds of training at most, 1 to 500.")
@click.option("--files", multiple=True, metavar="PATTERN", help="Only these files, such as '*.csv' or 'year=*/**'.")
@click.option("--schedule", metavar="WHEN", help="Read s3:// or dynamodb:// again: 'rate(1 day)', 'cron(0 6 * * ? *)'.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Any field of dataset.yaml: split.test=0.2")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A dataset.yaml to use.")
@click.option("--watch/--no-watch", default=True, help="Show the run until it ends (the default), or only start it.")
@common()
def push(
    path: str,
    stack: str | None,
    config: Path | None,
    watch: bool,
    out: Output,
    files: tuple[str, ...],
    fields: tuple[str, ...],
    **settings: Any,  # noqa: ANN401
) -> None:
    """Upload PATH, which trains and serves a model.

    PATH is an archive (.zip, .tar, .tar.gz), a table (.csv, .jsonl, .json, .parquet; .gz, .zst), a list of S3 URIs
    (.uris), a folder (of images or texts in one folder per class, of images with a table of labels, of tables), or
    what the cloud reads itself: s3://BUCKET/PREFIX, dynamodb://TABLE.
    Settings become a dataset.yaml beside it; what is left out is inferred from the data.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    asked = {**parse_settings(fields), **({"files": list(files)} if files else {}), **given}
    client = connect(stack)
    run = _push(client, path, config, asked, out)
    if run.unchanged:
        out.line(f"unchanged: run {run.id}")
    else:
        out.line(f"run {run.id}, dataset {run.dataset}")
    if not watch:
        out.document({"unchanged": run.unchanged, **run.document})
        return
    if out.as_json:
        run = _wait_silently(run)
        out.document({"unchanged": run.unchanged, **run.document})
        if run.status == "failed":
            sys.exit(1)
        return
    follow(run, out)


def _push(client: Client, path: str, config: Path | None, settings: Mapping[str, Any], out: Output) -> Run:
    if out.as_json or not out.console.is_terminal:
        return client.push(path, config=config, **settings)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out.console, transient=True) as bar:
        task = bar.add_task("upload", total=None, visible=False)

        def on_upload(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= SHOW_UPLOAD_BYTES)

        return client.push(path, config=config, on_upload=on_upload, **settings)


def _wait_silently(run: Run) -> Run:
    """Wait for a run's end, good or bad."""
    try:
        return run.wait()
    except RunFailed as error:
        return error.run


def follow(run: Run, out: Output) -> None:
    """Show a run until it ends, then its results; Ctrl-C lets it go on.

    Raises:
        RunFailed: The run failed.
    """
    try:
        with show(out.console, as_json=out.as_json) as view:
            run.wait(on_progress=view.update)
    except KeyboardInterrupt:
        out.note(f"The run goes on; see it again with: shoal watch {run.id}")
        sys.exit(INTERRUPTED)
    results(run, out)


def results(run: Run, out: Output) -> None:
    """Write what a finished run came to, for people."""
    names = (
        *(
            "accuracy",
            "subset_accuracy",
            "hamming_loss",
            "micro_f1",
            "precision",
            "recall",
            "f1",
            "roc_auc",
            "pr_auc",
            "calibration_error",
        ),
        *("top_3_accuracy", "top_5_accuracy", "mae", "rmse", "r2", "median_absolute_error"),
        *(("loss", "threshold", "flagged") if "threshold" in run.metrics else ()),
    )
    found = [f"{name} {run.metrics[name]:.4f}" for name in names if isinstance(run.metrics.get(name), int | float)]
    if found:
        out.line(f"test: {', '.join(found)}")
    inferred = run.document.get("inferred") or []
    values = {name: setting(run.document.get("settings") or {}, name) for name in inferred}
    if inferred:
        out.line("inferred: " + ", ".join(f"{name} {value}" for name, value in values.items() if value is not None))
    out.line(f"{seconds_text(run.seconds)}, {dollars_text(run.cost_usd)} on AWS (estimated)")
    if run.model:
        out.line(f"model {run.model['name']}, version {run.model['version']}: shoal predict {run.model['name']} FILE")


def setting(settings: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    """A setting by its name in dataset.yaml, such as `training.epochs`; None when it isn't there."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


@click.command()
@click.option("--dataset", metavar="NAME", help="Only the runs of this dataset.")
@common()
def runs(dataset: str | None, stack: str | None, out: Output) -> None:
    """List runs, newest first."""
    found = connect(stack).runs(dataset)
    out.document({"runs": [run.document for run in found]})
    columns = ("RUN", "DATASET", "STATUS", "STAGE", "TEST", "TIME", "COST", "CREATED")
    out.table(columns, (_run_row(run) for run in found), right=("TIME", "COST"))
    if not found:
        out.line("No runs yet; start one with: shoal push PATH")


def _run_row(run: Run) -> tuple[object, ...]:
    stage = (run.failure or {}).get("stage") if run.status == "failed" else run.stage
    created = run.document.get("created_at")
    times = seconds_text(run.seconds), dollars_text(run.cost_usd)
    return run.id, run.dataset, run.status, stage, headline(run.metrics), *times, created


@click.command()
@click.argument("run_id", metavar="RUN")
@common()
def watch(run_id: str, stack: str | None, out: Output) -> None:
    """Show a run until it ends. With --json: one JSON document per change and line."""
    run = connect(stack).run(run_id)
    try:
        follow(run, out)
    except RunFailed:
        if not out.as_json:
            raise
        sys.exit(1)  # the last line has told it


@click.command()
@common()
def datasets(stack: str | None, out: Output) -> None:
    """List datasets."""
    found = connect(stack).datasets()
    out.document({"datasets": [dataset.document for dataset in found]})
    rows = []
    for item in found:
        samples = item.document.get("samples") or {}
        counts = (number(samples.get(split)) for split in ("train", "validation", "test"))
        rows.append((item.name, item.latest_version, item.document.get("task"), *counts, item.document["created_at"]))
    columns = ("DATASET", "VERSION", "TASK", "TRAIN", "VALIDATION", "TEST", "CREATED")
    out.table(columns, rows, right=("TRAIN", "VALIDATION", "TEST"))
    if not found:
        out.line("No datasets yet; upload one with: shoal push PATH")


@click.command()
@click.argument("name")
@click.option("--version", metavar="ID", help="A version; the latest when left out.")
@common()
def dataset(name: str, version: str | None, stack: str | None, out: Output) -> None:
    """Report on a dataset: its versions, what was kept, what was dropped and why."""
    item = connect(stack).dataset(name)
    versions = item.versions()
    # Before the first version is committed there is nothing to report on, and that is no mistake of the caller.
    report = item.report(version) if version or item.has_report else _report_of_failed(item)
    out.document({"name": name, "versions": versions, "report": report})
    out.table(
        ("VERSION", "STATUS", "RUN", "CREATED"),
        [[entry.get(field) for field in ("version", "status", "run_id", "created_at")] for entry in versions],
    )
    note = item.document.get("note")
    out.line(note if note else "" if report else "No version is committed yet.")
    if report:
        write_report(report, out)


@click.command()
@click.argument("name")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="train", help="Which one.")
@click.option("--version", metavar="ID", help="A version; the newest committed one when left out.")
@click.option("--to", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Where to; here by default.")
@common()
def download(name: str, split: str, version: str | None, to: Path, stack: str | None, out: Output) -> None:
    """Save the shards of a dataset's split (safetensors) and its manifest, verified by sha256."""
    paths = connect(stack).load(name, split=split, version=version).save(to)
    out.document({"files": [str(path) for path in paths]})
    out.line(f"{len(paths)} shards in {to / split}")


def _report_of_failed(item: Dataset) -> dict[str, Any] | None:
    """The report of a latest version whose run failed: it is there when the data was what failed it."""
    failed = any(entry["version"] == item.latest_version and entry["status"] == "failed" for entry in item.versions())
    try:
        return item.report() if failed else None
    except NotFound:
        return None


COMMANDS = (push, runs, watch, datasets, dataset, download)
