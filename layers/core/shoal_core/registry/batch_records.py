"""Batch jobs as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from shoal_core.errors import NotFound
from shoal_core.frozen import Frozen
from shoal_core.registry.pricing import transitions_cost
from shoal_core.registry.records import Failure, Source, StageUsage
from shoal_core.registry.views import document_of, failure_view, seconds_between, stage_view

Item = Mapping[str, Any]
_SLOW = "Set `piece_records` in batch.yaml to fewer records per piece, and upload again."
_FIXES = {"Sandbox.Timedout": _SLOW, "States.Timeout": _SLOW, "Runtime.OutOfMemory": _SLOW}


class BatchError(Frozen):
    """One record that couldn't be answered."""

    file: str
    place: str = Field(default="", description="the line or row; empty where the file is the record")
    code: str
    reason: str
    fix: str
    raw: str | None = Field(default=None, description="what was sent, at most 4,096 characters")


class BatchOutput(Frozen):
    """Where the output of a finished job is, in the bucket `ArtifactsBucket`."""

    prefix: str
    manifest: str
    parts: list[str]
    predictions: str | None = Field(default=None, description="all parts as one file, where there is one")
    digest: str = Field(description="sha256 of what was made, whatever the job was called and however long it took")


class Batch(Frozen):
    """One batch job: many records through one version of a model."""

    id: str = Field(description="MODEL/JOB")
    model: str
    job: str
    status: Literal["waiting", "running", "succeeded", "failed"]
    stage: str = ""
    note: str = ""
    created_at: str
    updated_at: str
    finished_at: str | None = None
    source: list[Source] = Field(default_factory=list)
    version: int | None = Field(default=None, description="the model's version, pinned when the job was planned")
    pieces_done: int = 0
    pieces_total: int = 0
    records: int = Field(default=0, description="records done so far, those with an error included")
    errors: int = 0
    codes: dict[str, int] = Field(default_factory=dict, description="errors by what is wrong")
    shown: list[BatchError] = Field(default_factory=list, description="the first errors")
    warnings: list[str] = Field(default_factory=list)
    stages: list[StageUsage] = Field(default_factory=list)
    seconds: float = 0.0
    seconds_left: float | None = Field(default=None, description="by the pace so far; None before the first piece")
    gb_seconds: float = 0.0
    cost_usd: float = Field(default=0.0, description="estimated cost on AWS so far, US dollars")
    output: BatchOutput | None = None
    failure: Failure | None = None


class Batches(Frozen):
    """The newest jobs first, without their stages and errors."""

    batches: list[Batch]


class BatchErrors(Frozen):
    """The first records of a job that couldn't be answered."""

    errors: list[BatchError]
    total: int = Field(description="of the job; of each piece the first 1,000 are kept here, the output has all")


def batch_view(items: Iterable[Item], architecture: str, moment: str) -> Batch:
    """A job from its record and its stages; `moment` is now."""
    items = list(items)
    record = next((item for item in items if item["sk"] == "BATCH"), None)
    if record is None:
        return _waiting(next(item for item in items if item["sk"] == "UPLOADS"))
    stages = sorted(
        (stage_view(item, architecture) for item in items if item["sk"].startswith("STAGE#") and "invocations" in item),
        key=lambda stage: (stage.started_at, stage.name),
    )
    invocations = sum(stage.invocations for stage in stages)
    # Each piece is an execution of its own: its Map is distributed.
    children = sum(stage.invocations for stage in stages if stage.name == "Predict Batch")
    finished_at = record.get("finished_at")
    done, total = len(record.get("pieces_done", ())), record.get("pieces_total", 0)
    return Batch(
        id=f"{record['model']}/{record['job']}",
        model=record["model"],
        job=record["job"],
        status=record["status"],
        stage=record["stage"],
        created_at=record["created_at"],
        updated_at=finished_at or record["updated_at"],
        finished_at=finished_at,
        source=[Source.model_validate(entry) for entry in document_of(record, "source", [])],
        version=record.get("version"),
        pieces_done=done,
        pieces_total=total,
        records=record.get("records", 0),
        errors=record.get("errors", 0),
        codes=document_of(record, "codes", {}),
        shown=[BatchError.model_validate(entry) for entry in document_of(record, "shown", [])],
        warnings=document_of(record, "warnings", []),
        stages=stages,
        seconds=seconds_between(record["created_at"], finished_at or moment),
        seconds_left=_seconds_left(items, done, total, moment) if record["status"] == "running" else None,
        gb_seconds=round(sum(stage.gb_seconds for stage in stages), 3),
        cost_usd=sum(stage.cost_usd for stage in stages)
        + (transitions_cost(invocations, 0, children) if stages else 0.0),
        output=BatchOutput.model_validate(document_of(record, "output", {})) if "output" in record else None,
        failure=_failure(record),
    )


def _waiting(item: Item) -> Batch:
    """Files that wait for their batch.yaml."""
    if "note" not in item:
        raise NotFound(f"Job {item['name']!r} doesn't exist.", "See GET /batches for those that do.")
    model, _, job = str(item["name"]).partition("/")
    moment = item["created_at"]
    return Batch(
        id=item["name"], model=model, job=job, status="waiting", note=item["note"], created_at=moment, updated_at=moment
    )


def _seconds_left(items: Iterable[Item], done: int, total: int, moment: str) -> float | None:
    """What the pieces that are left take, if they go as fast as those that are done."""
    predicting = next((item for item in items if item["sk"] == "STAGE#Predict Batch"), None)
    if predicting is None or not done or done >= total:
        return None
    return round(seconds_between(predicting["started_at"], moment) / done * (total - done), 1)


def _failure(record: Item) -> Failure | None:
    failure = failure_view(record)
    if failure is None or failure.error not in _FIXES:
        return failure
    return failure.model_copy(update={"fix": _FIXES[failure.error]})


def light(batch: Batch) -> Batch:
    """A job as lists have it: what grows with it is left out."""
    return batch.model_copy(update={"shown": [], "stages": [], "codes": {}, "warnings": []})


def usage_of(batch: Batch) -> dict[str, Any]:
    """What a manifest tells of time and cost: all stages but the one that writes it."""
    stages = [stage for stage in batch.stages if stage.name != "Commit Batch"]
    return {
        "started_at": batch.created_at,
        "seconds": batch.seconds,
        "invocations": sum(stage.invocations for stage in stages),
        "gb_seconds": round(sum(stage.gb_seconds for stage in stages), 3),
        "cost_usd": sum(stage.cost_usd for stage in stages),
    }


def summary_of(prefix: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the catalog keeps of a manifest; a list of many parts stays in the manifest."""
    joined = manifest["predictions"]
    output = {
        "prefix": prefix,
        "manifest": f"{prefix}manifest.json",
        "parts": [prefix + part["key"] for part in manifest["parts"]],
        "predictions": prefix + joined["key"] if joined else None,
        "digest": manifest["digest"],
    }
    return {**{name: manifest[name] for name in ("records", "errors", "codes", "shown")}, "output": output}
