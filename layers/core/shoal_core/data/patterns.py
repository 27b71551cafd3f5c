"""Patterns of file names, as `dataset.yaml` writes them."""

from __future__ import annotations

import re
from functools import lru_cache

_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@lru_cache(maxsize=256)
def pattern_of(pattern: str, part: str = "") -> re.Pattern[str]:
    """A pattern as a regular expression for `fullmatch`: `*` and `?` stay within a folder, `**` doesn't.

    `a/**/b.csv` also means `a/b.csv`. With `part`, `{part}` is a group of that name: as few characters as will do, at
    least one, within a folder; where it stands again, the same characters stand again.
    """
    named = f"{{{part}}}" if part else None
    marks = [r"\*\*/", r"\*\*", r"\*", r"\?", *([re.escape(named)] if named else [])]
    found = ""
    for each in re.split(f"({'|'.join(marks)})", pattern):
        if each == named:
            found += f"(?P={part})" if f"(?P<{part}>" in found else f"(?P<{part}>[^/]+?)"
        else:
            found += _MEANING.get(each, re.escape(each))
    return re.compile(found, re.DOTALL)
