"""Which version serves whom, over HTTP: aliases, canaries, A/B splits, shadows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access_routes import sender
from shoal_core.aws.audit import Audit
from shoal_core.aws.canaries import Canaries, now_utc, statistics
from shoal_core.aws.handler import catalog
from shoal_core.aws.model_catalog import Change, Commit
from shoal_core.aws.table import Item
from shoal_core.aws.version_statistics import shadowed_since
from shoal_core.aws.warming import warm_up
from shoal_core.errors import BadRequest
from shoal_core.registry.openapi import answers
from shoal_core.registry.records import Traffic
from shoal_core.registry.routing import (
    CANARY,
    PRODUCTION,
    SHADOW,
    WHOLE,
    Aliases,
    Limits,
    Shadow,
    check_alias,
    require,
    retired,
    start_canary,
    start_split,
)
from shoal_core.registry.views import traffic_view

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
Details = Callable[[Aliases, Aliases], dict[str, Any]]
CHANGES: Any = answers(400, 404, 409, 503)
READS: Any = answers(404, 503)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AliasRequest(_Body):
    """Where an alias goes; `production` without a version goes back to what served before."""

    version: int | None = Field(default=None, ge=1, lt=10**9)


class AliasMoved(BaseModel):
    """Which version an alias pointed at, and which one now; None where there is none."""

    model: str
    alias: str
    before: int | None
    version: int | None


class CanaryRequest(_Body):
    """A version that takes over step by step, while its errors and its latency hold."""

    version: int = Field(ge=1, lt=10**9)
    steps: list[float] = Field(default=[5, 25, 50, 100], description="percent of the requests, growing to 100")
    every_seconds: int = Field(default=300, description="how long each step lasts at least")
    max_errors: float = Field(default=0.01, description="largest share of its requests that may fail")
    max_latency_ms: float | None = Field(default=None, description="largest mean time of an answer")
    max_slowdown: float = Field(default=2.0, description="times the mean time of the version in production")
    min_requests: int = Field(default=20, description="requests that a step needs before it is judged")


class SplitRequest(_Body):
    """Versions that share the requests, by weight; a request's key always meets the same one."""

    weights: dict[str, float] = Field(description="weight by version")


class ShadowRequest(_Body):
    """A version that is asked, too, and whose answers are compared and not returned."""

    version: int = Field(ge=1, lt=10**9)
    percent: float = Field(default=100, gt=0, le=100)


@router.post("/models/<name>/aliases/<alias>", summary="Point an alias at a version", responses=CHANGES)
def post_alias(name: str, alias: str, body: AliasRequest) -> AliasMoved:
    """Move an alias; every new request has the version within seconds."""
    check_alias(alias)
    if alias == PRODUCTION:
        return _move_production(name, body.version)
    if body.version is None:
        raise BadRequest(f"The alias {alias!r} needs a version.", "Give its number.")
    version = body.version
    catalog().aliases(name)
    catalog().require_version(name, version)
    commit = _moved(name, alias)
    before, _ = catalog().change_aliases(name, lambda aliases: aliases.with_named(alias, version), commit)
    return AliasMoved(model=name, alias=alias, before=before.version_of(alias), version=version)


@router.delete("/models/<name>/aliases/<alias>", summary="Remove an alias", responses=CHANGES)
def delete_alias(name: str, alias: str) -> AliasMoved:
    """Remove an alias; the version stays."""
    check_alias(alias)
    if alias == PRODUCTION:
        raise BadRequest("The alias 'production' can't be removed.", "Point it at another version.")
    known = require(catalog().aliases(name), name, alias)
    catalog().change_aliases(name, lambda aliases: aliases.with_named(alias, None), _moved(name, alias))
    return AliasMoved(model=name, alias=alias, before=known, version=None)


def _move_production(name: str, version: int | None) -> AliasMoved:
    if version is not None and version != catalog().aliases(name).production:
        catalog().require_version(name, version)
        warm_up(name, version)
    # Going back isn't held up by a warm-up: that version has served, and the one that serves may be failing.
    before, after = catalog().move_production(name, version, _moved(name, PRODUCTION))
    return AliasMoved(model=name, alias=PRODUCTION, before=before, version=after)


def _audited(action: str, subject: str, details: Details) -> Commit:
    """Writes a change with its entry of the audit record in one transaction, so that neither is there alone."""

    def commit(before: Aliases, after: Aliases, updates: Sequence[Item]) -> bool:
        return Audit().record_with(updates, action, subject, *sender(router), details(before, after))

    return commit


