"""Model cards as they lie beside the versions' files; reading them needs none of what making them does."""

from __future__ import annotations

from shoal_core.errors import NotFound
from shoal_core.keys import ModelKeys
from shoal_core.store import ObjectStore

FORMS = {"json": "application/json", "html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8"}
"""The forms of a card, and their media types."""


def read_card(artifacts: ObjectStore, model: str, version: int, form: str = "json") -> bytes:
    """A version's card. Raises `NotFound`."""
    try:
        return artifacts.read(ModelKeys(model, version).card(form))
    except NotFound as error:
        raise NotFound(
            f"Version {version} of model {model!r} has no card.",
            f"See GET /models/{model} for its versions; those that a run made have one.",
        ) from error
