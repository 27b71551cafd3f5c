"""Which version of a model serves whom: aliases, canaries, A/B splits, shadows; and the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from shoal.connection import Connection

JSON = "application/json"
STEPS = (5.0, 25.0, 50.0, 100.0)


class Lifecycle:
    """A model's versions in service: the part of `Model` that changes what serves.

    Every change reaches every new request within seconds, and is in the audit record.
    """

    _connection: Connection

    @property
    def name(self) -> str:
        """The model's name."""
        raise NotImplementedError

    @property
    def production(self) -> int | None:
        """The version that the endpoint serves."""
        raise NotImplementedError

    def serve(self, version: int | None = None) -> dict[str, Any]:
        """Choose the version that the endpoint serves; whatever split the traffic ends.

        Args:
            version: Its number; None goes back (a rollback): it ends a canary or an A/B split, or else the version
                that served before serves again.

        Returns:
            `before` and `version`.

        Raises:
            NotFound: No such version, or none that served before.
            ServiceFailed: The version can't answer; nothing changed.
        """
        return self.set_alias("production", version)

    def set_alias(self, alias: str, version: int | None) -> dict[str, Any]:
        """Point an alias at a version. Returns `before` and `version`; errors as `serve`."""
        return self._change(f"aliases/{quote(alias, safe='')}", {} if version is None else {"version": version})

    def remove_alias(self, alias: str) -> dict[str, Any]:
        """Remove an alias; the version stays. Raises `NotFound`."""
        return self._delete(f"aliases/{quote(alias, safe='')}")

    def canary(
        self,
        version: int,
        *,
        steps: Sequence[float] = STEPS,
        every: float = 300,
        max_errors: float = 0.01,
        max_latency_ms: float | None = None,
        max_slowdown: float = 2.0,
        min_requests: int = 20,
    ) -> dict[str, Any]:
        """Let a version take over step by step, as long as its errors and its latency hold; else it is taken back.

        Args:
            version: The version.
            steps: Its share of the requests in percent, growing to 100.
            every: Seconds that each step lasts at least.
            max_errors: Largest share of its requests that may fail by its own fault.
            max_latency_ms: Largest mean time of an answer; None is no limit of its own.
            max_slowdown: How many times the mean time of the version in production it may take.
            min_requests: How many requests a step needs before it is judged.

        Returns:
            The model's traffic: see `traffic`.

        Raises:
            BadRequest: It is in production already, another experiment is under way, or a setting is out of bounds.
            NotFound: No such version.
            ServiceFailed: The version can't answer; nothing changed.
        """
        wishes = {
            "version": version,
            "steps": list(steps),
            "every_seconds": round(every),
            "max_errors": max_errors,
            "max_latency_ms": max_latency_ms,
            "max_slowdown": max_slowdown,
            "min_requests": min_requests,
        }
        return self._change("canary", wishes)

    def stop_canary(self) -> dict[str, Any]:
        """End a canary: all requests go to production."""
        return self._delete("canary")

    def ab(self, weights: Mapping[int, float]) -> dict[str, Any]:
        """Split the requests between versions by weight; a key (the header `Shoal-Key`) always meets the same one.

        Raises:
            BadRequest: A canary is under way, or the weights can't be used.
            NotFound: No such version.
        """
        return self._change("ab", {"weights": {str(version): weight for version, weight in weights.items()}})

    def stop_ab(self) -> dict[str, Any]:
        """End an A/B split: all requests go to production."""
        return self._delete("ab")

    def shadow(self, version: int, *, percent: float = 100) -> dict[str, Any]:
        """Ask a version too, for a share of the requests; its answers are compared and not returned.

        Raises:
            NotFound: No such version.
        """
        return self._change("shadow", {"version": version, "percent": percent})

    def stop_shadow(self) -> dict[str, Any]:
        """End a shadow."""
        return self._delete("shadow")

    def traffic(self) -> dict[str, Any]:
        """Who answers what share: `shares`, `aliases`, `canary`, `shadow`, and what was measured of them."""
        return self._connection.request("GET", f"{self._path}/traffic")

    def card(self, version: int | None = None) -> dict[str, Any]:
        """The model card of a version (the one in production when None): all that is known of it.

        Raises:
            NotFound: No such version, or one that no run made.
        """
        return self._connection.request("GET", f"{self._path}/versions/{self._chosen(version)}/card")

    def card_page(self, version: int | None = None) -> bytes:
        """The card as one HTML file, complete in itself. Arguments and errors as `card`."""
        return self._connection.fetch(f"{self._path}/versions/{self._chosen(version)}/card.html")

    def card_markdown(self, version: int | None = None) -> str:
        """The card as Markdown. Arguments and errors as `card`."""
        return self._connection.fetch(f"{self._path}/versions/{self._chosen(version)}/card.md").decode()

    @property
    def _path(self) -> str:
        return f"/models/{quote(self.name, safe='')}"

    def _chosen(self, version: int | None) -> int:
        chosen = self.production if version is None else version
        if chosen is not None:
            return chosen
        return int(self._connection.request("GET", self._path)["aliases"]["production"])

    def _change(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(document).encode()
        return self._connection.request("POST", f"{self._path}/{path}", body=body, content_type=JSON)

    def _delete(self, path: str) -> dict[str, Any]:
        return self._connection.request("DELETE", f"{self._path}/{path}")
