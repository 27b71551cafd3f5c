"""Settings of a push: fields of dataset.yaml, from a file, from arguments and from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shoal.errors import BadRequest

SETTINGS = (
    "anomaly", "augment", "backbone", "budget", "card", "columns", "compute", "expect", "files", "image", "image_size",
    "labels", "missing", "near_duplicates", "network", "optimize", "outliers", "promote", "recipe", "rounds",
    "schedule", "schema_version", "seed", "separator", "sequence", "source", "split", "target", "task", "text",
    "training", "workers",
)  # fmt: skip
"""The fields of dataset.yaml; docs/upload-contract.md tells what each allows, and ingesting checks them."""
NOTHING_ASKED = b"# Everything is inferred from the data.\n"


def config_bytes(path: Path | None, settings: Mapping[str, Any]) -> bytes | None:
    """dataset.yaml's bytes: the file as it is, or the file with settings over it, or None when there is neither.

    Raises:
        BadRequest: A setting that doesn't exist, or a file that can't be read.
    """
    asked = {field: value for field, value in settings.items() if value is not None}
    unknown = sorted(set(asked) - set(SETTINGS))
    if unknown:
        raise BadRequest(f"There is no setting {unknown[0]!r}.", f"Settings are: {', '.join(SETTINGS)}.")
    if path is None:
        return _yaml(asked) if asked else None
    data = _read(path)
    return data if not asked else _yaml({**fields_of(data, path), **asked})


def fields_of(data: bytes, path: Path) -> dict[str, Any]:
    """The fields of a dataset.yaml. Raises `BadRequest` when it holds none."""
    try:
        fields = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} isn't valid YAML.", "Write one `field: value` per line.") from error
    if not isinstance(fields or {}, dict):
        raise BadRequest(f"{path} holds no fields.", "Write one `field: value` per line.")
    return dict(fields or {})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror or error}.", "Name a file that exists.") from error


def _yaml(fields: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(_plain(fields), sort_keys=True, allow_unicode=True).encode()


def _plain(value: Any) -> Any:  # noqa: ANN401 - what YAML can hold
    """Tuples as lists and mappings as dicts, which YAML's safe form has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Settings of the form `field=value` or `field.part=value`; values are YAML.

    Raises:
        BadRequest: Another form, or a field that is given twice.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        path = name.strip().split(".")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadRequest(f"{assignment!r}: the value isn't valid YAML.", "Write FIELD=VALUE.") from error
        if not equals or not all(path):
            raise BadRequest(f"{assignment!r} is no setting.", "Write FIELD=VALUE, such as training.epochs=5.")
        parent: Any = found
        for part in path[:-1]:
            parent = parent.setdefault(part, {})
            if not isinstance(parent, dict):
                raise BadRequest(f"{name!r} is given twice.", "Give each field once.")
        if path[-1] in parent:
            raise BadRequest(f"{name!r} is given twice.", "Give each field once.")
        parent[path[-1]] = value
    return found
