"""Records of the catalog as the API shows them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from shoal_core.errors import NotFound, split_message
from shoal_core.registry.pricing import lambda_cost, transitions_cost
from shoal_core.registry.records import (
    CanaryState,
    Dataset,
    DatasetVersion,
    Failure,
    Model,
    ModelReference,
    ModelVersion,
    Progress,
    RefusedImport,
    RoundSummary,
    Run,
    ShadowState,
    Source,
    StageUsage,
    TargetShare,
    Traffic,
    TrainingJob,
)
from shoal_core.registry.routing import WHOLE, Aliases, Canary, percent, read_aliases

Item = Mapping[str, Any]
MB_PER_GB = 1024
# The stages whose Map is distributed: each of their items is an execution of its own.
_DISTRIBUTED = frozenset({"Write Shard", "Pack Shard"})
# What Lambda and Step Functions themselves report; the rest are Shoal's, whose message holds the fix.
_PLATFORM_FIXES = {
    "Sandbox.Timedout": "Lower the work per invocation (more workers or rounds in dataset.yaml) and upload again.",
    "States.Timeout": "Lower the work per invocation (more workers or rounds in dataset.yaml) and upload again.",
    "Runtime.OutOfMemory": "Set a smaller image_size or more workers in dataset.yaml, or raise the function's memory.",
    "Runtime.ExitError": "A worker died on every attempt; read its log with `shoal logs`.",
    "SageMaker.ResourceLimitExceededException": "The account's quota of this instance type is used up, or 0, as it is "
    "for most at first. Ask for more in Service Quotas, or set compute.instance to another type.",
    "SageMaker.SageMakerException": "SageMaker refused the job; the reason names the field. The instance is compute in "
    "dataset.yaml, image and network are the stack's parameters.",
    "ClientError": "AWS refused a call. For AccessDenied add the action to the function's policies in template.yaml.",
    "States.ExceedToleratedFailureThreshold": "An item failed and couldn't tell why; read the execution's Map Run.",
    "States.DataLimitExceeded": "A state's payload went over 256 KiB; use fewer workers or larger shards.",
}

# moto writes a service's name small: sagemaker.sagemakerException.
_FIXES = {error.lower(): fix for error, fix in _PLATFORM_FIXES.items()}


def run_view(items: Iterable[Item], architecture: str) -> Run:
    """A run from its record, its stages, and its rounds where they are given."""
    items = list(items)
    run = next(item for item in items if item["sk"] == "RUN")
    rounds = [_round(item) for item in items if item["sk"].startswith("ROUND#")]
    stages = sorted(
        (stage_view(item, architecture) for item in items if item["sk"].startswith("STAGE#") and "invocations" in item),
        key=lambda stage: (stage.started_at, stage.name),
    )
    settings = document_of(run, "settings", {})
    invocations = sum(stage.invocations for stage in stages)
    children = sum(stage.invocations for stage in stages if stage.name in _DISTRIBUTED)
    cost = sum(stage.cost_usd for stage in stages) + (
        # An import is one invocation that no state machine makes.
        transitions_cost(invocations, run.get("last_round", 0), children) if stages and run["dataset"] else 0.0
    )
    jobs = [
        TrainingJob.model_validate_json(item["usage_now"]) for item in items if item["sk"].startswith("TRAINING_JOB#")
    ]
    cost += sum(job.cost_usd or 0.0 for job in jobs)
    finished_at = run.get("finished_at")
    return Run(
        run_id=run["run_id"],
        dataset=run["dataset"],
        version=run["version"],
        status=run["status"],
        stage=run["stage"],
        created_at=run["created_at"],
        updated_at=finished_at or run["updated_at"],
        finished_at=finished_at,
        source=[Source.model_validate(entry) for entry in document_of(run, "source", [])],
        request=document_of(run, "request", None),
        settings=settings,
        inferred=document_of(run, "inferred", []),
        warnings=document_of(run, "warnings", []),
        progress=_progress(run, settings),
        rounds=rounds,
        stages=stages,
        seconds=seconds_between(run["created_at"], finished_at or run["updated_at"]),
        gb_seconds=round(sum(stage.gb_seconds for stage in stages), 3),
        cost_usd=cost,
        jobs=jobs,
        metrics=document_of(run, "evaluation", {}),
        optimization=document_of(run, "optimization", {}),
        model=ModelReference(name=run["model_name"], version=run["model_version"]) if "model_name" in run else None,
        failure=failure_view(run),
    )


def document_of(item: Item, name: str, default: Any) -> Any:  # noqa: ANN401 - JSON
    """The JSON document that an attribute holds, or the default."""
    return json.loads(item[name]) if name in item else default


def seconds_between(start: str, end: str) -> float:
    """Seconds from one moment to another, both in ISO 8601; 0 when they are the other way round."""
    return round(max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()), 3)


def stage_view(item: Item, architecture: str) -> StageUsage:
    """What a stage used, from its item."""
    gb_seconds = item["megabyte_ms"] / MB_PER_GB / 1000
    return StageUsage(
        name=item["name"],
        started_at=item["started_at"],
        finished_at=item["finished_at"],
        seconds=seconds_between(item["started_at"], item["finished_at"]),
        invocations=item["invocations"],
        gb_seconds=round(gb_seconds, 3),
        cost_usd=lambda_cost(gb_seconds, item["invocations"], architecture),
    )


def _round(item: Item) -> RoundSummary:
    return RoundSummary.model_validate_json(item["summary"])


def _progress(run: Item, settings: Mapping[str, Any]) -> Progress:
    last = RoundSummary.model_validate_json(run["last_summary"]) if "last_summary" in run else None
    return Progress(
        shards_done=len(run.get("shards_done", ())),
        shards_total=run.get("shards_total", 0),
        packs_done=len(run.get("packs_done", ())),
        packs_total=run.get("packs_total", 0),
        round=last.round if last else 0,
        rounds=settings.get("rounds", 0),
        workers=last.workers if last else None,
        loss=last.loss if last else None,
        validation=last.validation if last else {},
    )


def failure_view(run: Item) -> Failure | None:
    """The reason and the fix, from what Step Functions or `ingest_upload` recorded."""
    if run["status"] != "failed":
        return None
    error, cause = run["error"], run.get("cause", "")
    reason, fix = split_message(_message(cause))
    return Failure(
        stage=run["stage"],
        error=error,
        reason=reason or f"{error} without a message.",
        fix=fix or _FIXES.get(error.lower(), "This is a fault in Shoal; read the log with `shoal logs`."),
    )


def _message(cause: str) -> str:
    """The text of an error: Step Functions' error output holds a cause, and a Lambda error's cause `errorMessage`."""
    for name in ("Cause", "errorMessage"):
        try:
            value = json.loads(cause)
        except ValueError:
            return cause
        if isinstance(value, dict):
            cause = str(value.get(name, "" if name == "Cause" and "Error" in value else cause))
    return cause


def dataset_view(items: Iterable[Item], failed_runs: Collection[str] = (), with_versions: bool = True) -> Dataset:
    """A dataset from its record and versions; one whose run failed before it was ready is `failed`."""
    items = list(items)
    versions = sorted(
        (_dataset_version(item, failed_runs) for item in items if item["sk"].startswith("VERSION#")),
        key=lambda version: (version.created_at, version.version),
        reverse=True,
    )
    record = next((item for item in items if item["sk"] == "DATASET"), {})
    latest_id = record.get("latest_version")
    latest = next((version for version in versions if version.version == latest_id), None)
    waiting = record.get("waiting", "")
    return Dataset(
        name=str(items[0]["pk"]).partition("#")[2],
        status="waiting" if waiting else latest.status if latest else "preparing",
        latest_version=latest_id,
        task=latest.task if latest else None,
        samples=latest.samples if latest else {},
        created_at=record.get("created_at") or versions[-1].created_at,
        note=waiting,
        versions=versions if with_versions else [],
    )


def _dataset_version(item: Item, failed_runs: Collection[str]) -> DatasetVersion:
    failed = item["status"] == "preparing" and item["run_id"] in failed_runs
    return DatasetVersion(
        version=item["version"],
        status="failed" if failed else item["status"],
        created_at=item["created_at"],
        run_id=item["run_id"],
        task=item.get("task"),
        samples=document_of(item, "samples", {}),
    )


def model_view(items: Iterable[Item], endpoint: str = "", spec: Mapping[str, Any] | None = None) -> Model:
    """A model from its record and versions; `spec` is the production version's preprocessing spec."""
    items = list(items)
    record = next(item for item in items if item["sk"] == "MODEL")
    versions = sorted(
        (ModelVersion.model_validate_json(item["record"]) for item in items if item["sk"].startswith("VERSION#")),
        key=lambda version: version.version,
        reverse=True,
    )
    if "production" not in record:
        raise NotFound(f"Model {record['name']!r} has no version in production yet.", "Wait for its run to finish.")
    target = spec["target"] if spec else {}
    aliases = read_aliases(record)
    return Model(
        name=record["name"],
        task=record["task"],
        aliases=aliases.all(),
        traffic=traffic_view(record["name"], aliases),
        versions=versions,
        inputs=dict(spec.get(spec["kind"]) or {}) if spec else {},
        classes=list(target["classes"]) if target.get("classes") else None,
        endpoint=endpoint,
        refused=sorted(map(_refused, items_of(items, "IMPORT#")), key=lambda entry: entry.at, reverse=True),
    )


