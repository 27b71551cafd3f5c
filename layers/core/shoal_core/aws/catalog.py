"""The catalog of datasets, runs and models, in one DynamoDB table.

```
pk               sk              what
DATASET#<name>   DATASET         the dataset: newest version, waiting for dataset.yaml or not
                 VERSION#<id>    one version: its run, samples, status
                 SCHEDULE        when its source is read again, and what asked for it
SOURCE#<id>      SOURCE          why a segment of a source couldn't be read (statemachines/source.asl.yaml)
RUN#<id>         RUN             one run: status, stage, settings, progress, outcome
                 STAGE#<name>    what a stage used: invocations, memory-time
                 ROUND#<n>       one round's loss and validation metrics
MODEL#<name>     MODEL           the model: numbers reserved, its aliases and who shares the traffic
                 CANARY          there while a canary is under way, so that it is found
                 VERSION#<n>     one version
                 RUN#<id>        the number reserved for a run: the guard against registering twice
```
Every write is conditional or idempotent, so that a repeated event changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shoal_core.aws.clock import now
from shoal_core.aws.model_catalog import ModelCatalog
from shoal_core.aws.stages import StageBook
from shoal_core.aws.table import document, update_arguments
from shoal_core.errors import NotFound

if TYPE_CHECKING:  # dozens of models that predict and authorize would build at every cold start and never use
    from shoal_core.registry.records import Source, VersionRun
    from shoal_core.training.requests import RunRequest

_STATUS = {"#status": "status"}


class Catalog(ModelCatalog):
    """Reads and writes the catalog. Raises `NotFound` and `Unavailable`."""

    # Datasets

    def dataset_waiting(self, dataset: str, note: str, order: str) -> None:
        """Note that a dataset has files that wait, unless a later upload has committed them; events may come late.

        `order` sorts by time of upload.
        """
        condition = "attribute_not_exists(committed_order) OR committed_order < :order"
        self._touch_dataset(dataset, "SET waiting = :note", {":note": note, ":order": order}, condition)

    def dataset_not_waiting(self, dataset: str, order: str) -> None:
        """Note that the upload at `order` has committed the dataset's files."""
        self._touch_dataset(dataset, "SET waiting = :note, committed_order = :order", {":note": "", ":order": order})

    def _touch_dataset(
        self, dataset: str, expression: str, values: Mapping[str, Any], condition: str | None = None
    ) -> None:
        self._table.update(
            f"DATASET#{dataset}",
            "DATASET",
            f"{expression}, kind = if_not_exists(kind, :kind), sort = if_not_exists(sort, :name), "
            "#name = if_not_exists(#name, :name), created_at = if_not_exists(created_at, :now)",
            {**values, ":kind": "DATASET", ":name": dataset, ":now": now()},
            condition=condition,
            names={"#name": "name"},
        )

    def begin_run(self, run_id: str, dataset: str, version: str, source: Sequence[Source], order: str) -> bool:
        """Record a new dataset version and its run; False when both were there: the same bytes again.

        `order` sorts by time of upload.
        """
        moment = now()
        run = _new_run(run_id, dataset, version, source, moment)
        entry: dict[str, Any] = {
            "pk": f"DATASET#{dataset}",
            "sk": f"VERSION#{version}",
            "version": version,
            "status": "preparing",
            "created_at": moment,
            "run_id": run_id,
            "attempt": 1,
            "upload_order": order,
        }
        return self._table.put_all_new([run, entry])

    def run_of_version(self, dataset: str, version: str) -> VersionRun:
        """The latest run of a dataset version. Raises `NotFound`."""
        # Only ingesting asks this; the other functions start faster without the record models.
        from shoal_core.registry.records import Source, VersionRun

        entry = self._table.get(f"DATASET#{dataset}", f"VERSION#{version}")
        run = self._table.get(f"RUN#{entry['run_id']}", "RUN") if entry else None
        if entry is None or run is None:
            raise NotFound(f"Dataset {dataset!r} has no version {version!r}.")
        return VersionRun(
            dataset=dataset,
            version=version,
            run_id=entry["run_id"],
            attempt=entry["attempt"],
            failed=run["status"] == "failed",
            source=tuple(Source.model_validate(source) for source in json.loads(run["source"])),
        )

    def begin_again(self, run_id: str, last: VersionRun, source: Sequence[Source]) -> bool:
        """Record a version's next run after its last one; False when another upload was first."""
        step = update_arguments(
            f"DATASET#{last.dataset}",
            f"VERSION#{last.version}",
            "SET run_id = :run_id, attempt = :attempt",
            {":run_id": run_id, ":attempt": last.attempt + 1, ":last": last.run_id},
            condition="run_id = :last",
        )
        return self._table.put_all_new([_new_run(run_id, last.dataset, last.version, source, now())], step)

    def latest_version(self, dataset: str) -> str | None:
        """The version of the newest upload, if there is one."""
        item = self._table.get(f"DATASET#{dataset}", "DATASET")
        return item.get("latest_version") if item else None

    def newest_version(self, dataset: str, version: str, order: str) -> None:
        """Point the dataset at `version`, unless one of a later upload is there. `order` sorts by time of upload."""
        self._touch_dataset(dataset, "SET waiting = if_not_exists(waiting, :none)", {":none": ""})
        self._table.update(
            f"DATASET#{dataset}",
            "DATASET",
            "SET latest_version = :version, latest_order = :order",
            {":version": version, ":order": order},
            condition="attribute_not_exists(latest_order) OR latest_order <= :order",
        )

    def dataset_committed(self, dataset: str, version: str, task: str, samples: Mapping[str, int]) -> None:
        """Record what a committed version holds."""
        self._table.update(
            f"DATASET#{dataset}",
            f"VERSION#{version}",
            "SET #status = :ready, task = :task, samples = :samples",
            {":ready": "ready", ":task": task, ":samples": document(dict(samples))},
            names=_STATUS,
        )

    def schedule_source(self, dataset: str, expression: str, due: str, task: str, order: str) -> None:
        """Note when a dataset's source is read next, unless a later dataset.yaml said something else."""
        self._table.update(
            f"DATASET#{dataset}",
            "SCHEDULE",
            "SET kind = :kind, sort = :due, schedule_expression = :expression, task = :task, schedule_order = :order",
            {":kind": "SCHEDULE", ":due": due, ":expression": expression, ":task": task, ":order": order},
            # The same event again leaves what has become due since.
            condition="attribute_not_exists(schedule_order) OR schedule_order < :order",
        )

    def unschedule_source(self, dataset: str, order: str) -> None:
        """End a dataset's schedule, if there is one and no later dataset.yaml said something else."""
        self._table.update(
            f"DATASET#{dataset}",
            "SCHEDULE",
            "SET schedule_order = :order REMOVE kind, sort",
            {":order": order},
            condition="attribute_exists(schedule_order) AND schedule_order < :order",
        )

    def scheduled_sources(self) -> list[dict[str, Any]]:
        """Every schedule: `sort` is when it is due."""
        return list(self._table.newest("SCHEDULE"))

    def schedule_advanced(self, dataset: str, due: str, next_due: str) -> None:
        """Note that what was due has been started."""
        self._table.update(
            f"DATASET#{dataset}",
            "SCHEDULE",
            "SET sort = :next",
            {":next": next_due, ":due": due},
            condition="sort = :due",
        )

    def previous_version(self, dataset: str, version: str) -> str | None:
        """The ready version that was uploaded last, but not after this one; None when there is none."""
        items = list(self._table.query(f"DATASET#{dataset}", "VERSION#"))
        order = next((item["upload_order"] for item in items if item["version"] == version), "")
        earlier = [
            (item["upload_order"], item["version"])
            for item in items
            if item["status"] == "ready" and item["version"] != version and item["upload_order"] <= order
        ]
        return max(earlier)[1] if earlier else None

    def dataset_items(self, dataset: str) -> list[dict[str, Any]]:
        """The dataset's record and its versions. Raises `NotFound`."""
        items = list(self._table.query(f"DATASET#{dataset}"))
        if not items:
            raise NotFound(f"Dataset {dataset!r} doesn't exist.", "See GET /datasets for those that do.")
        return items

    def dataset_names(self) -> list[str]:
        """Names of all datasets, in order."""
        return sorted(item["name"] for item in self._table.newest("DATASET"))

    # Runs

    def refuse_upload(self, run_id: str, dataset: str, source: Sequence[Source], error: str, message: str) -> None:
        """Record an upload that no run can be made of, as a failed run."""
        moment = now()
        run = _new_run(run_id, dataset, "", source, moment)
        failure = {"status": "failed", "error": error, "cause": message, "finished_at": moment}
        self._table.put_new({**run, "stage": "Ingest Upload", **failure})

    def begin_requested(self, run_id: str, request: RunRequest) -> bool:
        """Record a run by request; False when it is there: the same was asked for before."""
        run = _new_run(run_id, request.dataset, request.version, (), now())
        asked = request.model_dump(mode="json", include={"overrides", "network", "tuning"}, exclude_none=True)
        return self._table.put_new({**run, "stage": "Start Training", "request": document(asked)})

    def run_record(self, run_id: str) -> dict[str, Any]:
        """A run's own record, read consistently. Raises `NotFound`."""
        record = self._table.get(f"RUN#{run_id}", "RUN")
        if record is None:
            raise _no_run(run_id)
        return record

    def want_workers(self, run_id: str, workers: int) -> bool:
        """Note how many workers a run shall have from its next round on; False when it has ended."""
        return self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "SET workers_wanted = :workers",
            {":workers": workers, ":running": "running"},
            condition="#status = :running",
            names=_STATUS,
        )

    def workers_wanted(self, run_id: str) -> int | None:
        """How many workers a run shall have from its next round on; None when nobody has asked for others."""
        record = self._table.get(f"RUN#{run_id}", "RUN") or {}
        return record.get("workers_wanted")

    def stage_started(self, run_id: str, stage: str) -> None:
        """Show where a run is. A run that has ended keeps its last stage."""
        self.book(run_id).started(stage)

    def add_usage(self, run_id: str, stage: str, milliseconds: int, memory_mb: int) -> None:
        """Add one invocation to what a stage used. A repeated invocation is paid for, so it counts again."""
        self.book(run_id).used(stage, milliseconds, memory_mb)

    def book(self, run_id: str) -> StageBook:
        """The stages of a run."""
        return StageBook(self._table, f"RUN#{run_id}", "RUN")

    def shards_planned(self, run_id: str, total: int) -> None:
        """Record into how many work items a dataset was planned."""
        self._table.update(f"RUN#{run_id}", "RUN", "SET shards_total = :total", {":total": total})

    def shard_written(self, run_id: str, item: int) -> None:
        """Record a finished work item; the same one twice counts once."""
        self._table.update(f"RUN#{run_id}", "RUN", "ADD shards_done :item", {":item": {item}})

    def packs_planned(self, run_id: str, total: int) -> None:
        """Record into how many final shards a dataset's samples go."""
        self._table.update(f"RUN#{run_id}", "RUN", "SET packs_total = :total", {":total": total})

    def shard_packed(self, run_id: str, shard: int) -> None:
        """Record a finished final shard; the same one twice counts once."""
        self._table.update(f"RUN#{run_id}", "RUN", "ADD packs_done :shard", {":shard": {shard}})

    def settings_resolved(
        self, run_id: str, settings: Mapping[str, Any], inferred: Sequence[str], warnings: Sequence[str]
    ) -> None:
        """Record a run's settings and which of them Shoal chose."""
        self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "SET settings = :settings, inferred = :inferred, warnings = :warnings",
            {
                ":settings": document(dict(settings)),
                ":inferred": document(list(inferred)),
                ":warnings": document(list(warnings)),
            },
        )

    def round_merged(self, run_id: str, round_: int, summary: Mapping[str, Any]) -> None:
        """Record one round; the same one again writes the same."""
        self._table.update(
            f"RUN#{run_id}", f"ROUND#{round_:06d}", "SET summary = :summary", {":summary": document(dict(summary))}
        )
        self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "SET last_round = :round, last_summary = :summary",
            {":round": round_, ":summary": document(dict(summary))},
            condition="attribute_not_exists(last_round) OR last_round < :round",
        )

    def job_seen(self, run_id: str, job: str, usage: Mapping[str, Any]) -> None:
        """Record what a training job of a run has come to; the same again writes the same."""
        self._table.update(
            f"RUN#{run_id}", f"TRAINING_JOB#{job}", "SET usage_now = :usage", {":usage": document(dict(usage))}
        )

    def run_evaluated(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Record the metrics of the exported model on the test split."""
        self._table.update(f"RUN#{run_id}", "RUN", "SET evaluation = :metrics", {":metrics": document(dict(metrics))})

    def model_optimized(self, run_id: str, optimization: Mapping[str, Any]) -> None:
        """Record what the offline optimisation did and whether its model is the one that is served."""
        self._table.update(
            f"RUN#{run_id}", "RUN", "SET optimization = :outcome", {":outcome": document(dict(optimization))}
        )

    def run_succeeded(self, run_id: str, model: str, version: int) -> None:
        """End a run with the model version that it made."""
        moment = now()
        self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "SET #status = :status, model_name = :model, model_version = :version, "
            "finished_at = if_not_exists(finished_at, :now), updated_at = :now",
            {":status": "succeeded", ":model": model, ":version": version, ":now": moment},
            names=_STATUS,
        )

    def run_items(self, run_id: str, with_rounds: bool = True) -> list[dict[str, Any]]:
        """A run's record and stages, and its rounds, which may be hundreds. Raises `NotFound`."""
        # ROUND# sorts before RUN and STAGE#.
        items = list(self._table.query(f"RUN#{run_id}", "" if with_rounds else "RUN"))
        if not any(item["sk"] == "RUN" for item in items):
            raise _no_run(run_id)
        return items

    def run_ids(self, dataset: str | None = None, limit: int = 100) -> list[str]:
        """The newest runs first."""
        found = self._table.newest("RUN", None if dataset else limit)
        return [item["run_id"] for item in found if dataset in (None, item["dataset"])][:limit]


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"Run {run_id!r} doesn't exist.", "See GET /runs for those that do.")


def _new_run(run_id: str, dataset: str, version: str, source: Sequence[Source], moment: str) -> dict[str, Any]:
    return {
        "pk": f"RUN#{run_id}",
        "sk": "RUN",
        "kind": "RUN",
        "sort": f"{moment}#{run_id}",
        "run_id": run_id,
        "dataset": dataset,
        "version": version,
        "status": "running",
        "stage": "Plan Shards",
        "created_at": moment,
        "updated_at": moment,
        "source": document([entry.model_dump() for entry in source]),
    }
