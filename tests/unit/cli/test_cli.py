import json
import sys

import click
import pytest
from click.testing import CliRunner

from shoal.cli import cli, main


def leaves(group, before=""):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = sorted(leaves(cli))
LOCAL_ONLY = {"up", "down", "doctor", "convert"}


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


@pytest.mark.parametrize(
    ("arguments", "reason", "fix"),
    [
        (["nonsense", "--json"], "No such command 'nonsense'", "shoal --help"),
        (["runs", "--json", "--nonsense"], "No such option '--nonsense'", "shoal runs --help"),
        (["token", "create", "x", "--json"], "Missing option '--scope'", "shoal token create --help"),
        (["token", "rotate", "x", "--grace-hours", "999", "--json"], "999 is not in the range", "shoal token rotate"),
        (["push", "--json"], "Missing argument", "shoal push --help"),
    ],
)
def test_wrong_usage_is_json_where_json_was_asked_for(arguments, reason, fix, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shoal", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    written = capsys.readouterr()
    error = json.loads(written.out)["error"]
    assert error["type"] == "UsageProblem"
    assert reason in error["reason"]
    assert fix in error["fix"]
    assert not written.err


def test_what_works_is_the_same_with_json(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shoal", "runs", "--help", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "Usage: shoal runs" in capsys.readouterr().out
