"""What settings, events and records have in common."""

from __future__ import annotations

from threading import RLock
from typing import Any

from pydantic import BaseModel, ConfigDict

_BUILDING = RLock()


class Frozen(BaseModel):
    """Values that are checked, don't change, and have no fields but their own.

    A model is built when it is first used, since a function uses few of those that it imports: that saves a sixth of a
    cold start. Pydantic itself builds without a lock, and of threads that come first together some would be answered by
    this class instead of their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:  # noqa: ANN401 - pydantic's own
        """Build the model, one at a time."""
        with _BUILDING:
            return super().model_rebuild(**options)
