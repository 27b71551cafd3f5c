"""Facts for the event bus: past tense, small, with references."""

from __future__ import annotations

import json
from typing import Any

from shoal_core.aws.clients import client, service_errors
from shoal_core.errors import Unavailable

SOURCE = "shoal"


def publish(name: str, detail: dict[str, Any]) -> None:
    """Publish an event such as `DatasetCommitted` on the default bus. Raises `Unavailable` when the bus refuses it."""
    entry = {"Source": SOURCE, "DetailType": name, "Detail": json.dumps(detail, sort_keys=True)}
    with service_errors("EventBridge"):
        answer = client("events").put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        reason = answer["Entries"][0].get("ErrorMessage", "no reason given")
        raise Unavailable(f"EventBridge refused {name}: {reason}.", "Nothing to do: it is retried.")
