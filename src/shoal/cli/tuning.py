"""Commands about searches: tune, tunings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from shoal._tunings import Tuning
from shoal.cli.output import INTERRUPTED, Output, common
from shoal.client import connect
from shoal.errors import BadRequest, TuningFailed
from shoal.progress import dollars_text, seconds_text
from shoal.tuning_progress import ranked, show_tuning

SHOWN_TRIALS = 20
_BUDGET = (
    click.option("--trials", type=click.IntRange(1, 500), metavar="N", help="Trials at most; 9 without another limit."),
    click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="Of work on each lane."),
    click.option("--dollars", type=click.FloatRange(0, min_open=True), metavar="D", help="Of all trials, estimated."),
    click.option("--lanes", type=click.IntRange(1, 40), metavar="P", help="Trials at the same time; 3 at first."),
)


def _budget(command: Any) -> Any:  # noqa: ANN401 - click's decorators
    for option in reversed(_BUDGET):
        command = option(command)
    return command


@click.command()
@click.argument("dataset", required=False)
@_budget
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="Of what is tried; 0 by default.")
@click.option("--space", type=click.Path(path_type=Path), metavar="FILE", help="What trials vary, as YAML.")
@click.option("--version", metavar="ID", help="A version of the dataset; the newest committed one when left out.")
@click.option(
    "--eta", type=click.IntRange(2, 16), metavar="N", help="One of N trials of a rung trains on; 3 by default."
)
@click.option("--rungs", type=click.IntRange(1, 6), metavar="N", help="Rungs of a trial; 3 by default.")
@click.option("--resume", metavar="ID", help="Go on with a search, perhaps with a larger budget.")
@click.option("--watch/--no-watch", default=True, help="Show the search until it ends (the default), or only start it.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Save the page with the plot there.")
@common()
def tune(
    dataset: str | None,
    stack: str | None,
    resume: str | None,
    watch: bool,
    report: Path | None,
    out: Output,
    space: Path | None,
    seed: int | None,
    version: str | None,
    eta: int | None,
    rungs: int | None,
    **budget: Any,  # noqa: ANN401
) -> None:
    """Search recipes and hyperparameters for DATASET; the best trial becomes a version of its model.

    Trials train on parallel lanes. After a part of its rounds only the better ones of them train on. They are ranked on
    the validation split; the winner alone is evaluated on the test split.
    """
    client = connect(stack)
    if resume is not None:
        fixed = {"--space": space, "--seed": seed, "--version": version, "--eta": eta, "--rungs": rungs}
        told = [name for name, value in fixed.items() if value is not None]
        if told:
            raise BadRequest(f"{told[0]} can't change in a search that goes on.", "Leave it out, or begin another one.")
        found = client.tuning(resume)
        if dataset not in (None, found.dataset):
            raise BadRequest(f"Search {resume} is of dataset {found.dataset!r}.", "Leave the dataset out.")
        found.resume(**budget)
    elif dataset is None:
        raise BadRequest("No dataset is named.", "Write: shoal tune DATASET, or shoal tune --resume ID")
    else:
        found = client.tune(dataset, space=space, seed=seed, version=version, eta=eta, rungs=rungs, **budget)
    out.line(f"search {found.id}, dataset {found.dataset}")
    if watch:
        _follow(found, out)
    else:
        out.document(found.document)
    if report is not None:
        _save(found, report, out)


@click.command()
@click.argument("tuning_id", metavar="[ID]", required=False)
@click.option("--dataset", metavar="NAME", help="Only the searches of this dataset.")
@click.option("--watch", is_flag=True, help="Show the search until it ends.")
@click.option("--stop", is_flag=True, help="Begin no further trial; `shoal tune --resume` goes on.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Save the page with the plot there.")
@common()
def tunings(
    tuning_id: str | None,
    dataset: str | None,
    watch: bool,
    stop: bool,
    report: Path | None,
    stack: str | None,
    out: Output,
) -> None:
    """List searches, newest first; or show one by its [ID]: its trials, the best first, and its winner."""
    if tuning_id is None:
        if watch or stop or report is not None:
            raise BadRequest("No search is named.", "Name one: `shoal tunings` lists them.")
        _list(connect(stack).tunings(dataset), out)
        return
    found = connect(stack).tuning(tuning_id)
    if stop:
        found.stop()
    if watch and not found.finished:
        _follow(found, out)
    else:
        out.document(found.document)
        _tell(found, out)
    if report is not None:
        _save(found, report, out)


def _list(found: list[Tuning], out: Output) -> None:
    out.document({"tunings": [tuning.document for tuning in found]})
    columns = ("SEARCH", "DATASET", "STATUS", "TRIALS", "BEST", "TIME", "COST", "CREATED")
    out.table(columns, map(_row, found), right=("TRIALS", "TIME", "COST"))
    if not found:
        out.line("No searches yet; start one with: shoal tune DATASET")


def _row(tuning: Tuning) -> tuple[object, ...]:
    document = tuning.document
    best = document.get("best_metric")
    shown = None if best is None else f"{document['metric']} {best:.4f}"
    times = seconds_text(tuning.seconds), dollars_text(tuning.cost_usd)
    return tuning.id, tuning.dataset, tuning.status, document["trials_begun"], shown, *times, document["created_at"]


def _follow(tuning: Tuning, out: Output) -> None:
    """Show a search until it ends, then what it came to; Ctrl-C lets it go on."""
    failed = None
    try:
        if out.as_json:
            tuning.wait()
        else:
            with show_tuning(out.console) as view:
                tuning.wait(on_progress=view.update)
    except TuningFailed as error:
        failed = error
    except KeyboardInterrupt:
        out.note(f"The search goes on; see it again with: shoal tunings {tuning.id} --watch")
        sys.exit(INTERRUPTED)
    out.document(tuning.document)
    _tell(tuning, out)
    if failed is not None:
        if not out.as_json:
            raise failed
        sys.exit(1)  # the document tells why


def _tell(tuning: Tuning, out: Output) -> None:
    """What a search has come to, for people."""
    document, trials = tuning.document, ranked(tuning)
    names = list(dict.fromkeys(name for trial in trials for name in trial["values"] if name != "recipe"))
    metric = document["metric"] or "metric"
    columns = (
        "TRIAL",
        "STATE",
        "RECIPE",
        *(_heading(name) for name in names),
        "ROUNDS",
        metric.upper(),
        "TIME",
        "COST",
    )
    rows = [_trial_row(trial, names, tuning) for trial in trials[:SHOWN_TRIALS]]
    out.table(columns, rows, right=("TRIAL", "ROUNDS", metric.upper(), "TIME", "COST"))
    if len(trials) > SHOWN_TRIALS:
        out.line(f"and {len(trials) - SHOWN_TRIALS} more: shoal tunings {tuning.id} --json")
    for trial in [trial for trial in trials if trial.get("failure")][:5]:
        failure = trial["failure"]
        out.line(f"trial {trial['number']} failed: {failure['reason']} Fix: {failure['fix']}")
    if trials:
        out.line(f"ranked by {metric} on the {document['split']} split; only the winner is evaluated on the test split")
    if document.get("reason"):
        out.line(
            f"{document['reason']}: {seconds_text(tuning.seconds)}, {dollars_text(tuning.cost_usd)} on AWS (estimated)"
        )
    winner = tuning.winner
    if winner is not None:
        value = (winner.get("metrics") or {}).get(metric)
        test = f", test {metric} {value:.4f}" if isinstance(value, int | float) else ""
        out.line(f"winner: trial {winner['trial']}, run {winner['run_id']}: {winner['status']}{test}")
    if tuning.model:
        name, version = tuning.model["name"], tuning.model["version"]
        out.line(f"model {name}, version {version}: shoal predict {name} FILE")
    elif tuning.status == "stopped":
        out.line(f"go on with it: shoal tune --resume {tuning.id}")


def _trial_row(trial: dict[str, Any], names: list[str], tuning: Tuning) -> tuple[object, ...]:
    state = trial["state"]
    if tuning.winner is not None and tuning.winner["trial"] == trial["number"]:
        state = "winner"
    results, curve = trial.get("results") or [], trial.get("curve") or []
    return (
        trial["number"],
        state,
        trial.get("recipe") or trial["values"].get("recipe"),
        *(_value(trial["values"].get(name)) for name in names),
        f"{curve[-1]['round']}/{trial['rounds']}" if curve else None,
        f"{results[-1]['metric']:.4f}" if results else None,
        seconds_text(trial["seconds"]),
        dollars_text(trial["cost_usd"]),
    )


def _heading(name: str) -> str:
    return name.removeprefix("training.").upper()


def _value(value: Any) -> str | None:  # noqa: ANN401 - a value of dataset.yaml
    if value is None or isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _save(tuning: Tuning, path: Path, out: Output) -> None:
    """Save the search's page."""
    try:
        path.write_bytes(tuning.page())
    except OSError as error:
        raise BadRequest(f"{path} can't be written: {error.strerror or error}.", "Name another file.") from error
    out.line(f"report {path}")


COMMANDS = (tune, tunings)
