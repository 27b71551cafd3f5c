"""JSON that is byte for byte the same for the same value."""

from __future__ import annotations

import json

# Made once: json.dumps makes an encoder for every call, which listings of a million files would feel.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> bytes:
    """JSON as UTF-8 with sorted keys and compact separators; lone surrogates become `?`.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return _ENCODER.encode(value).encode("utf-8", "replace")
