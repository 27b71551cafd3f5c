"""Partitioned prefixes of a data lake: `year=2026/month=1/part-0.parquet` has the columns year and month."""

from __future__ import annotations

import re
import urllib.parse

_KEY = re.compile(r"([^=/]+)=([^/]*)")
_MISSING = "__HIVE_DEFAULT_PARTITION__"


def partition_of(name: str) -> dict[str, str | None]:
    """The keys in the folders of a file's name, in order; None is a missing value."""
    found: dict[str, str | None] = {}
    for folder in name.split("/")[:-1]:
        if match := _KEY.fullmatch(folder):
            value = urllib.parse.unquote(match.group(2))
            found[urllib.parse.unquote(match.group(1))] = None if value in ("", _MISSING) else value
    return found
