"""Bringing a model: what goes where, and the run that verifies and registers it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from shoal._runs import POLL_SECONDS, POLL_SECONDS_ON_AWS, Run
from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest, NotFound, ServiceFailed
from shoal.uploads import check_name, clean_name

SUFFIX = ".onnx"
DESCRIPTION = "model.yaml"
PIPELINE = "pipeline.yaml"
LABELS = "labels.txt"
VOCABULARY = "vocabulary.txt"
ID_LENGTH = 12
APPEAR_SECONDS = 60.0
FIELDS = frozenset(
    {
        *("image", "columns", "categories", "fill", "text", "labels", "task", "output", "activation", "sample"),
        *("production", "backbone"),
    }
)


@dataclass(frozen=True)
class Import:
    """What to put where.

    Args:
        model: The model's name.
        path: The ONNX file, or a pipeline.
        description: Fields of model.yaml.
        files: Name -> bytes of the files that model.yaml or the pipeline names.
    """

    model: str
    path: Path
    description: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """What the model is called in its folder."""
        return self.path.name if self.path.suffix.lower() == SUFFIX else PIPELINE

    @property
    def yaml(self) -> bytes:
        """The bytes of model.yaml; empty when nothing is described."""
        if not self.description:
            return b""
        return yaml.safe_dump(dict(self.description), sort_keys=True, allow_unicode=True).encode()

    @property
    def folder(self) -> str:
        """Where it goes: named by the content, so that each import has a folder of its own."""
        digest = hashlib.sha256(self.yaml)
        for name, data in sorted(self.files.items()):
            digest.update(f"\n{name}\n".encode() + data)
        with self.path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"models/{self.model}/{digest.hexdigest()[:ID_LENGTH]}/"


def plan_import(
    path: Path,
    *,
    name: str | None = None,
    labels: Path | None = None,
    config: Path | None = None,
    vocabulary: Path | None = None,
    description: Mapping[str, Any] | None = None,
) -> Import:
    """Decide what an import consists of.

    Args:
        path: The ONNX file, or a pipeline (.yaml).
        name: The model's name; made from the file's when None, of a pipeline from its folder's.
        labels: A file with the name of one class a line.
        config: A model.yaml; the files that it names lie beside it.
        vocabulary: The vocabulary of a pipeline, where it doesn't lie beside it under the name that it has there.
        description: Fields of model.yaml that go over those of the file.

    Raises:
        BadRequest: A file can't be used, or a field doesn't exist.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BadRequest(f"{path} doesn't exist.", "Name an ONNX file, or a pipeline.yaml.")
    if path.suffix.lower() in (".yaml", ".yml"):
        return _plan_pipeline(path, name, vocabulary, labels, config, description)
    if vocabulary is not None:
        raise BadRequest("A vocabulary is for a pipeline.", "Name it in a model.yaml: docs/models.md.")
    if path.suffix.lower() != SUFFIX:
        raise BadRequest(
            f"{path.name} isn't an ONNX file.", f"Convert it first: shoal convert {path} -o {path.stem}{SUFFIX}"
        )
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    if config is not None:
        fields, files = _read_config(config)
    fields |= {key: value for key, value in (description or {}).items() if value not in (None, {}, (), [])}
    if labels is not None:
        files[LABELS] = _read(labels)
        fields["labels"] = LABELS
    unknown = sorted(fields.keys() - FIELDS)
    if unknown:
        raise BadRequest(f"model.yaml has no field {unknown[0]!r}.", f"Its fields are: {', '.join(sorted(FIELDS))}.")
    model = check_name(name) if name is not None else clean_name(path.with_suffix(""))
    return Import(model, path, json.loads(json.dumps(fields)), files)


def _plan_pipeline(
    path: Path,
    name: str | None,
    vocabulary: Path | None,
    labels: Path | None,
    config: Path | None,
    description: Mapping[str, Any] | None,
) -> Import:
    if labels or config or any(value not in (None, {}, (), []) for value in (description or {}).values()):
        raise BadRequest("A pipeline says itself what it takes and answers.", f"Write it into {path.name}.")
    try:
        fields = yaml.safe_load(_read(path)) or {}
        wanted = ((fields.get("input") or {}).get("text") or {}).get("vocabulary")
    except (yaml.YAMLError, AttributeError) as error:
        raise BadRequest(f"{path} isn't a pipeline: {error}.", "docs/pipelines.md shows one.") from error
    named = _beside(path, wanted) if isinstance(wanted, str) else None
    files = {named.name: _read(vocabulary or named)} if named else {}
    model = check_name(name) if name is not None else clean_name(path.resolve().parent)
    return Import(model, path, {}, files)


def _read_config(config: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        fields = yaml.safe_load(_read(config)) or {}
    except yaml.YAMLError as error:
        raise BadRequest(f"{config} isn't valid YAML: {error}.", "Write one `field: value` per line.") from error
    if not isinstance(fields, dict):
        raise BadRequest(f"{config} holds a {type(fields).__name__}, not fields.", "Write `field: value` lines.")
    text = fields.get("text")
    named = [fields.get("labels"), text.get("vocabulary") if isinstance(text, dict) else None]
    files = {name: _read(_beside(config, name)) for name in named if isinstance(name, str)}
    return fields, files


def _beside(file: Path, name: str) -> Path:
    """A file that another one names: what lies elsewhere on this machine is nobody's to upload."""
    if Path(name).name != name or name.startswith("."):
        raise BadRequest(f"{file.name} names the file {name!r}.", f"Name a file beside {file.name}.")
    return file.parent / name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror or error}.", "Name a file that exists.") from error


def put_import(connection: Connection, plan: Import) -> str:
    """Upload what describes the model, then the model itself, which starts the import; the id of its run.

    Raises:
        ConnectionFailed, NotAuthorised, NotFound, ServiceFailed: What S3 answered.
    """
    folder, bucket = plan.folder, connection.bucket
    s3: Any = connection.s3
    try:
        for name, data in plan.files.items():
            s3.put_object(Bucket=bucket, Key=folder + name, Body=data)
        key = f"{folder}{plan.file}"
        if plan.yaml:
            s3.put_object(Bucket=bucket, Key=folder + DESCRIPTION, Body=plan.yaml)
        with plan.path.open("rb") as file:
            answer = s3.put_object(Bucket=bucket, Key=key, Body=file)
    except (ClientError, BotoCoreError) as error:
        raise aws_error(error, f"bucket {bucket!r}") from error
    return run_of(key, answer.get("VersionId"))


def run_of(key: str, version: str | None) -> str:
    """The id of the run that an uploaded model starts: docs/models.md."""
    identity = f"{key}\n{version}".encode()
    return f"import-{hashlib.sha256(identity).hexdigest()[:ID_LENGTH]}"


def await_import(connection: Connection, run_id: str) -> Run:
    """Wait until an import can be seen. Raises `ServiceFailed` when none is after a minute."""
    deadline = time.monotonic() + APPEAR_SECONDS
    run = Run(connection, {"run_id": run_id})
    while True:
        try:
            return run.refresh()
        except NotFound:
            if time.monotonic() >= deadline:
                raise ServiceFailed(
                    f"The model is uploaded, but its import {run_id} hasn't started within {APPEAR_SECONDS:g} s.",
                    "Look into `shoal logs import_model`, and try `shoal doctor`.",
                ) from None
            time.sleep(POLL_SECONDS if connection.aws_endpoint else POLL_SECONDS_ON_AWS)