def _moved(name: str, alias: str) -> Commit:
    """Writes a moved alias with its entry, which tells also what it ended."""

    def details(before: Aliases, after: Aliases) -> dict[str, Any]:
        version = retired(before, after) if alias == PRODUCTION else before.version_of(alias)
        told: dict[str, Any] = {"before": version, "version": after.version_of(alias)}
        if before.canary is not None and after.canary is None:
            told["canary_ended"] = before.canary.version
        if before.targets and not after.targets:
            told["ab_ended"] = [target.version for target in before.targets]
        return told

    return _audited("alias.moved", f"{name}/{alias}", details)


def _changed(name: str, change: Change, action: str, details: Details) -> Traffic:
    """A model's traffic after an audited change of its canary, split or shadow."""
    commit = _audited(action, f"{name}/{action.partition('.')[0]}", details)
    return traffic_view(name, catalog().change_aliases(name, change, commit)[1])


@router.post("/models/<name>/canary", summary="Let a version take over step by step", responses=CHANGES)
def post_canary(name: str, body: CanaryRequest) -> Traffic:
    """Start a canary."""
    limits = Limits(body.max_errors, body.max_latency_ms, body.max_slowdown, body.min_requests)
    moment = now_utc().isoformat(timespec="milliseconds")

    def change(aliases: Aliases) -> Aliases:
        return start_canary(aliases, body.version, body.steps, body.every_seconds, limits, moment)

    change(catalog().aliases(name))  # what is wrong with it is told before anything is warmed up
    catalog().require_version(name, body.version)
    warm_up(name, body.version)
    traffic = _changed(name, change, "canary.started", lambda *_: body.model_dump(mode="json"))
    Canaries(catalog()).wake()
    return traffic


@router.delete("/models/<name>/canary", summary="End a canary: its requests go to production", responses=CHANGES)
def delete_canary(name: str) -> Traffic:
    """Stop a canary."""
    return _changed(
        name,
        lambda aliases: dataclasses.replace(aliases, canary=None),
        "canary.stopped",
        lambda before, _: {"version": before.version_of(CANARY)},
    )


@router.post("/models/<name>/ab", summary="Split the requests between versions", responses=CHANGES)
def post_split(name: str, body: SplitRequest) -> Traffic:
    """Start an A/B split, or change its weights."""
    if not all(version.isascii() and version.isdigit() and len(version) < 10 for version in body.weights):
        raise BadRequest("A version of the A/B split isn't a whole number.", 'Send {"weights": {"1": 50, "2": 50}}.')
    weights = {int(version): weight for version, weight in body.weights.items()}
    aliases = catalog().aliases(name)
    start_split(aliases, weights)
    for version in sorted(weights):
        catalog().require_version(name, version)
        if version != aliases.production:
            warm_up(name, version)
    details = {"weights": {str(key): weights[key] for key in sorted(weights)}}
    return _changed(name, lambda now: start_split(now, weights), "ab.started", lambda *_: details)


@router.delete("/models/<name>/ab", summary="End an A/B split: all requests go to production", responses=CHANGES)
def delete_split(name: str) -> Traffic:
    """Stop an A/B split."""
    return _changed(name, lambda aliases: dataclasses.replace(aliases, targets=()), "ab.stopped", lambda *_: {})


@router.post("/models/<name>/shadow", summary="Ask a version too, and compare its answers", responses=CHANGES)
def post_shadow(name: str, body: ShadowRequest) -> Traffic:
    """Start a shadow."""
    catalog().aliases(name)
    catalog().require_version(name, body.version)
    warm_up(name, body.version)
    weight = max(1, round(body.percent * WHOLE / 100))
    shadow = Shadow(body.version, weight, now_utc().isoformat(timespec="milliseconds"))
    details = body.model_dump(mode="json")
    return _changed(name, lambda now: dataclasses.replace(now, shadow=shadow), "shadow.started", lambda *_: details)


@router.delete("/models/<name>/shadow", summary="End a shadow", responses=CHANGES)
def delete_shadow(name: str) -> Traffic:
    """Stop a shadow."""
    return _changed(
        name,
        lambda aliases: dataclasses.replace(aliases, shadow=None),
        "shadow.stopped",
        lambda before, _: {"version": before.version_of(SHADOW)},
    )


@router.get("/models/<name>/traffic", summary="Who answers what share, and how that goes", responses=READS)
def get_traffic(name: str) -> Traffic:
    """Show a model's traffic with what was measured."""
    aliases, moment = catalog().aliases(name), now_utc()
    measured = statistics(name, aliases, moment)
    if aliases.shadow is not None:
        since = moment.fromisoformat(aliases.shadow.started_at)
        measured["shadow"] = shadowed_since(name, aliases.shadow.version, since, moment)
    return traffic_view(name, aliases, measured)
