"""The `shoal` command. Exit status: 0 fine, 1 something failed, 2 wrong usage, 3 the cloud can't be reached."""

from __future__ import annotations

import click

from shoal.cli import access, cloud, data, model, quality


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shoal", prog_name="shoal")
def cli() -> None:
    """Drop a dataset into S3, get back a trained, tested and served model.

    Commands talk to the embedded cloud of this folder (`shoal up`), or with --stack NAME to one on AWS.
    """


for command in (*cloud.COMMANDS, *data.COMMANDS, *quality.COMMANDS, *model.COMMANDS, *access.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `shoal` script."""
    cli(prog_name="shoal")
