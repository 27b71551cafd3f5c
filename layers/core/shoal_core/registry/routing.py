"""Which version of a model answers which request: production, a canary, an A/B split, a shadow, aliases by name.

A request has a key: what its sender gives (`Shoal-Key`), or its own id. A hash of the key is its *place*, one of
10,000; targets own ranges of places. So a key always meets the same version, every worker decides alike without asking
anybody, and a canary that grows keeps those it has.

Only the standard library is used here: predict reads this at every cold start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal_core.errors import BadRequest, NotFound

WHOLE = 10_000
"""All places; a weight of 1 is a hundredth of a percent."""
PRODUCTION = "production"
CANDIDATE = "candidate"
CANARY = "canary"
SHADOW = "shadow"
MAX_NAMED = 50
"""Aliases set by name; `candidate`, which Shoal sets itself, isn't counted."""
MAX_TARGETS = 10
MAX_STEPS = 20
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_OWN_COMMANDS = (CANARY, SHADOW)


@dataclass(frozen=True)
class Limits:
    """What a canary must hold to go on.

    Attributes:
        max_errors: Largest share of its requests that may fail by its own fault.
        max_latency_ms: Largest mean time of an answer; None is no limit of its own.
        max_slowdown: How many times the production version's mean time it may take.
        min_requests: How many requests a step needs before anything is concluded from it.
    """

    max_errors: float = 0.01
    max_latency_ms: float | None = None
    max_slowdown: float = 2.0
    min_requests: int = 20


@dataclass(frozen=True)
class Canary:
    """A version that takes over step by step.

    Attributes:
        version: The version.
        steps: Its weights, growing; the last is `WHOLE`.
        every: Seconds that each step lasts at least.
        limits: What it must hold.
        step: Where it is, an index of `steps`.
        started_at: When it began, ISO 8601 in UTC.
        step_at: When this step began.
    """

    version: int
    steps: tuple[int, ...]
    every: int
    limits: Limits
    started_at: str
    step_at: str
    step: int = 0

    @property
    def weight(self) -> int:
        """Its places now."""
        return self.steps[self.step]


@dataclass(frozen=True)
class Target:
    """A version of an A/B split, and how many places it owns."""

    version: int
    weight: int


@dataclass(frozen=True)
class Shadow:
    """A version that is asked, too, for so many places, and whose answers are compared and not returned."""

    version: int
    weight: int = WHOLE
    started_at: str = ""


