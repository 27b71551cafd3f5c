import click
import pytest
from click.testing import CliRunner

from shoal.cli import cli

COMMANDS = sorted(
    (name if leaf is command else f"{name} {leaf.name}", leaf)
    for name, command in cli.commands.items()
    for leaf in (command.commands.values() if isinstance(command, click.Group) else [command])
)
LOCAL_ONLY = {"up", "down", "doctor"}


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_and_option_has_help(name, command):
    assert command.help and command.help.strip().endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
        else:
            shown = parameter.metavar or parameter.name.upper()
            assert shown in command.help or shown in ("RUN", "NAME", "FILE|JSON|-..."), shown


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_speaks_json_and_knows_stacks(name, command):
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert ("--stack" in options) is (name not in LOCAL_ONLY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *[[*name.split(), "--help"] for name, _ in COMMANDS]])
def test_help_is_shown(arguments):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0 and result.output


def test_wrong_usage_is_two():
    assert CliRunner().invoke(cli, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(cli, ["push"]).exit_code == 2
    assert CliRunner().invoke(cli, ["push", "x.zip", "--workers", "41"]).exit_code == 2
