"""The lists that the Distributed Maps of state machines go over: JSON arrays in S3, so that states carry only a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shoal_core.data.canonical import canonical_json
from shoal_core.store import ObjectStore

# Step Functions allows 10,000 children at once, and an account begins with 1,000 concurrent Lambda workers, a new one
# with 10. Children beyond what the account has are throttled and retried: with 100 of them and 10 workers each gets its
# turn within its retries (docs/scale.md).
MAX_AT_ONCE = 100


def write_map_items(artifacts: ObjectStore, key: str, items: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """Write a Map's items and say where they are; the same items make the same bytes.

    Args:
        artifacts: Where the list goes.
        key: Its key.
        items: At least one: AWS doesn't say what a Map does with an empty file.

    Returns:
        What the Map reads of its input: `items_key`, and `at_once`, how many items run at the same time.
    """
    artifacts.write(key, canonical_json(list(items)), "application/json")
    return {"items_key": key, "at_once": min(len(items), MAX_AT_ONCE)}
