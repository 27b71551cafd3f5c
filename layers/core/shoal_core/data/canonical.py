"""JSON that is byte for byte the same for the same value."""

from __future__ import annotations

import json


def canonical_json(value: object) -> bytes:
    """JSON as UTF-8 with sorted keys and compact separators; lone surrogates become `?`.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")
