"""Commands about who may use the API, how often, and who changed what: token, plan, audit."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import click

from shoal._access import Access, verify_chain
from shoal.cli.output import FAILED, Output, common
from shoal.client import connect


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of limits."""
    for span in ("month", "day", "minute"):
        help_ = f"Requests per {span}{'' if span == 'minute' else ' (UTC)'} that a token may make."
        command = click.option(f"--per-{span}", type=int, help=help_)(command)
    return command


@click.group()
def token() -> None:
    """Tokens of the HTTP API: create, list, rotate, revoke."""


@token.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    help="admin, read, data:write, predict:MODEL or predict:*; may be given several times.",
)
@click.option("--days", type=int, help="After how many days it expires; never when left out.")
@click.option("--plan", help="The usage plan whose limits it has.")
@limited
@common()
def create(
    name: str,
    scopes: tuple[str, ...],
    days: int | None,
    plan: str | None,
    per_minute: int | None,
    per_day: int | None,
    per_month: int | None,
    stack: str | None,
    out: Output,
) -> None:
    """Make a token called NAME. Its text is shown this once; only a hash of it is kept."""
    made = _access(stack).create_token(
        name, scopes, days=days, plan=plan, per_minute=per_minute, per_day=per_day, per_month=per_month
    )
    _show_token(made, out)


@token.command("rotate")
@click.argument("token_id", metavar="ID")
@click.option(
    "--grace-hours",
    type=click.IntRange(0, 168),
    default=24,
    show_default=True,
    help="How long the secret before is accepted, too.",
)
@common()
def rotate(token_id: str, grace_hours: int, stack: str | None, out: Output) -> None:
    """Give the token ID a new secret. The token is shown this once; the one before works for the grace time."""
    _show_token(_access(stack).rotate_token(token_id, grace_hours), out)


def _show_token(made: dict[str, Any], out: Output) -> None:
    out.document(made)
    out.line(str(made["token"]), style="bold")
    until = f", until {made['expires_at']}" if made.get("expires_at") else ""
    out.line(f"Token {made['id']} may: {', '.join(made['scopes'])}{until}. It isn't shown again.")


@token.command("list")
@common()
def list_tokens(stack: str | None, out: Output) -> None:
    """List tokens, without their secrets."""
    found = _access(stack).tokens()
    out.document({"tokens": found})
    rows = [
        (
            entry["id"],
            entry["name"],
            ", ".join(entry["scopes"]),
            entry.get("expires_at") or "never",
            entry.get("plan"),
            entry.get("per_minute"),
            entry.get("per_day"),
            entry.get("per_month"),
            "revoked" if entry.get("revoked_at") else "active",
        )
        for entry in found
    ]
    out.table(("ID", "NAME", "SCOPES", "EXPIRES", "PLAN", "PER MINUTE", "PER DAY", "PER MONTH", "STATUS"), rows)
    if not found:
        out.line("No tokens but the stack's own; make one with: shoal token create NAME --scope SCOPE")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@common()
def revoke(token_id: str, stack: str | None, out: Output) -> None:
    """Revoke the token ID; within a minute nothing accepts it."""
    revoked = _access(stack).revoke_token(token_id)
    out.document(revoked)
    out.line(f"Token {revoked['id']} ({revoked['name']}) is revoked.")


@click.group()
def plan() -> None:
    """Usage plans, limits that tokens share: set, list."""


@plan.command("set")
@click.argument("name")
@limited
@common()
def set_plan(
    name: str,
    per_minute: int | None,
    per_day: int | None,
    per_month: int | None,
    stack: str | None,
    out: Output,
) -> None:
    """Make the plan NAME, or change it: each of its tokens may make so many requests."""
    made = _access(stack).set_plan(name, per_minute=per_minute, per_day=per_day, per_month=per_month)
    out.document(made)
    out.line(f"Plan {made['name']} is set; its tokens have these limits within a minute.")


@plan.command("list")
@common()
def list_plans(stack: str | None, out: Output) -> None:
    """List usage plans."""
    found = _access(stack).plans()
    out.document({"plans": found})
    rows = [(entry["name"], *(entry.get(limit) for limit in ("per_minute", "per_day", "per_month"))) for entry in found]
    out.table(("NAME", "PER MINUTE", "PER DAY", "PER MONTH"), rows)


@click.command()
@click.option("--verify", is_flag=True, help="Check the chain of hashes here, entry by entry.")
@common()
def audit(verify: bool, stack: str | None, out: Output) -> None:
    """Show who changed what, when and from where."""
    entries = list(_access(stack).audit())
    if verify:
        check = verify_chain(entries)
        out.document(dataclasses.asdict(check))
        if check.valid:
            out.line(f"{check.entries:,} entries, all whole. Newest hash: {check.head}")
            return
        out.line(f"The audit record is broken: {check.reason}.", style="bold red")
        sys.exit(FAILED)
    out.document({"entries": entries})
    rows = [
        (entry["number"], entry["at"], entry["who"], entry["action"], entry["subject"], entry.get("source"))
        for entry in entries
    ]
    out.table(("NUMBER", "AT", "WHO", "ACTION", "SUBJECT", "FROM"), rows, right=("NUMBER",))


def _access(stack: str | None) -> Access:
    return Access(connect(stack).connection)


COMMANDS = (token, plan, audit)
