"""A dataset and its versions, as the API tells them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from shoal.connection import Connection
from shoal.errors import NotFound


class Dataset:
    """One dataset: every upload under its name is a version.

    Args:
        connection: The cloud that has it.
        document: The API's entry for it.
    """

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self.document = document

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, latest_version={self.latest_version!r})"

    @property
    def name(self) -> str:
        """The dataset's name."""
        return str(self.document["name"])

    @property
    def latest_version(self) -> str | None:
        """Id of the newest version; None before there is one."""
        return self.document.get("latest_version") or next((item["version"] for item in self.versions()), None)

    @property
    def has_report(self) -> bool:
        """Whether the latest version is committed, so that its report can be read."""
        return any(item["version"] == self.latest_version and item["status"] == "ready" for item in self.versions())

    def versions(self) -> list[dict[str, Any]]:
        """Its versions, newest first: version, status, created_at, samples, run_id."""
        if not self.document.get("versions"):  # lists of datasets leave them out
            self.document |= self._connection.request("GET", f"/datasets/{quote(self.name, safe='')}")
        return sorted(self.document["versions"], key=lambda item: str(item.get("created_at", "")), reverse=True)

    def report(self, version: str | None = None) -> dict[str, Any]:
        """What was kept, what was dropped and why.

        Args:
            version: Id of a version; the latest when None.

        Raises:
            NotFound: No such version, or none is committed yet.
        """
        chosen = version or self.latest_version
        if chosen is None:
            raise NotFound(f"Dataset {self.name!r} has no committed version yet.", "Wait for its run: `shoal runs`.")
        path = f"/datasets/{quote(self.name, safe='')}/versions/{quote(str(chosen), safe='')}/report"
        return self._connection.request("GET", path)
