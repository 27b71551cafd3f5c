"""Commands about who may use the API, and who changed what: token, audit."""

from __future__ import annotations

import dataclasses
import sys

import click

from shoal._access import Access, verify_chain
from shoal.cli.output import FAILED, Output, common
from shoal.client import connect


@click.group()
def token() -> None:
    """Tokens of the HTTP API: create, list, revoke."""


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
@click.option("--per-minute", type=int, help="Requests per minute that it may make.")
@click.option("--per-day", type=int, help="Requests per day (UTC) that it may make.")
@common()
def create(
    name: str,
    scopes: tuple[str, ...],
    days: int | None,
    per_minute: int | None,
    per_day: int | None,
    stack: str | None,
    out: Output,
) -> None:
    """Make a token called NAME. Its text is shown this once; only a hash of it is kept."""
    made = _access(stack).create_token(name, scopes, days=days, per_minute=per_minute, per_day=per_day)
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
            entry.get("per_minute"),
            entry.get("per_day"),
            "revoked" if entry.get("revoked_at") else "active",
        )
        for entry in found
    ]
    out.table(("ID", "NAME", "SCOPES", "EXPIRES", "PER MINUTE", "PER DAY", "STATUS"), rows)
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


COMMANDS = (token, audit)