def items_of(items: Iterable[Item], kind: str) -> list[Item]:
    """Those whose sort key begins with `kind`."""
    return [item for item in items if item["sk"].startswith(kind)]


def _refused(item: Item) -> RefusedImport:
    told = json.loads(item["refused"])
    reason, fix = split_message(told["message"])
    return RefusedImport(run_id=told["run_id"], at=told["at"], error=told["error"], reason=reason, fix=fix)


def traffic_view(model: str, aliases: Aliases, measured: Mapping[str, Any] | None = None) -> Traffic:
    """Who answers a model's requests, with what was measured of it."""
    canary, shadow = aliases.canary, aliases.shadow
    shares = {target.version: target.weight for target in aliases.targets} or {aliases.production: WHOLE}
    if canary is not None:
        shares = {aliases.production: WHOLE - canary.weight, canary.version: canary.weight}
    return Traffic(
        model=model,
        production=aliases.production,
        aliases=aliases.all(),
        shares=[TargetShare(version=version, percent=percent(weight)) for version, weight in shares.items()],
        canary=_canary(canary) if canary else None,
        split=bool(aliases.targets),
        shadow=ShadowState(version=shadow.version, percent=percent(shadow.weight), started_at=shadow.started_at)
        if shadow
        else None,
        measured=dict(measured or {}),
    )


def _canary(canary: Canary) -> CanaryState:
    return CanaryState(
        version=canary.version,
        percent=percent(canary.weight),
        steps=[percent(weight) for weight in canary.steps],
        step=canary.step + 1,
        every_seconds=canary.every,
        started_at=canary.started_at,
        step_at=canary.step_at,
        **dataclasses.asdict(canary.limits),
    )
