"""The `shoal` command. Exit status: 0 fine, 1 something failed, 2 wrong usage, 3 the cloud can't be reached."""

from __future__ import annotations

import sys

import click

from shoal.cli import access, batch, cloud, data, importing, lifecycle, model, quality, stream, training, tuning
from shoal.cli.output import INTERRUPTED, JSON_OPTION, Output, UsageProblem


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shoal", prog_name="shoal")
def cli() -> None:
    """Drop a dataset into S3, get back a trained, tested and served model.

    Commands talk to the embedded cloud of this folder (`shoal up`), or with --stack NAME to one on AWS.
    """


for command in (
    *cloud.COMMANDS,
    *data.COMMANDS,
    *training.COMMANDS,
    *tuning.COMMANDS,
    *quality.COMMANDS,
    *model.COMMANDS,
    *lifecycle.COMMANDS,
    *importing.COMMANDS,
    *batch.COMMANDS,
    *stream.COMMANDS,
    *access.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `shoal` script. With `--json`, wrong usage is told as JSON, too."""
    if JSON_OPTION not in sys.argv[1:]:
        cli(prog_name="shoal")
        return
    try:
        status = cli(prog_name="shoal", standalone_mode=False)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        where = context.command_path if context else "shoal"
        Output(as_json=True).error(UsageProblem(error.format_message(), f"See `{where} --help`."))
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
