"""Commands about which version serves whom: rollback, alias, canary, ab, shadow, traffic, card."""

from __future__ import annotations

import math
import re
import webbrowser
from pathlib import Path
from typing import Any

import click

from shoal.cli.output import Output, common, number
from shoal.client import connect
from shoal.errors import BadRequest

_SPAN = re.compile(r"([1-9]\d*)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")


@click.command()
@click.argument("model")
@click.option("--to", "version", type=click.IntRange(1), help="The version to serve; the one before when left out.")
@common()
def rollback(model: str, version: int | None, stack: str | None, out: Output) -> None:
    """Serve another version of MODEL, at once and without a deployment.

    Without --to it ends a canary or an A/B split; where there is none, the version that served before serves again.
    """
    moved = connect(stack).model(model).serve(version)
    out.document(moved)
    out.line(f"{model}: version {moved['version']} serves; it was {moved['before']}.")


@click.group()
def alias() -> None:
    """Aliases of versions: set, remove."""


@alias.command("set")
@click.argument("model")
@click.argument("alias_name", metavar="ALIAS")
@click.argument("version", type=click.IntRange(1))
@common()
def alias_set(model: str, alias_name: str, version: int, stack: str | None, out: Output) -> None:
    """Point ALIAS of MODEL at VERSION. `production` is what the endpoint serves."""
    moved = connect(stack).model(model).set_alias(alias_name, version)
    out.document(moved)
    before = "it was new" if moved["before"] is None else f"it was {moved['before']}"
    out.line(f"{model}: {alias_name} is version {moved['version']}; {before}.")


@alias.command("remove")
@click.argument("model")
@click.argument("alias_name", metavar="ALIAS")
@common()
def alias_remove(model: str, alias_name: str, stack: str | None, out: Output) -> None:
    """Remove ALIAS of MODEL; the version stays."""
    moved = connect(stack).model(model).remove_alias(alias_name)
    out.document(moved)
    out.line(f"{model}: {alias_name} is gone; it was version {moved['before']}.")


@click.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--steps", default="5,25,50,100", show_default=True, help="Percent of the requests, growing to 100.")
@click.option("--every", default="5m", show_default=True, help="How long a step lasts at least, such as 30s, 5m, 1h.")
@click.option("--max-errors", default="1%", show_default=True, help="Largest share of its requests that may fail.")
@click.option("--max-latency", help="Largest mean time of an answer, such as 200ms.")
@click.option("--max-slowdown", type=float, default=2.0, show_default=True, help="Times production's mean time.")
@click.option("--min-requests", type=int, default=20, show_default=True, help="Requests before a step is judged.")
@click.option("--stop", is_flag=True, help="End the canary: all requests go to production.")
@common()
def canary(
    model: str,
    version: int | None,
    steps: str,
    every: str,
    max_errors: str,
    max_latency: str | None,
    max_slowdown: float,
    min_requests: int,
    stop: bool,
    stack: str | None,
    out: Output,
) -> None:
    """Let VERSION of MODEL take over step by step; it is taken back when errors or latency don't hold."""
    found = connect(stack).model(model)
    if stop:
        _show(found.stop_canary(), out)
        return
    traffic = found.canary(
        _required(version),
        steps=[_percent(step) for step in steps.split(",")],
        every=_seconds(every),
        max_errors=_percent(max_errors) / 100,
        max_latency_ms=_milliseconds(max_latency) if max_latency else None,
        max_slowdown=max_slowdown,
        min_requests=min_requests,
    )
    _show(traffic, out)


@click.command()
@click.argument("model")
@click.argument("versions", type=click.IntRange(1), nargs=-1)
@click.option("--weights", help="A weight for each version, such as 50,50; equal when left out.")
@click.option("--stop", is_flag=True, help="End the split: all requests go to production.")
@common()
def ab(model: str, versions: tuple[int, ...], weights: str | None, stop: bool, stack: str | None, out: Output) -> None:
    """Split MODEL's requests between VERSIONS; a key (header Shoal-Key) always meets the same one."""
    found = connect(stack).model(model)
    if stop:
        _show(found.stop_ab(), out)
        return
    shares = [_percent(weight) for weight in weights.split(",")] if weights else [1.0] * len(versions)
    if len(shares) != len(versions) or len(set(versions)) != len(versions):
        raise BadRequest(f"{len(versions)} versions and {len(shares)} weights don't go together.", "Give one for each.")
    _show(found.ab(dict(zip(versions, shares, strict=True))), out)