@dataclass(frozen=True)
class Aliases:
    """All aliases of a model at one moment.

    Attributes:
        production: The version that serves where nothing else is said.
        revision: How often aliases were changed: every change is made on the revision that was seen.
        served_before: The version that was in production before, for a rollback.
        named: Further aliases (`candidate` among them).
        canary: The canary that is under way.
        targets: The A/B split that is under way; empty is none. Never together with a canary.
        shadow: The shadow.
    """

    production: int
    revision: int = 0
    served_before: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    canary: Canary | None = None
    targets: tuple[Target, ...] = ()
    shadow: Shadow | None = None

    def choose(self, model: str, key: str) -> int:
        """The version that answers a request with this key."""
        if self.canary is not None:
            place = place_of(f"{model}/{self.production}/{self.canary.version}", key)
            return self.canary.version if place < self.canary.weight else self.production
        if self.targets:
            place = place_of(model + "".join(f"/{target.version}" for target in self.targets), key)
            for target in self.targets:
                if place < target.weight:
                    return target.version
                place -= target.weight
        return self.production

    def shadowed(self, model: str, key: str) -> int | None:
        """The version that a request is also sent to; None for none."""
        if self.shadow is None or place_of(f"{model}/shadow/{self.shadow.version}", key) >= self.shadow.weight:
            return None
        return self.shadow.version

    def version_of(self, alias: str) -> int | None:
        """The version that an alias points at; None where there is no such alias."""
        own = {
            PRODUCTION: self.production,
            CANARY: self.canary.version if self.canary else None,
            SHADOW: self.shadow.version if self.shadow else None,
        }
        return own[alias] if alias in own else self.named.get(alias)

    def all(self) -> dict[str, int]:
        """Every alias that points somewhere."""
        names = [PRODUCTION, CANARY, SHADOW, *sorted(self.named)]
        found = ((name, self.version_of(name)) for name in names)
        return {name: version for name, version in found if version is not None}

    def with_named(self, alias: str, version: int | None) -> Aliases:
        """The same with one further alias set, or None: without it. Raises `BadRequest` for one too many."""
        others = len(set(self.named) - {CANDIDATE})
        if version is not None and alias not in {*self.named, CANDIDATE} and others >= MAX_NAMED:
            raise BadRequest(
                f"The model has {others} aliases, so {alias!r} is one too many.",
                "Remove one first: `shoal alias remove MODEL ALIAS`.",
            )
        named = {name: known for name, known in self.named.items() if name != alias}
        if version is not None:
            named[alias] = version
        return dataclasses.replace(self, named=named)

    def with_production(self, version: int) -> Aliases:
        """The same with another version in production, and whatever split the traffic ended."""
        named = {name: known for name, known in self.named.items() if (name, known) != (CANDIDATE, version)}
        before = self.production if version != self.production else self.served_before
        return dataclasses.replace(self, production=version, served_before=before, named=named, canary=None, targets=())

    def document(self) -> str:
        """What the catalog keeps of it beside `production` and `served_before`: canonical JSON."""
        value: dict[str, Any] = {"named": dict(self.named)}
        if self.canary is not None:
            value["canary"] = dataclasses.asdict(self.canary)
        if self.targets:
            value["targets"] = [dataclasses.asdict(target) for target in self.targets]
        if self.shadow is not None:
            value["shadow"] = dataclasses.asdict(self.shadow)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def retired(before: Aliases, after: Aliases) -> int:
    """The version that a change took out of service: a canary that it ended, or else the one in production before."""
    return before.canary.version if before.canary and before.production == after.production else before.production


def read_aliases(item: Mapping[str, Any]) -> Aliases:
    """Aliases from the catalog's record of a model, which has `production`."""
    value = json.loads(item.get("aliases", "{}"))
    canary = value.get("canary")
    if canary is not None:
        limits = Limits(**canary.pop("limits"))
        canary = Canary(**{**canary, "steps": tuple(canary["steps"]), "limits": limits})
    shadow = value.get("shadow")
    return Aliases(
        production=int(item["production"]),
        revision=int(item.get("revision", 0)),
        served_before=item.get("served_before"),
        named=value.get("named", {}),
        canary=canary,
        targets=tuple(Target(**target) for target in value.get("targets", ())),
        shadow=Shadow(**shadow) if shadow else None,
    )


