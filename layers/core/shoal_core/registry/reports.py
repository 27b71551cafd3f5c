"""What the API tells of a dataset version's data: its report as a page, and its quarantine."""

from __future__ import annotations

import re

from shoal_core.data.quality.quarantine import QuarantinePage, read_quarantine
from shoal_core.errors import NotFound, TooLarge
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

# Lambda answers with 6 MB at most, and base64 makes four bytes of three.
MAX_FILE_BYTES = 4 * 1024**2
_ITEM = re.compile(r"item-\d{5,9}")
_SAMPLE = re.compile(r"\d{4}\.[a-z0-9]{1,8}")


def report_page(artifacts: ObjectStore, name: str, version: str) -> str:
    """A version's report as HTML. Raises `NotFound`."""
    try:
        return artifacts.read(DatasetKeys(name, version).report_page).decode()
    except NotFound as error:
        raise NotFound(
            f"Dataset {name!r} has no report for version {version!r}.",
            f"See GET /datasets/{name} for its versions; a report is there once the version is committed.",
        ) from error


def quarantine_of(
    artifacts: ObjectStore, name: str, version: str, after: str | None = None, limit: int = 100
) -> QuarantinePage:
    """A page of a version's bad samples. Raises `NotFound`, or `BadRequest` for an `after` that no page gave."""
    return read_quarantine(artifacts, name, version, after, limit)


def quarantined_file(artifacts: ObjectStore, name: str, version: str, item: str, sample: str) -> bytes:
    """A bad file as it was uploaded.

    Args:
        artifacts: Where it is kept.
        name: Name of the dataset.
        version: Its version.
        item: The last but one part of the `key` that the list tells.
        sample: The last part.

    Raises:
        NotFound: There is none.
        TooLarge: It doesn't fit into an answer.
    """
    key = f"{DatasetKeys(name, version).quarantine_prefix}{item}/{sample}"
    if not _ITEM.fullmatch(item) or not _SAMPLE.fullmatch(sample) or not artifacts.exists(key):
        raise NotFound(
            f"Dataset {name!r} version {version!r} has no quarantined file {item[:40]}/{sample[:40]}.",
            f"See GET /datasets/{name}/versions/{version}/quarantine for those that it has.",
        )
    data = artifacts.read(key)
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(
            f"The quarantined file {item}/{sample} has {len(data):,} bytes; an answer holds {MAX_FILE_BYTES:,}.",
            f"Take it from the artifacts bucket: {key}.",
        )
    return data
