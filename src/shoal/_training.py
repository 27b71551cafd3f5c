"""A run by request: what the API is asked for, from arguments of Python and of the command line."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from shoal._runs import Run
from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest

RUN_FIELDS = (
    "augment", "backbone", "budget", "card", "compute", "network", "optimize", "promote", "recipe", "rounds", "seed",
    "training", "workers",
)  # fmt: skip
"""The fields of dataset.yaml that one run may change; the cloud checks their values."""
TRAINING_FIELDS = (
    "batch_size", "class_weights", "clip_norm", "compression", "decay_factor", "decay_rounds", "ema", "epochs",
    "fine_tune", "fine_tune_from", "focal_gamma", "huber_delta", "label_smoothing", "learning_rate", "loss",
    "lost_workers", "momentum", "nesterov", "optimizer", "outer_learning_rate", "outer_momentum", "patience",
    "recompute", "schedule", "scheme", "script", "swa", "warm_start", "warmup_rounds", "weight_decay",
)  # fmt: skip
"""The fields under `training`, which may be given by themselves."""


OWN_FIELDS = ("batch_norm", "output", "trainable")
"""The fields under `network` that concern a network of one's own, which may be given by themselves beside one."""


def overrides_of(settings: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
    """Fields of dataset.yaml, nested as there, of arguments; None is left out. `own`: for a network of one's own.

    Raises:
        BadRequest: An argument that is none of them, or one that is given twice.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    training = {name: given.pop(name) for name in TRAINING_FIELDS if name in given}
    if own and (network := {name: given.pop(name) for name in OWN_FIELDS if name in given}):
        given["network"] = {**(given.get("network") or {}), **network}
    for name in given:
        if name not in RUN_FIELDS:
            near = difflib.get_close_matches(name, (*RUN_FIELDS, *TRAINING_FIELDS), n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise BadRequest(
                f"A run has no setting {name!r} of its own.",
                f"{hint}Settings are: {', '.join(RUN_FIELDS)}, and those of `training`. What the data are is set by "
                "`shoal push`.",
            )
    if training:
        nested = given.get("training") or {}
        twice = sorted(training.keys() & nested.keys())
        if twice:
            raise BadRequest(f"{twice[0]!r} is given twice.", "Give each field once.")
        given["training"] = {**nested, **training}
    return given


def with_script(connection: Connection, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose `script` is a file that is here: it is uploaded, and the run trains as a SageMaker job.

    Raises:
        BadRequest: The file can't be read, or isn't Python's.
        ConnectionFailed, NotAuthorised: The bucket can't be used.
    """
    given, data = named_script(settings)
    if data is not None:
        key = f"scripts/{dataset}/{given['script']}"
        try:
            connection.s3.put_object(Bucket=connection.bucket, Key=key, Body=data)
        except (ClientError, BotoCoreError) as error:
            raise aws_error(error, f"bucket {connection.bucket!r}") from error
    return given


def named_script(settings: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
    """Settings whose `script` is a file that is here, as those of the job that runs it, and what is in the file.

    Raises:
        BadRequest: The file isn't Python's.
    """
    given = dict(settings)
    path = Path(str(given.get("script") or "")).expanduser()
    if not given.get("script") or not path.is_file():
        return given, None
    if path.suffix != ".py":
        raise BadRequest(f"{path} isn't a Python file.", "A training script's name ends in .py.")
    data = path.read_bytes()
    # By its content, so that another script is another request.
    name = f"{hashlib.sha256(data).hexdigest()[:16]}/{path.name}"
    compute = given.get("compute") or {}
    if isinstance(compute, Mapping):
        given["compute"] = {"service": "sagemaker", **compute}
    return {**given, "script": name}, data


def quote_of(connection: Connection, dataset: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a run would take. Raises as `request_run` does."""
    path = f"/datasets/{quote(dataset, safe='')}/quote"
    return dict(connection.request("POST", path, body=_json(body), content_type="application/json"))


def request_run(connection: Connection, dataset: str, body: Mapping[str, Any]) -> Run:
    """Ask for a run; `unchanged` is set where the same was asked for before.

    Raises:
        BadRequest, NotFound, NotAuthorised, ServiceFailed: What the API answered.
    """
    path = f"/datasets/{quote(dataset, safe='')}/runs"
    answer = connection.request("POST", path, body=_json(body), content_type="application/json")
    run = connection.request("GET", f"/runs/{quote(str(answer['run_id']), safe='')}")
    return Run(connection, run, unchanged=bool(answer.get("unchanged")))


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadRequest(f"A setting can't be sent: {error}.", "Use numbers, texts, lists and mappings.") from error
