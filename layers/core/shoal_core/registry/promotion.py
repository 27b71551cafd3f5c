"""Which of two versions serves: what a newly registered version finds, and what is decided of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shoal_core.registry.routing import Aliases

SERVES = "production"
WAITS = "candidate"
LATE = "late"
"""The three decisions: it serves, it waits as `candidate`, or newer data has been served already."""


@dataclass(frozen=True)
class Standing:
    """What a new version finds: the model's aliases (None before its first version), and whether it comes late.

    A version is late when one of a later upload has been in production, even if it was taken back since.
    """

    aliases: Aliases | None
    late: bool = False

    @property
    def champion(self) -> int | None:
        """The version in production."""
        return self.aliases.production if self.aliases else None


Decide = Callable[[Standing], Mapping[str, Any]]
"""Says what becomes of a new version: a document with `decision` and `reason`, kept with the version."""


def newest_serves(standing: Standing) -> dict[str, Any]:
    """The rule without a comparison: the version of the newest upload serves."""
    early = too_early(standing)
    return early or {"decision": SERVES, "reason": "the newest version serves"}


def too_early(standing: Standing) -> dict[str, Any] | None:
    """What is decided without looking at any metric; None where it needs a look."""
    aliases = standing.aliases
    if aliases is None:
        return {"decision": SERVES, "reason": "it is the first version"}
    if standing.late:
        return {"decision": LATE, "reason": "a version of a later upload has been in production"}
    if aliases.canary is not None or aliases.targets:
        what = f"version {aliases.canary.version} is a canary" if aliases.canary else "an A/B split is under way"
        return {"decision": WAITS, "reason": f"{what}, which a new version doesn't disturb"}
    return None