@click.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--percent", type=float, default=100.0, show_default=True, help="Of how many requests it gets a copy.")
@click.option("--stop", is_flag=True, help="End the shadow.")
@common()
def shadow(model: str, version: int | None, percent: float, stop: bool, stack: str | None, out: Output) -> None:
    """Ask VERSION of MODEL too: its answers are compared and not returned."""
    found = connect(stack).model(model)
    _show(found.stop_shadow() if stop else found.shadow(_required(version), percent=percent), out)


@click.command()
@click.argument("model")
@common()
def traffic(model: str, stack: str | None, out: Output) -> None:
    """Show who answers what share of MODEL's requests, and how that goes."""
    _show(connect(stack).model(model).traffic(), out)


@click.command()
@click.argument("model", metavar="MODEL[@VERSION]")
@click.option("--html", type=click.Path(path_type=Path), help="Write the card as a page to this file.")
@click.option("--open", "show", is_flag=True, help="Show the card as a page in the browser.")
@common()
def card(model: str, html: Path | None, show: bool, stack: str | None, out: Output) -> None:
    """Show the card of MODEL[@VERSION]: what it is for, what it was made of, how good it is."""
    name, _, wanted = model.partition("@")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise BadRequest(f"{wanted!r} isn't a version.", "Write MODEL@NUMBER.")
    found, version = connect(stack).model(name), int(wanted) if wanted else None
    out.document(found.card(version))
    if html is None and show:
        html = Path(f"{name}-card.html")
    if html is None:
        if not out.as_json:
            out.line(found.card_markdown(version).rstrip())
        return
    html.write_bytes(found.card_page(version))
    out.line(f"Wrote {html}")
    if show and not webbrowser.open(html.resolve().as_uri()):
        out.note("No browser could be opened; open the file yourself.")


def _show(found: dict[str, Any], out: Output) -> None:
    """A model's traffic, as a table of versions and a line for what is under way."""
    out.document(found)
    names = {version: [name for name, number_ in found["aliases"].items() if number_ == version]
             for version in found["aliases"].values()}  # fmt: skip
    shares = {entry["version"]: entry["percent"] for entry in found["shares"]}
    measured = found.get("measured") or {}
    of_version = {found["production"]: measured.get("production")}
    if found.get("canary"):
        of_version[found["canary"]["version"]] = measured.get("canary")
    rows = []
    for version in sorted({*names, *shares}):
        seen = of_version.get(version) or {}
        share = f"{shares.get(version, 0.0):g} %"
        told = (number(seen.get("requests")), number(seen.get("errors")), number(seen.get("mean_ms"), 2))
        rows.append((version, ", ".join(names.get(version, [])), share, *told))
    columns = ("VERSION", "ALIASES", "SHARE", "REQUESTS", "ERRORS", "MEAN MS")
    out.table(columns, rows, right=("VERSION", "SHARE", "REQUESTS", "ERRORS", "MEAN MS"))
    _explain(found, measured, out)


def _explain(found: dict[str, Any], measured: dict[str, Any], out: Output) -> None:
    state = found.get("canary")
    if state:
        steps = ", ".join(f"{step:g}" for step in state["steps"])
        out.line(
            f"Canary: version {state['version']} at {state['percent']:g} %, step {state['step']} of {steps} %, each "
            f"for {state['every_seconds']} s at least; at most {state['max_errors']:.2%} errors."
        )
    seen = measured.get("shadow")
    if found.get("shadow"):
        state = found["shadow"]
        agrees = seen and seen.get("agreement") is not None
        told = f": {seen['agreement']:.2%} agree of {seen['requests']:,} requests" if seen and agrees else ""
        out.line(f"Shadow: version {state['version']} for {state['percent']:g} % of the requests{told}.")
    if found.get("split"):
        out.line("A/B split: a request's key decides; send it as the header Shoal-Key.")


def _required(version: int | None) -> int:
    if version is None:
        raise BadRequest("A version is missing.", "Name its number, or end what is under way with --stop.")
    return version


def _percent(text: str) -> float:
    try:
        number_ = float(text.strip().removesuffix("%"))
    except ValueError:
        number_ = math.nan
    if not math.isfinite(number_):
        raise BadRequest(f"{text!r} isn't a percentage.", "Write a number, such as 5 or 0.5%.")
    return number_


def _seconds(text: str) -> int:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"{text!r} isn't a span of time.", "Write 30s, 5m, 1h or 1d.")
    return int(found[1]) * _SECONDS[found[2]]


def _milliseconds(text: str) -> float:
    found = _MILLISECONDS.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"{text!r} isn't a latency.", "Write 200ms or 1s.")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


COMMANDS = (rollback, alias, canary, ab, shadow, traffic, card)
