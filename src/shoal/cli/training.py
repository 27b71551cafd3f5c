"""Commands that start a run on data that is there, and that steer one: train, workers."""

from __future__ import annotations

import sys
from typing import Any

import click

from shoal._settings import parse_settings
from shoal.cli.data import RECIPES, follow
from shoal.cli.output import FAILED, Output, common
from shoal.client import connect
from shoal.errors import BadRequest, RunFailed


@click.command()
@click.argument("dataset")
@click.option("--version", metavar="ID", help="A version of the dataset; the newest committed one when left out.")
@click.option("--recipe", type=click.Choice(RECIPES), help="The network; as dataset.yaml says when left out.")
@click.option("--network", metavar="FILE", help="Your own network, an ONNX file, instead of a recipe.")
@click.option("--backbone", metavar="NAME", help="A pretrained network that was imported, for recipe transfer.")
@click.option("--compute", type=click.Choice(["lambda", "sagemaker", "auto"]), help="Where; auto decides by the quote.")
@click.option("--script", type=click.Path(exists=True, dir_okay=False), help="Your own training script, on SageMaker.")
@click.option("--quote", is_flag=True, help="Only show about how many minutes and dollars it would take, and where.")
@click.option("--workers", type=click.IntRange(1, 40), metavar="N", help="Training workers, 1 to 40.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Any field of a run: training.epochs=5.")
@click.option("--watch/--no-watch", default=True, help="Show the run until it ends (the default), or only start it.")
@common()
def train(
    dataset: str,
    version: str | None,
    stack: str | None,
    network: str | None,
    fields: tuple[str, ...],
    compute: str | None,
    quote: bool,
    watch: bool,
    out: Output,
    **settings: Any,  # noqa: ANN401 - of several types
) -> None:
    """Train again on DATASET, whose data are there, with other settings.

    What isn't said is as in its dataset.yaml. A network of your own is checked first; `shoal inputs DATASET` tells what
    it is given. The model that comes of it is a version of DATASET's model, which serves
    if it is better. The same request again finds the same run.
    """
    given = {**parse_settings(fields), **{name: value for name, value in settings.items() if value is not None}}
    if compute is not None:
        more = given.get("compute")
        given["compute"] = {**(more if isinstance(more, dict) else {}), "service": compute}
    if quote:
        if network is not None:
            raise BadRequest(
                "What a network of your own takes isn't known before its run starts.",
                "Leave --quote out, or ask for the quote of a recipe of about its size.",
            )
        show_quote(connect(stack).quote(dataset, version=version, **given), out)
        return
    run = connect(stack).train(dataset, network, version=version, **given)
    out.line(f"unchanged: run {run.id}" if run.unchanged else f"run {run.id}, dataset {run.dataset}")
    if watch and out.as_json:
        try:
            run.wait()
        except RunFailed as error:
            run = error.run
    out.document({"unchanged": run.unchanged, **run.document})
    if out.as_json and run.status == "failed":
        sys.exit(FAILED)
    if watch and not out.as_json:
        follow(run, out)


def show_quote(found: dict[str, Any], out: Output) -> None:
    """A quote as a table, and where the run would train."""
    out.document(found)
    rows = [
        (
            entry["service"],
            "unknown" if entry["minutes"] is None else f"{entry['minutes']:.1f}",
            "unknown" if entry["dollars"] is None else f"${entry['dollars']:.4f}",
            entry["how"],
        )
        for entry in found["quotes"]
    ]
    out.table(("SERVICE", "MINUTES", "COST", "ON"), rows)
    out.line(f"trains on {found['service']}: {found['why']}")


@click.command()
@click.argument("dataset")
@click.option("--version", metavar="ID", help="A version of the dataset; the newest committed one when left out.")
@common()
def inputs(dataset: str, version: str | None, stack: str | None, out: Output) -> None:
    """Show what a network of your own is given of DATASET, and what it shall answer."""
    found = connect(stack).network_inputs(dataset, version)
    out.document(found)
    rows = [
        (given["name"], given["datatype"], ", ".join(map(str, ["N", *given["shape"]])), given["meaning"])
        for given in found["inputs"]
    ]
    out.table(("INPUT", "TYPE", "SHAPE", "MEANING"), rows)
    answer = f"{found['outputs']} logits" if found["classes"] else "1 number, standardised"
    out.line(f"answers: {answer} for each sample ({found['task']})")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("workers", type=click.IntRange(1, 40), metavar="N")
@common()
def workers(run_id: str, workers: int, stack: str | None, out: Output) -> None:
    """Give RUN other workers: N of them from its next round on."""
    changed = connect(stack).run(run_id).set_workers(workers)
    out.document(changed)
    out.line(f"run {run_id}: {changed['before']} workers, {changed['workers']} from the next round on")


COMMANDS = (train, workers, inputs)