def place_of(salt: str, key: str) -> int:
    """A key's place among `WHOLE`, evenly spread, and another one for another salt."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * WHOLE >> 64


def percent(weight: int) -> float:
    """A weight as the percentage that people read."""
    return weight * 100 / WHOLE


def check_alias(alias: str) -> str:
    """The alias itself, if it may be set by name. Raises `BadRequest`."""
    if not _NAME.fullmatch(alias):
        raise BadRequest(
            f"The alias {alias[:80]!r} isn't allowed.",
            "Use 1 to 32 lower-case letters, digits or '-', beginning with a letter.",
        )
    if alias in _OWN_COMMANDS:
        raise BadRequest(f"The alias {alias!r} isn't set by name.", f"Start one: `shoal {alias} MODEL VERSION`.")
    return alias


def start_canary(
    aliases: Aliases, version: int, percents: Sequence[float], every: int, limits: Limits, moment: str
) -> Aliases:
    """The same with a canary that begins now.

    Args:
        aliases: What holds now.
        version: The version that is to take over.
        percents: Its share of the requests, step by step, growing to 100.
        every: Seconds that each step lasts at least.
        limits: What it must hold.
        moment: Now, ISO 8601 in UTC.

    Raises:
        BadRequest: The version is in production, another experiment is under way, or a setting is out of bounds.
    """
    _check_free(aliases, f"version {version}")
    if version == aliases.production:
        raise BadRequest(f"Version {version} is in production already.", "Name another version.")
    steps = tuple(round(percent * WHOLE / 100) for percent in percents if 0 < percent <= 100)
    grows = all(left < right for left, right in zip((0, *steps), steps, strict=False))
    if not 0 < len(percents) == len(steps) <= MAX_STEPS or not grows or steps[-1] != WHOLE:
        raise BadRequest(
            f"The steps {', '.join(f'{percent:g}' for percent in percents)} can't be used.",
            f"Give at most {MAX_STEPS} growing percentages that end in 100, such as 5,25,50,100.",
        )
    if not 1 <= every <= 7 * 86_400:
        raise BadRequest(f"A step of {every} s can't be used.", "Use 1 second to 7 days.")
    shares = (
        0 <= limits.max_errors < 1 and 1 <= limits.max_slowdown < math.inf and 0 <= limits.min_requests <= 1_000_000
    )
    if not shares or (limits.max_latency_ms is not None and not 0 < limits.max_latency_ms < math.inf):
        raise BadRequest(
            "A limit is out of bounds.",
            "Use 0 to below 100 % errors, a latency above 0, a slowdown of at least 1, and 0 to 1,000,000 requests.",
        )
    canary = Canary(version, steps, every, limits, moment, moment)
    if len(steps) == 1:
        return aliases.with_production(version)
    return dataclasses.replace(aliases, canary=canary)


def start_split(aliases: Aliases, weights: Mapping[int, float]) -> Aliases:
    """The same with an A/B split.

    Args:
        aliases: What holds now.
        weights: Each version's share, in any unit; two versions at least.

    Raises:
        BadRequest: Another experiment is under way, or the weights can't be used.
    """
    if aliases.canary is not None:
        _check_free(aliases, "an A/B split")
    total = sum(weights.values())
    if not 2 <= len(weights) <= MAX_TARGETS or not total < math.inf or not all(each > 0 for each in weights.values()):
        raise BadRequest(
            "The weights of an A/B split can't be used.",
            f"Give 2 to {MAX_TARGETS} versions, each with a weight above 0.",
        )
    versions = sorted(weights)
    bounds = [
        round(sum(weights[version] for version in versions[:count]) / total * WHOLE)
        for count in range(len(versions) + 1)
    ]
    targets = tuple(
        Target(version, high - low) for version, low, high in zip(versions, bounds, bounds[1:], strict=False)
    )
    if any(target.weight == 0 for target in targets):
        raise BadRequest("A weight is under a hundredth of a percent.", "Give it more, or leave the version out.")
    return dataclasses.replace(aliases, targets=targets)


def _check_free(aliases: Aliases, what: str) -> None:
    if aliases.canary is not None:
        raise BadRequest(
            f"Version {aliases.canary.version} is a canary already, so {what} can't share the traffic.",
            "End it first: `shoal canary MODEL --stop`, or `shoal rollback MODEL`.",
        )
    if aliases.targets:
        raise BadRequest(
            f"An A/B split is under way, so {what} can't share the traffic.", "End it first: `shoal ab MODEL --stop`."
        )


def require(aliases: Aliases, model: str, alias: str) -> int:
    """The version that an alias points at. Raises `NotFound`."""
    version = aliases.version_of(alias)
    if version is None:
        raise NotFound(
            f"Model {model!r} has no alias {alias[:80]!r}.",
            f"It has {', '.join(aliases.all())}; see GET /models/{model}.",
        )
    return version
