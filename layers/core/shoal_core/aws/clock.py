"""The one source of wall-clock time in records. Artefacts never hold it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The current time, ISO 8601 in UTC with milliseconds, such as `2026-11-21T08:15:00.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
