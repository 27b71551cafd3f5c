"""A run by request: it trains on a dataset version that is there already, with settings of its own.

A run that an upload began trains by the version's dataset.yaml. A run by request lays `overrides` over it: fields that
say how to train, optimise, promote and describe. Fields that say what the data are would make another dataset version,
and are refused. What a run trains by is always `run_config`, never the manifest's config.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from shoal_core.data.allowed import ALLOWED
from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, checked_config
from shoal_core.errors import BadConfig, BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys

if TYPE_CHECKING:  # the control plane checks requests, and has no numpy
    from shoal_core.data.manifest import Manifest
    from shoal_core.store import ObjectStore

OVERRIDABLE = (
    "recipe",
    "network",
    "training",
    "rounds",
    "workers",
    "seed",
    "augment",
    "budget",
    "optimize",
    "promote",
    "card",
    "backbone",
    "compute",
)
"""Fields of dataset.yaml that concern a run, not the data."""
MAX_REQUEST_BYTES = 64 * 1024
_NAME = "the request"
_DIGEST_LENGTH = 8


class RunRequest(Frozen):
    """`runs/<run>/request.json`: what a run was asked for, written once before its execution starts.

    `overrides` are fields of dataset.yaml, nested as there, of those in `OVERRIDABLE`. `network` is the sha256 of the
    user's own ONNX network, `tuning` the id of the search that the run is a trial of.
    """

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    overrides: dict[str, Any] = Field(default={})
    network: str | None = None
    tuning: str | None = None

    def encode(self) -> bytes:
        """The canonical bytes of the request. Raises `BadConfig` where they are too many."""
        try:
            data = canonical_json(self.model_dump())
        except ValueError as error:
            raise BadConfig(f"{_NAME}: a number isn't finite: {error}.", "Use numbers that JSON has.") from error
        if len(data) > MAX_REQUEST_BYTES:
            raise BadConfig(
                f"{_NAME} has {len(data):,} bytes.", f"Override fewer fields; {MAX_REQUEST_BYTES:,} bytes are allowed."
            )
        return data

    @property
    def asked(self) -> dict[str, Any]:
        """The overrides, with what a network of the user's own means for them. Raises `BadConfig`."""
        if self.network is None:
            return self.overrides
        if self.overrides.get("recipe", "network") != "network":
            recipe = self.overrides["recipe"]
            reason = f"{_NAME}: a network of one's own goes without the recipe {recipe!r}."
            raise BadConfig(reason, "Leave one of them out.")
        settings = self.overrides.get("network")
        named = dict(settings) if isinstance(settings, Mapping) else {}
        return {**self.overrides, "recipe": "network", "network": {**named, "sha256": self.network}}

    @property
    def run_id(self) -> str:
        """The run's id: the same request is the same run."""
        return f"{self.dataset}-{self.version}-{hashlib.sha256(self.encode()).hexdigest()[:_DIGEST_LENGTH]}"


def read_run_request(artifacts: ObjectStore, run_id: str) -> RunRequest | None:
    """A run's request; None for a run that an upload began. Raises `BadInput` when it can't be read."""
    key = RunKeys(run_id).request
    try:
        data = artifacts.read(key)
    except NotFound:
        return None
    try:
        return RunRequest.model_validate_json(data)
    except ValueError as error:
        raise BadInput(f"The request {key!r} can't be read: {error}.", "Ask for the run again.") from error


def run_config(artifacts: ObjectStore, run_id: str, manifest: Manifest) -> DatasetConfig:
    """What a run trains, optimises, promotes and describes by: the version's dataset.yaml, and its request over it.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run.
        manifest: Of its dataset version.

    Raises:
        BadConfig: The request asks for what can't be.
        BadInput: The request can't be read.
    """
    request = read_run_request(artifacts, run_id)
    return manifest.config if request is None else overridden(manifest.config, request.asked)


def overridden(config: DatasetConfig, overrides: Mapping[str, Any]) -> DatasetConfig:
    """A dataset.yaml with other settings for one run.

    Mappings are laid over mappings field by field, everything else replaces what was there; null asks for what Shoal
    chooses. Another recipe drops the `network` settings, which were the other one's.

    Raises:
        BadConfig: A field isn't there, concerns the data, or has a value that dataset.yaml doesn't take either.
    """
    for name in overrides:
        _require_overridable(str(name))
    # Only names that the config has; a field that this version of Shoal lacks is refused by the validation.
    fields: dict[str, Any] = config.model_dump(mode="json")
    if overrides.get("recipe", config.recipe) != config.recipe:
        fields["network"] = {}
    return checked_config(_laid_over(fields, overrides), _NAME)


def _laid_over(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(fields)
    for name, value in overrides.items():
        before = merged.get(name)
        merged[name] = _laid_over(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return merged


def _require_overridable(name: str) -> None:
    if name in OVERRIDABLE:
        return
    known = f"A run may change: {', '.join(OVERRIDABLE)}."
    if name in DatasetConfig.model_fields:
        raise BadConfig(
            f"{_NAME}: {name!r} says what the data are: it can't differ between runs of one dataset version.",
            f"Set it in dataset.yaml and upload again: that makes another version. {known}",
        )
    paths = [path for path in ALLOWED if path.partition(".")[0] in OVERRIDABLE]
    leaf = next((path for path in paths if path.endswith(f".{name}")), None)
    near = [leaf] if leaf else difflib.get_close_matches(name, paths, n=1, cutoff=0.5)
    raise BadConfig(f"{_NAME}: unknown field {name!r}.", f"Did you mean {near[0]!r}? {known}" if near else known)
