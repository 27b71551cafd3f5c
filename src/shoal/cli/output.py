"""What every command shares: options, output for people and machines, errors and exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shoal.errors import BadRequest, ConnectionFailed, NotAuthorised, NotFound

FAILED = 1
USAGE = 2
UNREACHABLE = 3
PIPE_COLUMNS = 100_000
JSON_OPTION = "--json"
INTERRUPTED = 130  # 128 + SIGINT, as shells count: `shoal push … && next` must not go on


class UsageProblem(Exception):
    """A command line that isn't one, in the form of our own errors."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Output:
    """Where a command writes: text for people, or one JSON document for machines.

    Args:
        as_json: Whether `--json` was given.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)

    def document(self, value: object) -> None:
        """Write the machine's form; nothing for people."""
        if self.as_json:
            click.echo(json.dumps(value, sort_keys=True))

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line for people; nothing for machines."""
        if not self.as_json:
            # Wrapped by the terminal, not by us: a line to paste has to stay one.
            self.console.print(Text(text, style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Write a remark to stderr, for people even where stdout goes to a machine."""
        click.echo(text, err=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
        """Write a table for people.

        Args:
            columns: Headings.
            rows: Cells; None is shown as a dash.
            right: Headings of the columns aligned to the right.
        """
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            # Off a terminal nothing is folded or cut: a script may read it.
            table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text("-" if cell is None or cell == "" else str(cell)) for cell in row))
        if self.console.is_terminal:
            self.console.print(table)
        else:
            Console(file=sys.stdout, highlight=False, width=PIPE_COLUMNS).print(table)

    def error(self, error: Exception) -> None:
        """Write an error: its reason and, on a second line, its fix."""
        reason, fix = str(getattr(error, "reason", error)), str(getattr(error, "fix", ""))
        if self.as_json:
            click.echo(json.dumps({"error": {"type": type(error).__name__, "reason": reason, "fix": fix}}))
            return
        click.echo(f"Error: {reason}", err=True)
        if fix:
            click.echo(f"Fix: {fix}", err=True)


def exit_code(error: Exception) -> int:
    """The exit status for an error."""
    if isinstance(error, ConnectionFailed | NotAuthorised):
        return UNREACHABLE
    return USAGE if isinstance(error, BadRequest | NotFound) else FAILED


def common(*, stack: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--json` and `--stack`, an `Output` named `out`, and errors without tracebacks.

    Args:
        stack: False for commands that are only about the embedded cloud.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click's own calling convention
            out = Output(as_json)
            try:
                function(*args, out=out, **options)
            except Exception as error:
                # Shoal's errors of every layer say reason and fix; anything else is a bug, and its traceback helps.
                if not hasattr(error, "reason") or not hasattr(error, "fix"):
                    raise
                out.error(error)
                sys.exit(exit_code(error))

        decorated = click.option(JSON_OPTION, "as_json", is_flag=True, help="Write JSON to stdout instead of text.")(
            run
        )
        if not stack:
            return decorated
        help_ = "A CloudFormation stack on AWS; the embedded cloud when left out."
        return click.option("--stack", metavar="NAME", envvar="SHOAL_STACK", show_envvar=True, help=help_)(decorated)

    return decorate


def number(value: object, digits: int = 4) -> str | None:
    """A number for a table; None stays None."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else None


def headline(metrics: Mapping[str, Any] | None) -> str | None:
    """The one metric that a table has room for: accuracy, F1 of all labels, the root mean squared error, or of
    anomalies the area under the ROC curve, without labels the loss.
    """
    for name in ("accuracy", "micro_f1", "rmse", "roc_auc", "loss"):
        if metrics and metrics.get(name) is not None:
            return f"{name} {metrics[name]:.4f}"
    return None
