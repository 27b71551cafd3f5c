"""A dataset and its versions, as the API tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from shoal._quarantine import list_samples, save_samples, version_path
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
        return self._connection.request("GET", f"{self._path(version)}/report")

    def report_page(self, version: str | None = None) -> bytes:
        """The report as a page for people: one HTML file, complete in itself. Arguments and errors as `report`."""
        return self._connection.fetch(f"{self._path(version)}/report.html")

    def quarantine(self, version: str | None = None) -> list[dict[str, Any]]:
        """The bad samples of a version: file, place, code, reason, fix, and the row, or the key of a file.

        Arguments and errors as `report`.
        """
        return list(list_samples(self._connection, self.name, self._chosen(version)))

    def save_quarantine(self, folder: str | Path, version: str | None = None) -> list[Path]:
        """Save bad samples as files, to be mended and replayed; their paths.

        Args:
            folder: A new or empty folder.
            version: Id of a version; the latest when None.

        Raises:
            NotFound: No such version.
            BadRequest: The folder isn't empty.
        """
        chosen = self._chosen(version)
        samples = self.quarantine(chosen)
        return save_samples(self._connection, self.name, chosen, samples, Path(folder), self.report(chosen))

    def _chosen(self, version: str | None) -> str:
        chosen = version or self.latest_version
        if chosen is None:
            raise NotFound(f"Dataset {self.name!r} has no committed version yet.", "Wait for its run: `shoal runs`.")
        return str(chosen)

    def _path(self, version: str | None) -> str:
        return version_path(self.name, self._chosen(version))
