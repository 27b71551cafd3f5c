"""Commands about the quality of data: report, quarantine, replay."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from pathlib import Path

import click

from shoal.cli.data import follow
from shoal.cli.output import Output, common
from shoal.cli.report_text import write_report
from shoal.client import connect
from shoal.errors import BadRequest, RunFailed


@click.command()
@click.argument("name")
@click.option("--version", metavar="ID", help="A version; the latest when left out.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page to FILE.")
@click.option("--open", "show", is_flag=True, help="Show the report as a page in the browser.")
@common()
def report(name: str, version: str | None, html: Path | None, show: bool, stack: str | None, out: Output) -> None:
    """Tell how good a dataset version is: what was kept, expectations, drift, distributions.

    With --html or --open: the same as a page with pictures, complete in one file.
    """
    item = connect(stack).dataset(name)
    if html is None and not show:
        found = item.report(version)
        out.document(found)
        if not out.as_json:
            write_report(found, out)
        return
    page = item.report_page(version)
    if html is None:
        folder = Path(tempfile.mkdtemp(prefix="shoal-"))
        html = folder / "report.html"
    try:
        html.write_bytes(page)
    except OSError as error:
        raise BadRequest(
            f"{html} can't be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from error
    out.document({"file": str(html)})
    out.line(f"written to {html}")
    if show and not webbrowser.open(html.resolve().as_uri()):
        out.note("No browser could be opened; open the file yourself.")


@click.command()
@click.argument("name")
@click.option("--version", metavar="ID", help="A version; the latest when left out.")
@click.option("--download", type=click.Path(path_type=Path), metavar="DIR", help="Save the samples into a new folder.")
@common()
def quarantine(name: str, version: str | None, download: Path | None, stack: str | None, out: Output) -> None:
    """List the bad samples of a dataset version with the reason and what to do.

    With --download they are saved as files; mend them, and `shoal replay NAME DIR` makes a new version.
    """
    item = connect(stack).dataset(name)
    samples = item.quarantine(version)
    saved = [str(path) for path in item.save_quarantine(download, version)] if download else []
    out.document({"name": name, "samples": samples, "saved": saved})
    out.table(
        ("PLACE", "REASON", "WHY", "WHAT TO DO"),
        [[sample.get("place"), sample.get("code"), sample.get("reason"), sample.get("fix")] for sample in samples],
    )
    if not samples:
        out.line("No bad samples are kept.")
    elif download:
        out.line(f"saved to {download}: mend them, then: shoal replay {name} {download}")


@click.command()
@click.argument("name")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--version", metavar="ID", help="The version that is mended; the latest when left out.")
@click.option("--watch/--no-watch", default=True, help="Show the run until it ends (the default), or only start it.")
@common()
def replay(
    name: str, paths: tuple[Path, ...], version: str | None, watch: bool, stack: str | None, out: Output
) -> None:
    """Run a dataset version again with mended samples, or as it is.

    Each of PATHS (files, or folders of them) takes the place of the version's file of the same name, or is added: that
    makes a new version. Without PATHS the same files run again.
    """
    run = connect(stack).replay(name, *paths, version=version)
    out.line(f"run {run.id}, dataset {run.dataset}")
    if not watch:
        out.document(run.document)
        return
    if not out.as_json:
        follow(run, out)
        return
    try:
        run.wait()
    except RunFailed as error:
        run = error.run
    out.document(run.document)
    if run.status == "failed":
        sys.exit(1)


COMMANDS = (report, quarantine, replay)
